package sop

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"letterlock.org/letterlock/pgp"
)

// out writes to standard output as it is.
func (k *call) out(b []byte) error {
	_, err := k.Stdout.Write(b)
	return err
}

// put writes OpenPGP data to standard output, armored unless --no-armor.
func (k *call) put(b []byte) error {
	if !k.has("no-armor") {
		text, err := pgp.ArmorData(b)
		if err != nil {
			return err
		}
		b = []byte(text)
	}
	return k.out(b)
}

// also writes what an option names an output for, if it is given.
func (k *call) also(option string, b []byte) error {
	if !k.has(option) {
		return nil
	}
	return output(k.one(option, ""), b)
}

// output writes an indirect output, which must not exist yet, or @FD:NUMBER.
func output(name string, b []byte) error {
	var f *os.File
	var err error
	switch {
	case strings.HasPrefix(name, "@FD:"):
		n, atoi := strconv.Atoi(name[4:])
		if atoi != nil {
			return failure(missingInput, "%s is no file descriptor", name)
		}
		f = os.NewFile(uintptr(n), name)
	case strings.HasPrefix(name, "@"):
		return failure(unsupportedPrefix, "%s: there is @FD:", name)
	default:
		f, err = os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if errors.Is(err, fs.ErrExist) {
		return failure(outputExists, "%s exists", name)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}
