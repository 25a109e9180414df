package main

import (
	"letterlock.org/letterlock/internal/config"
	"letterlock.org/letterlock/keydir"
)

// discoveryOf is whom the configuration lets the resolver ask.
func discoveryOf(c *config.Config) keydir.Discovery {
	d := c.Discovery
	return keydir.Discovery{Sources: d.Sources, Proxy: d.Proxy, Override: d.WKDOverride, VKS: d.VKS, HKP: d.HKP, Resolver: d.Resolver}
}
