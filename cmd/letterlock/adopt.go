package main

import (
	"os"
	"path/filepath"

	"letterlock.org/letterlock/internal/config"
)

// adopt gives what root makes in the state directory of another user to that user,
// who could open none of it otherwise: an administrator's command would have a
// service not start again. What was root's before stays so.
type adopt struct {
	dir      string
	uid, gid int
	files    []string // that weren't root's
}

// stateFiles are the files of a state directory that are kept.
var stateFiles = []string{"lock", storeName, storeName + "-wal", storeName + "-shm", caName, config.SaltName}

// adoptIn looks before anything is made. It is nil where there is nothing to give.
func adoptIn(dir string) *adopt {
	st, err := os.Stat(dir)
	if err != nil || os.Geteuid() != 0 {
		return nil
	}
	uid, gid, ok := ownersOf(st)
	if !ok || uid == 0 {
		return nil
	}
	a := &adopt{dir: dir, uid: uid, gid: gid}
	for _, name := range stateFiles {
		st, err := os.Lstat(filepath.Join(dir, name))
		if err == nil {
			if owner, ok := ownerOf(st); !ok || owner == 0 {
				continue
			}
		}
		a.files = append(a.files, filepath.Join(dir, name))
	}
	return a
}

// give does it. What can't be given is told when its owner can't open it.
func (a *adopt) give() error {
	if a != nil {
		for _, file := range a.files {
			_ = giveFile(file, a.uid, a.gid)
		}
	}
	return nil
}
