package config

import _ "embed"

// Description is the commented defaults, as config describe prints them.
//
//go:embed describe.toml
var Description string
