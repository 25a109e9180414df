package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"letterlock.org/letterlock/internal/address"
)

// Export writes what the handler answers for domains as a static tree, to be
// the document root of a web server:
//
//	DIR/.well-known/openpgpkey/DOMAIN/policy, …/submission-address
//	DIR/.well-known/openpgpkey/DOMAIN/hu/HASH
//
// and, of one domain only, also without DOMAIN, for the direct method. Files of
// withdrawn certificates are removed; other files stay. The web server must give
// hu/ the type application/octet-stream. It returns the number of certificates.
func (d *Directory) Export(ctx context.Context, dir string, domains ...string) (int, error) {
	if err := d.Refresh(ctx); err != nil {
		return 0, fmt.Errorf("exporting: %w", err)
	}
	if _, err := d.unread(); err != nil {
		return 0, fmt.Errorf("exporting: %w", err)
	}
	top := filepath.Join(dir, ".well-known", "openpgpkey")
	t := tree{}
	for _, domain := range domains {
		domain, err := address.Domain(domain)
		if err != nil {
			return 0, fmt.Errorf("exporting: %w", err)
		}
		k, _ := d.key(domain, hash{})
		t[k.domain] = append(t[k.domain], filepath.Join(top, domain))
		if len(domains) == 1 {
			t[k.domain] = append(t[k.domain], top)
		}
	}
	n, err := t.write(ctx, d)
	if err != nil {
		return n, fmt.Errorf("exporting: %w", err)
	}
	return n, nil
}

// tree is the folders of each domain, by its number: 0 where nothing is published.
type tree map[uint32][]string

func (t tree) write(ctx context.Context, d *Directory) (n int, err error) {
	files := d.wellKnown(ctx)
	for _, dirs := range t {
		for _, dir := range dirs {
			if err := os.MkdirAll(filepath.Join(dir, "hu"), 0o755); err != nil {
				return 0, err
			}
			for name, content := range files {
				if err := replaceFile(filepath.Join(dir, name), []byte(content)); err != nil {
					return 0, err
				}
			}
		}
	}
	err = d.table.each(func(k entryKey, body []byte) error {
		for i, dir := range t[k.domain] {
			if i == 0 {
				n++
			}
			if err := replaceFile(filepath.Join(dir, "hu", encoding.EncodeToString(k.hash[:])), body); err != nil {
				return err
			}
		}
		return ctx.Err()
	})
	for number, dirs := range t {
		for _, dir := range dirs {
			err = errors.Join(err, d.sweep(number, filepath.Join(dir, "hu")))
		}
	}
	return n, err
}

// sweep removes the files of what is not published any more.
func (d *Directory) sweep(number uint32, hu string) error {
	entries, err := os.ReadDir(hu)
	if err != nil {
		return err
	}
	for _, e := range entries {
		h, ok := hashOf(e.Name())
		if ok && e.Type().IsRegular() && !d.table.has(entryKey{number, h}) {
			if err := os.Remove(filepath.Join(hu, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// replaceFile writes a file that is at any time the old one or the new one.
func replaceFile(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".letterlock-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // is gone already if all went well
	_, err = f.Write(content)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
