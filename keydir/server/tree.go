package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

// Export writes what the handler answers for domains as a static tree, to be
// the document root of a web server:
//
//	DIR/.well-known/openpgpkey/DOMAIN/policy
//	DIR/.well-known/openpgpkey/DOMAIN/hu/HASH
//
// and, of one domain only, also without DOMAIN, for the direct method. Files of
// withdrawn certificates are removed; other files stay. The web server must give
// hu/ the type application/octet-stream. It returns the number of certificates.
func (d *Directory) Export(ctx context.Context, dir string, domains ...string) (int, error) {
	snap, err := d.snapshot(ctx)
	if err != nil {
		return 0, err
	}
	if len(snap.skipped) > 0 {
		return 0, fmt.Errorf("exporting: %w", snap.skipped[0])
	}
	n := 0
	for _, domain := range domains {
		domain, err := address.Domain(domain)
		if err != nil {
			return n, fmt.Errorf("exporting: %w", err)
		}
		top := filepath.Join(dir, ".well-known", "openpgpkey")
		tops := []string{filepath.Join(top, domain)}
		if len(domains) == 1 {
			tops = append(tops, top)
		}
		for _, t := range tops {
			if err := exportDomain(t, snap.domains[domain]); err != nil {
				return n, fmt.Errorf("exporting %s: %w", domain, err)
			}
		}
		n += len(snap.domains[domain])
	}
	return n, nil
}

func exportDomain(dir string, answers map[hash]*answer) error {
	hu := filepath.Join(dir, "hu")
	if err := os.MkdirAll(hu, 0o755); err != nil {
		return err
	}
	if err := replaceFile(filepath.Join(dir, "policy"), []byte(policyFile)); err != nil {
		return err
	}
	for h, a := range answers {
		if err := replaceFile(filepath.Join(hu, encoding.EncodeToString(h[:])), a.body); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(hu)
	if err != nil {
		return err
	}
	for _, e := range entries {
		h, ok := hashOf(e.Name())
		if ok && answers[h] == nil && e.Type().IsRegular() {
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

// Skipped is a file, or a certificate in it, that Import left out.
type Skipped struct {
	Path string // below the directory
	Err  error
}

// maxImport bounds the files of one Import.
const maxImport = 200_000

// Import publishes the certificates of a directory: files of a Web Key Directory
// tree (named by hash, as Export and gpg-wks-client write them) for the address
// that fits their name, and files *.asc, *.gpg, *.pgp, *.key for every address
// that they name. Where domains are given, only addresses of these count. All of
// it is published, or on an error nothing; what cannot be published is skipped.
func (d *Directory) Import(ctx context.Context, dir string, domains ...string) (added []address.Address, skipped []Skipped, err error) {
	var rows []row
	files := 0
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		_, byHash := hashOf(e.Name())
		if !byHash && !slices.Contains([]string{".asc", ".gpg", ".pgp", ".key"}, filepath.Ext(e.Name())) {
			return nil
		}
		if files++; files > maxImport {
			return fmt.Errorf("more than %d files", maxImport)
		}
		got, err := d.importFile(path, e.Name(), byHash, domains)
		if err != nil {
			skipped = append(skipped, Skipped{rel, err})
		}
		rows = append(rows, got...)
		return ctx.Err()
	})
	if err != nil {
		return nil, nil, fmt.Errorf("importing %s: %w", dir, err)
	}
	d.write.Lock()
	defer d.write.Unlock()
	err = d.store.Update(ctx, func(tx store.Tx) error {
		for _, r := range rows {
			if err := r.write(tx, d.store); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("importing %s: %w", dir, err)
	}
	d.forget()
	for _, r := range rows {
		if a, err := address.Parse(r.spelling); err == nil {
			added = append(added, a)
		}
	}
	return added, skipped, nil
}

// importFile makes the rows of one file.
func (d *Directory) importFile(path, name string, byHash bool, domains []string) (rows []row, err error) {
	b, err := readFile(path, 2*MaxCertificate) // armor is longer by a third
	if err != nil {
		return nil, err
	}
	certs, errs := pgp.ParseCertificates(b)
	for _, c := range certs {
		for _, a := range addressesOf(c) {
			inDomain := len(domains) == 0 || slices.ContainsFunc(domains, func(d string) bool {
				n, err := address.Domain(d)
				return err == nil && n == a.Domain
			})
			if !inDomain || byHash && keydir.WKDHash(a.Local) != name {
				continue
			}
			r, err := d.row(a, c)
			if err != nil {
				errs = errors.Join(errs, err)
				continue
			}
			rows = append(rows, r)
		}
	}
	if len(rows) == 0 && errs == nil {
		errs = ErrUserID
	}
	return rows, errs
}

func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = ErrTooLarge
	}
	return b, err
}

// addressesOf are the addresses that valid user IDs of c name.
func addressesOf(c *pgp.Certificate) []address.Address {
	var all []address.Address
	for _, id := range c.UserIDs() {
		spec := id
		if i := strings.LastIndexByte(id, '<'); i >= 0 && strings.HasSuffix(id, ">") {
			spec = id[i+1 : len(id)-1]
		}
		a, err := address.Parse(spec)
		if err == nil && c.Has(a) && !slices.ContainsFunc(all, a.Equal) {
			all = append(all, a)
		}
	}
	return all
}
