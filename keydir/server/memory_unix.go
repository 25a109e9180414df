//go:build unix

package server

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// mapMemory gives n bytes that Go's garbage collector doesn't know.
func mapMemory(n int) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("memory for certificates: %w", err)
	}
	return b, nil
}

func unmapMemory(b []byte) { _ = unix.Munmap(b) }
