package store

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/ncruces/go-sqlite3/util/vfsutil"
	"github.com/ncruces/go-sqlite3/vfs"
	"lukechampine.com/adiantum"
	"lukechampine.com/adiantum/hbsh"
)

// https://sqlite.org/fileformat2.html#walformat: the log is a header and
// frames, each a header and a page.
const (
	logHeader   = 32
	frameHeader = 24
	frameSize   = frameHeader + pageSize
)

// logVFS is adiantum's file layer, except that the write-ahead log is enciphered
// frame by frame. Adiantum's own blocks of 4096 bytes lie across the frames, so
// that each write there reads, deciphers, enciphers and writes two, and touches
// bytes that were synced for an earlier commit. Adiantum enciphers any length:
// with the frame as the block a write touches nothing but itself.
type logVFS struct {
	vfs.VFS
	system vfs.VFS // beneath the log
	key    [32]byte
	moved  *moved
}

var vfsCount atomic.Int64

// system are the files of the operating system.
var system = vfs.Find("")

// registerVFS makes a file layer for one store; SQLite finds it by its name.
func registerVFS(logKey [32]byte) (name string, m *moved) {
	name, m = fmt.Sprintf("letterlock-%d", vfsCount.Add(1)), &moved{}
	vfs.Register(name, &logVFS{vfs.Find("adiantum"), system, logKey, m})
	return name, m
}

// OpenFilename implements [vfs.VFSFilename].
func (v *logVFS) OpenFilename(name *vfs.Filename, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	if flags&vfs.OPEN_WAL != 0 {
		file, flags, err := vfsutil.WrapOpenFilename(v.system, name, flags)
		if err != nil {
			return nil, flags, err
		}
		return &logFile{File: file, cipher: adiantum.New(v.key[:])}, flags, nil
	}
	file, flags, err := vfsutil.WrapOpenFilename(v.VFS, name, flags)
	if f, ok := file.(databaseFile); ok && err == nil && flags&vfs.OPEN_MAIN_DB != 0 {
		file = &mainFile{f, v.moved}
	}
	return file, flags, err
}

// logFile enciphers the log's header and each of its frames as one block; the
// offset is the tweak. Offsets and lengths are those of SQLite.
//
// SQLite writes a frame as its header and then its page. The header waits in
// head for the page, within one call of SQLite's: no reader is told of a frame
// before its page is written. Everything else is written when WriteAt returns.
type logFile struct {
	vfs.File
	cipher *hbsh.HBSH
	tweak  [8]byte
	block  [frameSize]byte
	head   []byte // what waits, nil if nothing does
	at     int64  // where it belongs: the beginning of a block
	held   [frameHeader]byte
}

// blockOf gives the block that the byte at off lies in.
func blockOf(off int64) (start, size int64) {
	if off < logHeader {
		return 0, logHeader
	}
	return off - (off-logHeader)%frameSize, frameSize
}

func (f *logFile) setTweak(start int64) []byte {
	binary.LittleEndian.PutUint64(f.tweak[:], uint64(start))
	return f.tweak[:]
}

// load deciphers a block into f.block; io.EOF where the file ends before its end.
func (f *logFile) load(start, size int64) ([]byte, error) {
	b := f.block[:size]
	n, err := f.File.ReadAt(b, start)
	if n < len(b) {
		if err == nil {
			err = io.EOF
		}
		return nil, err
	}
	return f.cipher.Decrypt(b, f.setTweak(start)), nil
}

// save enciphers b, which lies in f.block, and writes it.
func (f *logFile) save(b []byte, start int64) error {
	_, err := f.File.WriteAt(f.cipher.Encrypt(b, f.setTweak(start)), start)
	return err
}

// ReadAt implements [io.ReaderAt]. A block that was not written whole can't be
// deciphered; the file ends before it.
func (f *logFile) ReadAt(p []byte, off int64) (n int, err error) {
	if err := f.flush(); err != nil {
		return 0, err
	}
	for n < len(p) {
		start, size := blockOf(off)
		b, err := f.load(start, size)
		if err != nil {
			return n, err
		}
		k := copy(p[n:], b[off-start:])
		n += k
		off += int64(k)
	}
	return n, nil
}

// WriteAt implements [io.WriterAt].
func (f *logFile) WriteAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		start, size := blockOf(off)
		part := p[n:min(int64(len(p)), int64(n)+start+size-off)]
		if err := f.write(part, off, start, size); err != nil {
			return n, err
		}
		n += len(part)
		off += int64(len(part))
	}
	return n, nil
}

// write writes a part of the block at start.
func (f *logFile) write(part []byte, off, start, size int64) error {
	whole := f.block[:size]
	switch {
	case f.head != nil && f.at == start && off == start+frameHeader && len(part) == pageSize:
		copy(whole, f.head)
		f.head = nil
	case int64(len(part)) == size:
		if f.at == start {
			f.head = nil // overwritten
		}
	case off == start && len(part) == frameHeader && size == frameSize:
		if err := f.flush(); err != nil {
			return err
		}
		f.head, f.at = f.held[:], start
		copy(f.head, part)
		return nil
	default:
		if err := f.flush(); err != nil {
			return err
		}
		if _, err := f.load(start, size); err == io.EOF {
			clear(whole)
		} else if err != nil {
			return err
		}
	}
	copy(whole[off-start:], part)
	return f.save(whole, start)
}

// flush writes a header that waits, with the page that is there.
func (f *logFile) flush() error {
	if f.head == nil {
		return nil
	}
	b, err := f.load(f.at, frameSize)
	if err == io.EOF {
		b = f.block[:]
		clear(b)
	} else if err != nil {
		return err
	}
	copy(b, f.head)
	f.head = nil
	return f.save(b, f.at)
}

// Sync implements [vfs.File].
func (f *logFile) Sync(flags vfs.SyncFlag) error {
	if err := f.flush(); err != nil {
		return err
	}
	return f.File.Sync(flags)
}

// Size implements [vfs.File].
func (f *logFile) Size() (int64, error) {
	if err := f.flush(); err != nil {
		return 0, err
	}
	return f.File.Size()
}

// Truncate implements [vfs.File]; the block that size lies in stays whole.
func (f *logFile) Truncate(size int64) error {
	f.head = nil
	if start, n := blockOf(size); size > start {
		size = start + n
	}
	return f.File.Truncate(size)
}
