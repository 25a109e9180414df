package store_test

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/ncruces/go-sqlite3"
	_ "github.com/ncruces/go-sqlite3/vfs/adiantum" // what stores were made with before

	"github.com/ncruces/go-sqlite3/util/vfsutil"

	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/internal/store/storetest"
)

// TestLogFileIsAFile compares any order of reads and writes with a plain file.
func TestLogFileIsAFile(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		cipher, plain := &vfsutil.SliceFile{}, &vfsutil.SliceFile{}
		f := store.NewLogFile(cipher, key(7))
		all := noise(r, 32+4120*9) // SQLite leaves no gaps
		f.WriteAt(all, 0)
		plain.WriteAt(all, 0)
		for step := range 200 {
			frame := int64(32 + 4120*r.IntN(6))
			switch r.IntN(8) {
			case 0, 1, 2: // as SQLite writes a frame, or only begins to
				parts := [][]byte{noise(r, 24), noise(r, 4096)}
				for _, p := range parts[:1+r.IntN(2)] {
					f.WriteAt(p, frame)
					plain.WriteAt(p, frame)
					frame += 24
				}
			case 3: // anywhere
				p, off := noise(r, 1+r.IntN(9000)), int64(r.IntN(20000))
				f.WriteAt(p, off)
				plain.WriteAt(p, off)
			case 4:
				p := noise(r, 32)
				f.WriteAt(p, 0)
				plain.WriteAt(p, 0)
			case 5:
				if err := f.Sync(0); err != nil {
					t.Fatal(err)
				}
			}
			size, _ := plain.Size()
			off := r.Int64N(size)
			want, got := make([]byte, min(size-off, 5000)), make([]byte, min(size-off, 5000))
			plain.ReadAt(want, off)
			if n, err := f.ReadAt(got, off); err != nil || !bytes.Equal(got[:n], want[:n]) {
				t.Fatalf("seed %d, step %d: reading %d at %d gave %d bytes, %v", seed, step, len(got), off, n, err)
			}
		}
		size, _ := f.Size()
		if _, err := f.ReadAt(make([]byte, 1), size); err != io.EOF {
			t.Errorf("reading at the end gave %v", err)
		}
	}
}

func noise(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// rows are the ids that a store holds, which must be sound.
func rows(t *testing.T, s store.Store) (ids []int) {
	t.Helper()
	err := s.View(ctx, func(tx store.Tx) error {
		var check string
		if err := tx.Row("PRAGMA integrity_check", nil, &check); err != nil || check != "ok" {
			return fmt.Errorf("integrity: %s %w", check, err)
		}
		return tx.Rows("SELECT id FROM storetest_row ORDER BY id", nil, func(scan func(...any) error) error {
			var id int
			err := scan(&id)
			ids = append(ids, id)
			return err
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// TestTornLog cuts the log, or spoils a sector of it, anywhere: what was
// committed before that place is there, and nothing of what came after.
func TestTornLog(t *testing.T) {
	live := t.TempDir()
	s := open(t, live+"/s.db", 1, storetest.Schema)
	log := func() int { return len(snapshot(t, live)["s.db-wal"]) }
	var ends []int // of the log after each update
	for i := range 8 {
		if err := s.Update(ctx, func(tx store.Tx) error {
			_, err := tx.Exec("INSERT INTO storetest_row (id, data) VALUES (?, ?)", i, bytes.Repeat([]byte{byte(i)}, 6000))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, log())
		if (ends[i]-32)%4120 != 0 {
			t.Fatalf("the log is %d bytes long: not whole frames", ends[i])
		}
	}
	files := snapshot(t, live)
	r := rand.New(rand.NewPCG(1, 1))
	for round := range 60 {
		at, what := r.IntN(ends[7]), "cut"
		wal := []byte(files["s.db-wal"])
		if round%2 == 0 {
			what, at = "spoilt", at&^511
			copy(wal[at:min(at+512, len(wal))], noise(r, 512))
		} else {
			wal = wal[:at]
		}
		dir := t.TempDir()
		os.WriteFile(dir+"/s.db", []byte(files["s.db"]), 0o600)
		os.WriteFile(dir+"/s.db-wal", wal, 0o600)
		s, err := store.Open(dir+"/s.db", key(1), storetest.Schema)
		if err != nil {
			t.Fatal(err)
		}
		got, want := rows(t, s), 0
		for want < len(ends) && ends[want] <= at {
			want++
		}
		if len(got) != want {
			t.Errorf("%s at %d: %d rows, want %d", what, at, len(got), want)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestLogOfBefore opens what a crash left of a store whose log was enciphered
// as the file is.
func TestLogOfBefore(t *testing.T) {
	live, dir := t.TempDir(), t.TempDir()
	s := open(t, live+"/s.db", 1, storetest.Schema)
	fill(t, s, 3)
	s.Close()
	k := key(1)
	prk, _ := hkdf.Extract(sha256.New, k[:], nil)
	page, _ := hkdf.Expand(sha256.New, prk, "letterlock store page v1", 32)
	db, err := sqlite3.Open("file:" + live + "/s.db?vfs=adiantum")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Exec("PRAGMA hexkey='" + hex.EncodeToString(page) + "'; INSERT INTO storetest_row (id) VALUES (77)"); err != nil {
		t.Fatal(err)
	}
	files := snapshot(t, live)
	if len(files["s.db-wal"]) == 0 {
		t.Fatal("no log: the test shows nothing")
	}
	for _, name := range []string{"s.db", "s.db-wal"} {
		os.WriteFile(dir+"/"+name, []byte(files[name]), 0o600)
	}
	before := snapshot(t, dir)
	if _, err := store.Open(dir+"/s.db", key(2), storetest.Schema); !errors.Is(err, store.ErrKey) || !sameFiles(before, snapshot(t, dir)) {
		t.Errorf("a wrong key: %v, or the files were changed", err)
	}
	if got := rows(t, open(t, dir+"/s.db", 1, storetest.Schema)); len(got) != 4 || got[3] != 77 {
		t.Errorf("got rows %v", got)
	}
}
