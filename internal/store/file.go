package store

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/ncruces/go-sqlite3"
	"lukechampine.com/adiantum"
)

// pageSize is SQLite's page and adiantum's block, in bytes.
const pageSize = 4096

// prepareFile makes sure that a store of our key is at path: it makes one where
// nothing is, and otherwise checks the key before SQLite sees the file.
func (s *sqlite) prepareFile() error {
	_, err := os.Lstat(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return s.create()
	}
	if err != nil {
		return err
	}
	return s.checkKey()
}

// create makes an empty store under another name first, so that what bears the
// store's name is always whole.
func (s *sqlite) create() error {
	if err := os.MkdirAll(filepath.Dir(s.path), 0o700); err != nil {
		return err
	}
	fresh := s.path + ".new"
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		if err := os.Remove(fresh + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		// A log that lost its store must not become the log of a new one.
		if _, err := os.Lstat(s.path + suffix); err == nil {
			return fmt.Errorf("%s%s is left of a store that is gone; move it away first", s.path, suffix)
		}
	}
	f, err := os.OpenFile(fresh, os.O_RDWR|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	c, err := s.connect(fresh, false)
	if err != nil {
		return err
	}
	err = c.exec("PRAGMA journal_mode=wal")
	if err == nil {
		err = s.writeHeader(c)
	}
	if err := errors.Join(err, c.close()); err != nil { // closing moves the log into the file
		return err
	}
	if _, err := os.Lstat(fresh + "-wal"); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s-wal was not moved into its store: %w", fresh, sqlite3.IOERR)
	}
	if err := os.Rename(fresh, s.path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(s.path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// checkKey tells whether our key decrypts the first page of the file, or the
// header of its log where a crash tore that page. It must come before SQLite
// opens the file: under a wrong key SQLite takes a log for empty and deletes it.
func (s *sqlite) checkKey() error {
	page, err := firstBytes(s.path, s.page[:], pageSize)
	if err != nil {
		return err
	}
	ok := strings.HasPrefix(string(page), "SQLite format 3\x00")
	header, err := firstBytes(s.path+"-wal", s.log[:], logHeader)
	if err == nil && !isLog(header) {
		// Until November 2026 the log was enciphered as the file is.
		if old, err := firstBytes(s.path+"-wal", s.page[:], pageSize); err == nil && isLog(old) {
			return s.moveOldLog()
		}
	}
	switch {
	case ok, err == nil && isLog(header):
		return nil
	case len(page) == 0:
		return errors.New("the file is there and is not a store; move it away first")
	}
	return ErrKey
}

// isLog: https://sqlite.org/fileformat2.html#walformat: the magic number.
func isLog(b []byte) bool { return len(b) > 4 && binary.BigEndian.Uint32(b)&^1 == 0x377f0682 }

// moveOldLog moves a log that adiantum's own layer wrote into the file.
func (s *sqlite) moveOldLog() error {
	c, err := s.connectThrough("adiantum", s.path, false)
	if err != nil {
		return err
	}
	err = c.exec("PRAGMA wal_checkpoint(TRUNCATE)")
	if err := errors.Join(err, c.close()); err != nil { // closing removes the log
		return fmt.Errorf("moving the log into its store: %w", err)
	}
	if info, err := os.Lstat(s.path + "-wal"); err == nil && info.Size() > 0 {
		return fmt.Errorf("%s-wal was not moved into its store", s.path)
	}
	return nil
}

// firstBytes decrypts the first n bytes of a file; nil where it is shorter.
func firstBytes(path string, key []byte, n int) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, n)
	_, err = io.ReadFull(f, b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return adiantum.New(key).Decrypt(b, make([]byte, 8)), nil // tweak: its offset
}

// ownerOnly takes the permissions of others away from the store's files.
func ownerOnly(path string) error {
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Chmod(path+suffix, 0o600); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// headerPurpose is what the header row's MAC is for.
const headerPurpose = "store/header v1"

// writeHeader makes the tables of our own.
func (s *sqlite) writeHeader(c *conn) error {
	if err := c.exec(`BEGIN;
		CREATE TABLE store_header (id INTEGER PRIMARY KEY, nonce BLOB NOT NULL, mac BLOB NOT NULL);
		CREATE TABLE store_schema (name TEXT NOT NULL, step INTEGER NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (name, step));`); err != nil {
		return err
	}
	nonce := make([]byte, 16)
	rand.Read(nonce)
	t := &tx{c: c, ctx: background}
	if _, err := t.Exec("INSERT INTO store_header (id, nonce, mac) VALUES (1, ?, ?)", nonce, s.MAC(headerPurpose, nonce)); err != nil {
		return err
	}
	return c.exec("COMMIT")
}

// checkHeader tells whether the file is a store of our key.
func (s *sqlite) checkHeader(c *conn) error {
	var nonce, mac []byte
	t := &tx{c: c, ctx: background}
	err := t.Row("SELECT nonce, mac FROM store_header WHERE id = 1", nil, &nonce, &mac)
	switch {
	case errors.Is(err, sqlite3.NOTADB):
		return ErrKey
	case err != nil:
		return fmt.Errorf("the file is no store, or damaged: %w", err)
	case Verify(s, mac, headerPurpose, nonce) != nil:
		return ErrKey
	}
	return nil
}

// memoryDir makes a directory that is in memory where the system has a place
// for that.
func memoryDir() (string, error) {
	if dir, err := os.MkdirTemp("/dev/shm", "letterlock-"); err == nil {
		return dir, nil
	}
	return os.MkdirTemp("", "letterlock-")
}

func randomKey() (key [32]byte) {
	rand.Read(key[:])
	return key
}
