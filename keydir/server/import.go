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
	"sync"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/processors"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

// Skipped is a file, or a certificate in it, that Import left out.
type Skipped struct {
	Path string // below the directory
	Err  error
}

// importRows is how many rows an Import writes in one transaction.
const importRows = 2000

// Import publishes the certificates of a directory: files of a Web Key Directory
// tree (named by hash, as Export and gpg-wks-client write them) for the address
// that fits their name, and files *.asc, *.gpg, *.pgp, *.key for every address
// that they name. Where domains are given, only addresses of these count. What
// cannot be published is skipped. It writes [importRows] rows at a time: after an
// error, what was written before it is published.
func (d *Directory) Import(ctx context.Context, dir string, domains ...string) (added []address.Address, skipped []Skipped, err error) {
	if domains, err = foldDomains(domains); err != nil {
		return nil, nil, fmt.Errorf("importing %s: %w", dir, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	files := make(chan importFile, 16)
	read := make(chan importedFile, 16)
	var walk error
	go func() {
		defer close(files)
		walk = walkImport(ctx, dir, files)
	}()
	var workers sync.WaitGroup
	for range processors.Count() {
		workers.Go(func() {
			for f := range files {
				rows, err := d.importFile(f, domains)
				read <- importedFile{f.rel, rows, err}
			}
		})
	}
	go func() {
		workers.Wait()
		close(read)
	}()
	var rows []row
	write := func() {
		if err == nil {
			err = d.change(ctx, rows...)
		}
		if err != nil {
			cancel()
			return
		}
		for _, r := range rows {
			added = append(added, r.names)
		}
		rows = rows[:0]
	}
	for f := range read {
		if f.err != nil {
			skipped = append(skipped, Skipped{f.rel, f.err})
		}
		if rows = append(rows, f.rows...); len(rows) >= importRows {
			write()
		}
	}
	if err == nil {
		err = walk
	}
	if err == nil && len(rows) > 0 {
		write()
	}
	if err != nil {
		return added, skipped, fmt.Errorf("importing %s: %w", dir, err)
	}
	return added, skipped, nil
}

// importFile is a file that may have certificates; importedFile what it had.
type (
	importFile struct {
		path, rel string
		byHash    string // the name, where it is that of a Web Key Directory
	}
	importedFile struct {
		rel  string
		rows []row
		err  error
	}
)

func walkImport(ctx context.Context, dir string, files chan<- importFile) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		f := importFile{path: path}
		f.rel, _ = filepath.Rel(dir, path)
		if _, ok := hashOf(e.Name()); ok {
			f.byHash = e.Name()
		} else if !slices.Contains([]string{".asc", ".gpg", ".pgp", ".key"}, filepath.Ext(e.Name())) {
			return nil
		}
		select {
		case files <- f:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
}

func foldDomains(domains []string) (folded []string, err error) {
	for _, d := range domains {
		f, err := address.Domain(d)
		if err != nil {
			return nil, err
		}
		folded = append(folded, f)
	}
	return folded, nil
}

// importFile makes the rows of one file.
func (d *Directory) importFile(f importFile, domains []string) (rows []row, err error) {
	b, err := readFile(f.path, 2*MaxCertificate) // armor is longer by a third
	if err != nil {
		return nil, err
	}
	certs, errs := pgp.ParseCertificates(b)
	for _, c := range certs {
		for _, a := range addressesOf(c) {
			inDomain := len(domains) == 0 || slices.Contains(domains, a.Domain)
			if !inDomain || f.byHash != "" && keydir.WKDHash(a.Local) != f.byHash {
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
