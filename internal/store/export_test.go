package store

import (
	"crypto/tls"

	"github.com/ncruces/go-sqlite3/vfs"
	layer "github.com/ncruces/go-sqlite3/vfs/adiantum"
	"lukechampine.com/adiantum"
)

// NewLogFile enciphers the log in file.
func NewLogFile(file vfs.File, key [32]byte) vfs.File {
	return &logFile{File: file, cipher: adiantum.New(key[:])}
}

// PostgresTLS is how connections to a URL are protected, nil if they aren't; ok
// is false where some are and some aren't.
func PostgresTLS(url string) (c *tls.Config, ok bool, err error) {
	config, _, err := postgresConfig(url)
	if err != nil {
		return nil, false, err
	}
	for _, f := range config.Fallbacks {
		if (f.TLSConfig == nil) != (config.TLSConfig == nil) {
			return nil, false, nil
		}
	}
	return config.TLSConfig, true, nil
}

// SetSystem puts a file layer in place of the operating system's files, beneath
// stores that are opened from then on.
func SetSystem(v vfs.VFS) (restore func()) {
	pages := vfs.Find("adiantum")
	system = v
	vfs.Register("adiantum", layer.Wrap(v, nil))
	return func() {
		system = vfs.Find("")
		vfs.Register("adiantum", pages)
	}
}
