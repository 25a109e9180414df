package store

import (
	"errors"
	"sync/atomic"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"
)

// ErrSync means that the disk failed to keep what the database had been given
// before, so that nothing of it can be believed: it is read and written no more by
// this process. The log has all of it still, and whoever opens the store anew
// recovers it from there.
var ErrSync = errors.New("the disk did not keep what was written to the store, which is used no more; restart letterlock, and it is recovered from its log")

// moved is what is known of the log being moved into the database of one store.
//
// SQLite moves as much as readers let it, notes how much that was, and syncs the
// database only after it has moved the last of the log. Where that sync fails it
// moves again what it moved last, and not what it moved before; but a system may
// count the pages of a failed sync as written (Linux does), and then the next sync
// succeeds without them, and the log that has them is begun anew.
type moved struct {
	unsynced atomic.Bool // since the last sync pages were written
	before   atomic.Bool // some of them when the log was not moved to its end
	lost     atomic.Bool // ErrSync
}

// databaseFile is what adiantum's files can do and a wrapper must pass on.
type databaseFile interface {
	vfs.FileUnwrap
	vfs.FileSharedMemory
	vfs.FilePragma
	vfs.FileLockState
	vfs.FileChunkSize
	vfs.FileSizeHint
	vfs.FileHasMoved
	vfs.FileOverwrite
	vfs.FileSync
	vfs.FileCommitPhaseTwo
	vfs.FileBatchAtomicWrite
	vfs.FileCheckpoint
	vfs.FileBusyHandler
}

// mainFile is the database, of which SQLite asks what the log can do.
//
// SQLite assumes of files by default that a write changes no bytes beside it,
// and otherwise adds frames to each commit until it ends with a sector
// (https://sqlite.org/psow.html). Adiantum denies it, since its blocks may hold
// what others wrote. Here they don't: a page is a block, a frame is a block.
type mainFile struct {
	databaseFile
	moved *moved
}

// Unwrap implements [vfs.FileUnwrap]: adiantum looks for its own file.
func (f *mainFile) Unwrap() vfs.File { return f.databaseFile }

// DeviceCharacteristics implements [vfs.File].
func (f *mainFile) DeviceCharacteristics() vfs.DeviceCharacteristic {
	return f.databaseFile.DeviceCharacteristics() | vfs.IOCAP_POWERSAFE_OVERWRITE
}

// CheckpointStart implements [vfs.FileCheckpoint]: the log is about to be moved.
func (f *mainFile) CheckpointStart() {
	if f.moved.unsynced.Load() {
		f.moved.before.Store(true)
	}
	f.databaseFile.CheckpointStart()
}

// ReadAt implements [io.ReaderAt].
func (f *mainFile) ReadAt(p []byte, off int64) (int, error) {
	if f.moved.lost.Load() { // the system may have forgotten the page, too
		return 0, sqlite3.IOERR_READ
	}
	return f.databaseFile.ReadAt(p, off)
}

// WriteAt implements [io.WriterAt].
func (f *mainFile) WriteAt(p []byte, off int64) (int, error) {
	f.moved.unsynced.Store(true)
	return f.databaseFile.WriteAt(p, off)
}

// Sync implements [vfs.File]. After a failure that loses something it fails for
// ever, so that SQLite keeps its log.
func (f *mainFile) Sync(flags vfs.SyncFlag) error {
	if f.moved.lost.Load() {
		return sqlite3.IOERR_FSYNC
	}
	err := f.databaseFile.Sync(flags)
	if err != nil && f.moved.before.Load() {
		f.moved.lost.Store(true)
		return err
	}
	f.moved.unsynced.Store(false) // or all of it is moved again
	f.moved.before.Store(false)
	return err
}
