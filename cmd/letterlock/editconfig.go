package main

import (
	"errors"
	"os"
	"path/filepath"

	"letterlock.org/letterlock/internal/config"
	"letterlock.org/letterlock/internal/wholefile"
)

// editConfig changes a configuration file and tells whether it did. change gives all
// that it is to hold, "" to leave it as it is, and a key file that belongs to it, "" for
// none; old is what it holds, nil for no file. change is asked again where somebody else
// wrote the file meanwhile.
func editConfig(e *env, file string, change func(old []byte) (text, keyFile string, err error)) (bool, error) {
	for {
		old, err := config.Read(file)
		if err != nil && !errors.Is(err, config.ErrNoFile) {
			return false, err
		}
		text, keyFile, err := change(old)
		if err != nil || text == "" {
			return false, err
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return false, err
		}
		if keyFile != "" {
			if err := makeKeyFile(keyFile); err != nil {
				return false, err
			}
		}
		err = wholefile.Swap(file, old, []byte(text), 0o600)
		if errors.Is(err, wholefile.ErrChanged) {
			continue
		}
		if err == nil {
			e.printf("Wrote %s.\n", file)
		}
		return err == nil, err
	}
}
