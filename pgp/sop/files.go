package sop

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"letterlock.org/letterlock/pgp"
)

// read reads an indirect input: a file, @ENV:NAME or @FD:NUMBER.
func (k *call) read(name string) ([]byte, error) {
	switch {
	case strings.HasPrefix(name, "@ENV:"):
		v, ok := os.LookupEnv(name[5:])
		if !ok {
			return nil, failure(missingInput, "%s is not set", name)
		}
		return []byte(v), nil
	case strings.HasPrefix(name, "@FD:"):
		n, err := strconv.Atoi(name[4:])
		if err != nil {
			return nil, failure(missingInput, "%s is no file descriptor", name)
		}
		f := os.NewFile(uintptr(n), name)
		if f == nil {
			return nil, failure(missingInput, "%s is no file descriptor", name)
		}
		defer f.Close()
		return bounded(f)
	case strings.HasPrefix(name, "@"):
		return nil, failure(unsupportedPrefix, "%s: there are @ENV: and @FD:", name)
	}
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, failure(missingInput, "there is no file %s", name)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return bounded(f)
}

func (k *call) stdin() ([]byte, error) { return bounded(k.Stdin) }

func bounded(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxInput+1))
	if err == nil && int64(len(b)) > maxInput {
		err = failure(badData, "more than %d bytes", maxInput)
	}
	return b, err
}

// output writes an indirect output, which must not exist yet, or @FD:NUMBER.
func (k *call) output(name string, b []byte) error {
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

// put writes OpenPGP data to standard output, armored unless --no-armor.
func (k *call) put(b []byte) error {
	if !k.has("no-armor") {
		text, err := pgp.ArmorData(b)
		if err != nil {
			return err
		}
		b = []byte(text)
	}
	_, err := k.Stdout.Write(b)
	return err
}

// secrets reads secret keys, unlocked with the passwords that were given. A
// password may have a line end that nobody meant.
func (k *call) secrets(names []string) ([]*pgp.Key, error) {
	passwords, err := k.passwords("with-key-password")
	if err != nil {
		return nil, err
	}
	var all []*pgp.Key
	for _, name := range names {
		b, err := k.read(name)
		if err != nil {
			return nil, err
		}
		keys, err := unlocked(b, passwords)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, keys...)
	}
	return all, nil
}

// unlocked tries each password on the keys of a file.
func unlocked(b []byte, passwords [][]byte) ([]*pgp.Key, error) {
	keys, err := pgp.ParseKeys(b, nil)
	for _, p := range passwords {
		for _, try := range [][]byte{p, bytes.TrimRight(p, " \t\r\n")} {
			if !errors.Is(err, pgp.ErrLocked) {
				break
			}
			keys, err = pgp.ParseKeys(b, func(*pgp.Certificate) ([]byte, error) { return try, nil })
		}
	}
	if errors.Is(err, pgp.ErrNoSecret) {
		err = failure(badData, "no secret key")
	}
	return keys, err
}

func (k *call) passwords(option string) (all [][]byte, err error) {
	for _, name := range k.options[option] {
		b, err := k.read(name)
		if err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	return all, nil
}

// newPassword is one that a key is to be locked with; nil for none.
func (k *call) newPassword(option string) ([]byte, error) {
	all, err := k.passwords(option)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	p := bytes.TrimRight(all[len(all)-1], " \t\r\n")
	if !utf8.Valid(p) {
		return nil, failure(passwordNotReadable, "the password is not UTF-8")
	}
	return p, nil
}

func (k *call) certificates(names []string) (all []*pgp.Certificate, err error) {
	for _, name := range names {
		b, err := k.read(name)
		if err != nil {
			return nil, err
		}
		certs, err := pgp.ParseCertificates(b)
		if len(certs) == 0 {
			return nil, failure(badData, "%s: no certificate: %v", name, err)
		}
		all = append(all, certs...)
	}
	return all, nil
}

// span is what --not-before and --not-after allow.
type span struct{ from, to time.Time }

func (k *call) span(before, after string) (s span, err error) {
	read := func(option string) (time.Time, error) {
		switch v := k.one(option, "-"); v {
		case "-":
			return time.Time{}, nil
		case "now":
			return k.Now(), nil
		default:
			t, err := time.Parse(time.RFC3339, v)
			if err != nil {
				err = failure(unsupportedOption, "--%s=%s is no date", option, v)
			}
			return t, err
		}
	}
	if s.from, err = read(before); err != nil {
		return s, err
	}
	if s.to, err = read(after); err == nil && s.to.IsZero() {
		s.to = k.Now()
	}
	return s, err
}

// within leaves what was made in the span, and tells of each in a line (Section
// 5.9 of the draft).
func (s span) within(good []pgp.Verification) (lines []byte) {
	for _, v := range good {
		if v.Made.Before(s.from.Truncate(time.Second)) || v.Made.After(s.to) {
			continue
		}
		mode := "binary"
		if v.Text {
			mode = "text"
		}
		lines = fmt.Appendf(lines, "%s %s %s mode:%s\n", v.Made.UTC().Format("2006-01-02T15:04:05Z"), v.Signing, v.Primary, mode)
	}
	return lines
}
