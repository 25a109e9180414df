package store_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/internal/store/storetest"
)

var ctx = context.Background()

func key(b byte) (k [32]byte) { k[0] = b; return k }

func open(t *testing.T, path string, k byte, schemas ...store.Schema) store.Store {
	t.Helper()
	s, err := store.Open(path, key(k), schemas...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestStore(t *testing.T) {
	t.Run("file", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) store.Store {
			return open(t, t.TempDir()+"/a b?c#%41.db", 1, storetest.Schema)
		})
	})
	t.Run("memory", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) store.Store {
			s, err := store.OpenMemory(storetest.Schema)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			return s
		})
	})
}

// snapshot is the names and contents of dir.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = string(b)
	}
	return all
}

func sameFiles(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for name := range a {
		if a[name] != b[name] {
			return false
		}
	}
	return true
}

func TestWrongKeyChangesNothing(t *testing.T) {
	// The store is copied while it is open, as a crash would leave it: with a log.
	live, dir := t.TempDir(), t.TempDir()
	s := open(t, live+"/s.db", 1, storetest.Schema)
	if err := s.Update(ctx, func(tx store.Tx) error {
		_, err := tx.Exec("INSERT INTO storetest_row (name) VALUES ('kept')")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for name, content := range snapshot(t, live) {
		if name != "s.db-shm" {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	before := snapshot(t, dir)
	if len(before["s.db-wal"]) == 0 {
		t.Fatal("no log: the test shows nothing")
	}
	if _, err := store.Open(dir+"/s.db", key(2), storetest.Schema); !errors.Is(err, store.ErrKey) {
		t.Errorf("got %v, want ErrKey", err)
	}
	if !sameFiles(before, snapshot(t, dir)) {
		t.Error("the files were changed")
	}
	again := open(t, dir+"/s.db", 1, storetest.Schema)
	var name string
	if err := again.View(ctx, func(tx store.Tx) error {
		return tx.Row("SELECT name FROM storetest_row", nil, &name)
	}); err != nil || name != "kept" {
		t.Errorf("got %q, %v", name, err)
	}
}

func TestTornFirstPageIsRecoveredFromTheLog(t *testing.T) {
	live, dir := t.TempDir(), t.TempDir()
	s := open(t, live+"/s.db", 1, storetest.Schema)
	if err := s.Update(ctx, func(tx store.Tx) error { // changes the first page: the schema's number
		_, err := tx.Exec("CREATE TABLE more (id INTEGER)")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	files := snapshot(t, live)
	torn := []byte(files["s.db"])
	copy(torn[2048:], make([]byte, 2048))
	os.WriteFile(dir+"/s.db", torn, 0o600)
	os.WriteFile(dir+"/s.db-wal", []byte(files["s.db-wal"]), 0o600)
	if _, err := store.Open(dir+"/s.db", key(2)); !errors.Is(err, store.ErrKey) {
		t.Errorf("wrong key: %v", err)
	}
	open(t, dir+"/s.db", 1, storetest.Schema)
}

func TestWhatIsNoStoreIsLeftAlone(t *testing.T) {
	for name, content := range map[string]string{"empty": "", "short": "text", "long": strings.Repeat("text", 5000)} {
		dir := t.TempDir()
		os.WriteFile(dir+"/s.db", []byte(content), 0o600)
		before := snapshot(t, dir)
		if s, err := store.Open(dir+"/s.db", key(1)); err == nil {
			s.Close()
			t.Errorf("%s: no error", name)
		}
		if !sameFiles(before, snapshot(t, dir)) {
			t.Errorf("%s: the files were changed", name)
		}
	}
	dir := t.TempDir()
	os.WriteFile(dir+"/s.db-wal", []byte("log of a lost store"), 0o600)
	if _, err := store.Open(dir+"/s.db", key(1)); err == nil {
		t.Error("a log without its store was taken over")
	}
}

func TestFilesAreTheOwnersOnly(t *testing.T) {
	dir := t.TempDir() + "/state"
	s := open(t, dir+"/s.db", 1, storetest.Schema)
	fill(t, s, 10)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func fill(t *testing.T, s store.Store, n int) {
	t.Helper()
	for i := range n {
		if err := s.Update(ctx, func(tx store.Tx) error {
			_, err := tx.Exec("INSERT INTO storetest_row (data) VALUES (?)", bytes.Repeat([]byte("plaintext canary "), 100+i))
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNoPlaintextInFiles(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir+"/s.db", 1, storetest.Schema)
	fill(t, s, 50)
	check := func(when string) {
		for name, content := range snapshot(t, dir) {
			for _, canary := range []string{"canary", "storetest_row", "SQLite format"} {
				if strings.Contains(content, canary) {
					t.Errorf("%s: %q in %s", when, canary, name)
				}
			}
		}
	}
	check("open")
	s.Close()
	check("closed")
}

func TestSchemaSteps(t *testing.T) {
	path := t.TempDir() + "/s.db"
	stepsTest(t, false, func(schemas ...store.Schema) (store.Store, error) { return store.Open(path, key(1), schemas...) })
}

// stepsTest opens one store again and again with other schemas.
func stepsTest(t *testing.T, shared bool, open func(schemas ...store.Schema) (store.Store, error)) {
	schema := func(steps ...string) store.Schema { return store.Schema{Name: "x", Steps: steps} }
	one, two := "CREATE TABLE x_a (id INTEGER)", "CREATE TABLE x_b (id INTEGER)"
	additive := "-- additive\nCREATE INDEX x_a_id ON x_a (id)"
	where := "-- additive where shared\nCREATE TABLE x_c (id INTEGER)"
	tests := []struct {
		name    string
		schemas []store.Schema
		ok      bool
	}{
		{"the first step", []store.Schema{schema(one)}, true},
		{"again", []store.Schema{schema(one)}, true},
		{"a failing step undoes those before it", []store.Schema{schema(one, two, "nonsense")}, false},
		{"one more", []store.Schema{schema(one, two)}, true},
		{"fewer than were run", []store.Schema{schema(one)}, false},
		{"a changed one", []store.Schema{schema(one+" ", two)}, false},
		{"one name twice", []store.Schema{schema(one, two), schema(one, two)}, false},
		{"a step that ends the transaction", []store.Schema{schema(one, two, "COMMIT")}, false},
		{"none", nil, true},
		{"still there", []store.Schema{schema(one, two)}, true},
		{"an additive one", []store.Schema{schema(one, two, additive)}, true},
		{"a program without it", []store.Schema{schema(one, two)}, true},
		{"a program without more than that", []store.Schema{schema(one)}, false},
		{"one that is additive where shared", []store.Schema{schema(one, two, additive, where)}, true},
		{"a program without that", []store.Schema{schema(one, two, additive)}, shared},
		{"one after it", []store.Schema{schema(one, two, additive, where, "DROP TABLE x_b")}, true},
		{"a program without both", []store.Schema{schema(one, two)}, false},
	}
	for _, tt := range tests {
		s, err := open(tt.schemas...)
		if (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err == nil {
			s.Close()
		}
	}
}

// TestKill kills a process that updates, at random moments, and looks whether
// what it had acknowledged is there.
func TestKill(t *testing.T) {
	if path := os.Getenv("LETTERLOCK_STORE_KILL"); path != "" {
		updateUntilKilled(path)
	}
	path := t.TempDir() + "/s.db"
	acknowledged := map[int]bool{}
	first := 0
	for round := range 6 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKill$")
		cmd.Env = append(os.Environ(), "LETTERLOCK_STORE_KILL="+path, "LETTERLOCK_STORE_FIRST="+strconv.Itoa(first))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		target := 20 + 37*round
		n := 0
		for lines.Scan() {
			id, err := strconv.Atoi(lines.Text())
			if err != nil {
				break // a line cut by the kill
			}
			acknowledged[id] = true
			first = max(first, id+1000)
			if n++; n == target {
				cmd.Process.Kill()
			}
		}
		cmd.Wait()
		if n < target {
			t.Fatalf("round %d: the child ended after %d", round, n)
		}
		s, err := store.Open(path, key(1), storetest.Schema)
		if err != nil {
			t.Fatal(err)
		}
		found := map[int]bool{}
		err = s.View(ctx, func(tx store.Tx) error {
			var check string
			if err := tx.Row("PRAGMA integrity_check", nil, &check); err != nil || check != "ok" {
				return fmt.Errorf("integrity: %s %w", check, err)
			}
			return tx.Rows("SELECT id FROM storetest_row", nil, func(scan func(...any) error) error {
				var id int
				err := scan(&id)
				found[id] = true
				return err
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		for id := range acknowledged {
			if !found[id] {
				t.Errorf("round %d: %d was acknowledged and is gone", round, id)
			}
		}
	}
	t.Logf("%d acknowledged updates", len(acknowledged))
}

func updateUntilKilled(path string) {
	s, err := store.Open(path, key(1), storetest.Schema)
	if err != nil {
		panic(err)
	}
	first, _ := strconv.Atoi(os.Getenv("LETTERLOCK_STORE_FIRST"))
	var mu sync.Mutex
	next := first
	for range 8 {
		go func() {
			for {
				mu.Lock()
				id := next
				next++
				mu.Unlock()
				if err := s.Update(ctx, func(tx store.Tx) error {
					_, err := tx.Exec("INSERT INTO storetest_row (id, data) VALUES (?, ?)", id, make([]byte, 3000))
					return err
				}); err != nil {
					panic(err)
				}
				mu.Lock()
				fmt.Println(id)
				mu.Unlock()
			}
		}()
	}
	time.Sleep(time.Minute)
	os.Exit(1)
}

func TestLock(t *testing.T) {
	dir := t.TempDir() + "/state"
	l, err := store.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = store.Lock(dir)
	if !errors.Is(err, store.ErrInUse) || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
		t.Errorf("got %v, want ErrInUse with our process ID", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, err = store.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func BenchmarkUpdate(b *testing.B) {
	for _, workers := range []int{1, 16} {
		b.Run(fmt.Sprint(workers), func(b *testing.B) {
			s, err := store.Open(b.TempDir()+"/s.db", key(1), storetest.Schema)
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			data := make([]byte, 10_000)
			var wg sync.WaitGroup
			work := make(chan struct{})
			for range workers {
				wg.Go(func() {
					for range work {
						if err := s.Update(ctx, func(tx store.Tx) error {
							_, err := tx.Exec("INSERT INTO storetest_row (data) VALUES (?)", data)
							return err
						}); err != nil {
							b.Error(err)
						}
					}
				})
			}
			for b.Loop() {
				work <- struct{}{}
			}
			close(work)
			wg.Wait()
		})
	}
}
