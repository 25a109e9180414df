package store_test

import (
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"

	"github.com/ncruces/go-sqlite3/util/vfsutil"
	"github.com/ncruces/go-sqlite3/vfs"
)

// diskPage is what a disk keeps or loses whole, in bytes.
const diskPage = 4096

// disk is the operating system's files, of which it knows what would be left after
// a loss of power: what was synced. Some syncs fail, and then it does as Linux
// does: the pages that could not be written count as written from then on, and only
// who writes them anew gets them to the disk.
type disk struct {
	vfs.VFS

	mu    sync.Mutex // guards what follows
	fails func(path string) bool
	rand  *rand.Rand // which pages a failed sync has written after all
	files map[string]*diskFile
	count int // syncs that failed
}

// diskFile is one file, however often it is open.
type diskFile struct {
	left  []byte         // after a loss of power
	dirty map[int64]bool // pages that were written since
}

func newDisk(seed uint64) *disk {
	return &disk{VFS: vfs.Find(""), rand: rand.New(rand.NewPCG(seed, 1)), files: map[string]*diskFile{}}
}

// failWhere has syncs fail; nil lets all go well.
func (d *disk) failWhere(fails func(path string) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fails = fails
}

func (d *disk) failed() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.count
}

// OpenFilename implements [vfs.VFSFilename].
func (d *disk) OpenFilename(name *vfs.Filename, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	file, flags, err := vfsutil.WrapOpenFilename(d.VFS, name, flags)
	if err != nil || flags&(vfs.OPEN_MAIN_DB|vfs.OPEN_WAL) == 0 {
		return file, flags, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	path := name.String()
	if d.files[path] == nil {
		left, err := os.ReadFile(path)
		if err != nil {
			return nil, flags, err
		}
		d.files[path] = &diskFile{left, map[int64]bool{}}
	}
	return &openFile{file, d, path, d.files[path]}, flags, nil
}

// Delete implements [vfs.VFS].
func (d *disk) Delete(name string, syncDir bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.files, name)
	return d.VFS.Delete(name, syncDir)
}

// losePower writes what is left of the files in one folder into another.
func (d *disk) losePower(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for path, f := range d.files {
		if filepath.Dir(path) != from {
			continue
		}
		if err := os.WriteFile(filepath.Join(to, filepath.Base(path)), f.left, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// openFile is an open file of a disk.
type openFile struct {
	vfs.File
	d    *disk
	path string
	f    *diskFile
}

// SharedMemory implements [vfs.FileSharedMemory].
func (o *openFile) SharedMemory() vfs.SharedMemory { return vfsutil.WrapSharedMemory(o.File) }

// LockState implements [vfs.FileLockState].
func (o *openFile) LockState() vfs.LockLevel { return vfsutil.WrapLockState(o.File) }

// WriteAt implements [io.WriterAt].
func (o *openFile) WriteAt(p []byte, off int64) (int, error) {
	o.d.mu.Lock()
	defer o.d.mu.Unlock()
	for page := off / diskPage; page*diskPage < off+int64(len(p)); page++ {
		o.f.dirty[page] = true
	}
	return o.File.WriteAt(p, off)
}

// Sync implements [vfs.File].
func (o *openFile) Sync(flags vfs.SyncFlag) error {
	o.d.mu.Lock()
	defer o.d.mu.Unlock()
	fails := o.d.fails != nil && o.d.fails(o.path)
	for page := range o.f.dirty {
		if fails && o.d.rand.IntN(2) == 0 {
			continue
		}
		if err := o.keep(page * diskPage); err != nil {
			return err
		}
	}
	clear(o.f.dirty)
	if fails {
		o.d.count++
		return io.ErrShortWrite // SQLite is told what it is told of any error
	}
	size, err := o.File.Size()
	if err == nil && size < int64(len(o.f.left)) {
		o.f.left = o.f.left[:size]
	}
	if err != nil {
		return err
	}
	return o.File.Sync(flags)
}

// keep has the page at that offset on the disk.
func (o *openFile) keep(off int64) error {
	var page [diskPage]byte
	n, err := o.File.ReadAt(page[:], off)
	if err != nil && err != io.EOF {
		return err
	}
	if grow := off + int64(n) - int64(len(o.f.left)); grow > 0 {
		o.f.left = append(o.f.left, make([]byte, grow)...)
	}
	copy(o.f.left[off:], page[:n])
	return nil
}
