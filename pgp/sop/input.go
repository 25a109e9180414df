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
	"unicode/utf8"

	"letterlock.org/letterlock/pgp"
)

// What a subcommand reads, it asks of its call, one after the other, and then looks
// at call.err once: after the first error nothing more is read, and what is
// returned is empty.

// needs notes a failure unless something holds.
func (k *call) needs(holds bool, code int, format string, args ...any) {
	if !holds {
		k.fail(failure(code, format, args...))
	}
}

// fail notes an error, if it is the first.
func (k *call) fail(err error) {
	if k.err == nil {
		k.err = err
	}
}

// stdin is standard input.
func (k *call) stdin() []byte {
	if k.err != nil {
		return nil
	}
	b, err := bounded(k.Stdin)
	k.fail(err)
	return b
}

// read reads an indirect input: a file, @ENV:NAME or @FD:NUMBER.
func (k *call) read(name string) []byte {
	if k.err != nil {
		return nil
	}
	b, err := indirect(name)
	k.fail(err)
	return b
}

func indirect(name string) ([]byte, error) {
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

func bounded(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxInput+1))
	if err == nil && int64(len(b)) > maxInput {
		err = failure(badData, "more than %d bytes", maxInput)
	}
	return b, err
}

// certificates reads files of certificates, each of which must have one.
func (k *call) certificates(names []string) (all []*pgp.Certificate) {
	for _, name := range names {
		b := k.read(name)
		if k.err != nil {
			return nil
		}
		certs, err := pgp.ParseCertificates(b)
		k.needs(len(certs) > 0, badData, "%s: no certificate: %v", name, err)
		all = append(all, certs...)
	}
	return all
}

// secrets reads files of secret keys, unlocked with --with-key-password.
func (k *call) secrets(names []string) (all []*pgp.Key) {
	passwords := k.passwords("with-key-password")
	for _, name := range names {
		b := k.read(name)
		if k.err != nil {
			return nil
		}
		keys, err := unlocked(b, passwords)
		if err != nil {
			k.fail(fmt.Errorf("%s: %w", name, err))
		}
		all = append(all, keys...)
	}
	return all
}

// unlock reads secret keys that stand in b.
func (k *call) unlock(b []byte, passwords [][]byte) []*pgp.Key {
	if k.err != nil {
		return nil
	}
	keys, err := unlocked(b, passwords)
	k.fail(err)
	return keys
}

// unlocked tries each password on the keys of a file. A password may have a line
// end that nobody meant.
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

// passwords are those that an option names.
func (k *call) passwords(option string) (all [][]byte) {
	for _, name := range k.options[option] {
		all = append(all, k.read(name))
	}
	return all
}

// newPassword is one that a key is to be locked with; nil for none.
func (k *call) newPassword(option string) []byte {
	all := k.passwords(option)
	if len(all) == 0 {
		return nil
	}
	p := bytes.TrimRight(all[len(all)-1], " \t\r\n")
	k.needs(utf8.Valid(p), passwordNotReadable, "the password is not UTF-8")
	return p
}

// asText reads --as and checks that text is some.
func (k *call) asText(data []byte) bool {
	switch as := k.one("as", "binary"); as {
	case "binary":
		return false
	case "text", "clearsigned":
		k.needs(utf8.Valid(data), expectedText, "the text is not UTF-8")
		return true
	default:
		k.needs(false, unsupportedOption, "--as=%s", as)
		return false
	}
}
