package store

import (
	"github.com/ncruces/go-sqlite3/vfs"
	"lukechampine.com/adiantum"
)

// NewLogFile enciphers the log in file.
func NewLogFile(file vfs.File, key [32]byte) vfs.File {
	return &logFile{File: file, cipher: adiantum.New(key[:])}
}
