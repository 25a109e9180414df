package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"letterlock.org/letterlock/internal/mailtest/peer"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/internal/store/storetest"
)

func openPostgres(t *testing.T, url string, k byte, schemas ...store.Schema) store.Store {
	t.Helper()
	s, err := store.OpenPostgres(ctx, url, key(k), schemas...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestPostgres(t *testing.T) {
	server := peer.Postgres(t)
	storetest.Run(t, func(t *testing.T) store.Store {
		return openPostgres(t, server.Fresh(), 1, storetest.Schema)
	})
	t.Run("a wrong key changes nothing", func(t *testing.T) { wrongPostgresKey(t, server) })
	t.Run("text that PostgreSQL refuses is kept", func(t *testing.T) { oddText(t, server.Fresh()) })
	t.Run("bytes are looked up", func(t *testing.T) { lookup(t, server.Fresh()) })
	t.Run("bytes survive their table's rebuilding", func(t *testing.T) { rebuilt(t, server.Fresh()) })
	t.Run("bytes without a column are refused", func(t *testing.T) { strayBytes(t, server.Fresh()) })
	t.Run("steps", func(t *testing.T) { postgresSteps(t, server.Fresh()) })
	t.Run("a node goes on while another is upgraded", func(t *testing.T) { rollingUpgrade(t, server.Fresh()) })
	t.Run("bytes moved to another column are not opened", func(t *testing.T) { movedBytes(t, server) })
	t.Run("TLS is verified", func(t *testing.T) { postgresTLS(t, server) })
	t.Run("several hosts", func(t *testing.T) { failover(t, server.Fresh()) })
	t.Run("what lies in its files", func(t *testing.T) { postgresFiles(t, server) })
}

func wrongPostgresKey(t *testing.T, server *peer.PostgresServer) {
	url := server.Fresh()
	openPostgres(t, url, 1, storetest.Schema)
	more := store.Schema{Name: "more", Steps: []string{"CREATE TABLE more (id INTEGER)"}}
	if _, err := store.OpenPostgres(ctx, url, key(2), more); !errors.Is(err, store.ErrKey) {
		t.Errorf("got %v, want ErrKey", err)
	}
	schema := url[strings.LastIndexByte(url, '=')+1:]
	if n := server.SQL("SELECT count(*) FROM pg_tables WHERE schemaname = '" + schema + "' AND tablename = 'more'"); n != "0" {
		t.Error("a table was made with a wrong key")
	}
	openPostgres(t, url, 1, more)
}

var things = store.Schema{Name: "things", Steps: []string{
	`CREATE TABLE things_thing (owner TEXT NOT NULL, hash BLOB NOT NULL, text BLOB, other BLOB, PRIMARY KEY (owner, hash)) WITHOUT ROWID`,
}}

func oddText(t *testing.T, url string) {
	s := openPostgres(t, url, 1, things)
	if err := s.View(ctx, func(tx store.Tx) error {
		var mark, quoted, arg string
		err := tx.Row("SELECT '?', 'it''s ?', /* ? */ ? -- why?", []any{"a"}, &mark, &quoted, &arg)
		if mark != "?" || quoted != "it's ?" || arg != "a" {
			t.Errorf("got %q, %q, %q", mark, quoted, arg)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	for _, text := range []string{"", "a\x00b", "\xff\xfe", "\uf8ffhex:61", "'; --", "ünï"} {
		var got string
		err := s.Update(ctx, func(tx store.Tx) error {
			if _, err := tx.Exec("INSERT INTO things_thing (owner, hash) VALUES (?, ?)", text, []byte("h")); err != nil {
				return err
			}
			return tx.Row("SELECT owner FROM things_thing WHERE owner = ?", []any{text}, &got)
		})
		if err != nil || got != text {
			t.Errorf("%q came back as %q, %v", text, got, err)
		}
	}
}

func lookup(t *testing.T, url string) {
	s := openPostgres(t, url, 1, things)
	put := func(hash, text string) (n int64) {
		t.Helper()
		err := s.Update(ctx, func(tx store.Tx) (err error) {
			n, err = tx.Exec("INSERT INTO things_thing (owner, hash, text) VALUES ('o', ?, ?) ON CONFLICT DO NOTHING", []byte(hash), []byte(text))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if put("one", "same") != 1 || put("two", "same") != 1 || put("one", "other") != 0 {
		t.Error("a key of bytes doesn't work")
	}
	err := s.Update(ctx, func(tx store.Tx) error {
		n, err := tx.Exec("UPDATE things_thing SET other = ?, text = ? WHERE hash = ?", []byte("new"), nil, []byte("two"))
		if err != nil || n != 1 {
			t.Errorf("%d rows, %v", n, err)
		}
		var hash, other []byte
		if err := tx.Row("SELECT hash, other FROM things_thing AS x WHERE text IS NULL", nil, &hash, &other); err != nil || string(hash) != "two" || string(other) != "new" {
			t.Errorf("got %q, %q, %v", hash, other, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func rebuilt(t *testing.T, url string) {
	s := openPostgres(t, url, 1, things)
	fill := func(tx store.Tx) error {
		_, err := tx.Exec("INSERT INTO things_thing (owner, hash, text) VALUES ('o', ?, ?)", []byte("h"), []byte("kept"))
		return err
	}
	if err := s.Update(ctx, fill); err != nil {
		t.Fatal(err)
	}
	s.Close()
	newer := store.Schema{Name: "things", Steps: append(things.Steps[:1:1],
		`CREATE TABLE things_new (owner TEXT NOT NULL, hash BLOB NOT NULL, text BLOB, more INTEGER NOT NULL DEFAULT 0);
		 INSERT INTO things_new (owner, hash, text) SELECT owner, hash, text FROM things_thing;
		 DROP TABLE things_thing;
		 ALTER TABLE things_new RENAME TO things_thing`)}
	s = openPostgres(t, url, 1, newer)
	var text []byte
	if err := s.View(ctx, func(tx store.Tx) error {
		return tx.Row("SELECT text FROM things_thing WHERE owner = 'o'", nil, &text)
	}); err != nil || string(text) != "kept" {
		t.Errorf("got %q, %v", text, err)
	}
}

func strayBytes(t *testing.T, url string) {
	s := openPostgres(t, url, 1, things)
	for _, query := range []string{
		"INSERT INTO things_thing (owner, hash) SELECT 'o', ?",
		"INSERT INTO things_thing (owner, hash) VALUES ('o', ? || 'x')",
		"SELECT 1 FROM things_thing WHERE text < ?",
		"UPDATE things_thing SET text = COALESCE(?, text)",
	} {
		if err := s.Update(ctx, func(tx store.Tx) error { _, err := tx.Exec(query, []byte("plaintext")); return err }); err == nil {
			t.Errorf("%s: no error", query)
		}
	}
}

func movedBytes(t *testing.T, server *peer.PostgresServer) {
	url := server.Fresh()
	s := openPostgres(t, url, 1, things)
	if err := s.Update(ctx, func(tx store.Tx) error {
		_, err := tx.Exec("INSERT INTO things_thing (owner, hash, text) VALUES ('o', ?, ?)", []byte("h"), []byte("t"))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	server.SQL("UPDATE " + url[strings.LastIndexByte(url, '=')+1:] + ".things_thing SET other = text")
	var b []byte
	if err := s.View(ctx, func(tx store.Tx) error {
		return tx.Row("SELECT other FROM things_thing", nil, &b)
	}); !errors.Is(err, store.ErrTampered) {
		t.Errorf("got %q, %v", b, err)
	}
}

// postgresFiles looks for what was stored in everything that the server wrote.
func postgresFiles(t *testing.T, server *peer.PostgresServer) {
	s := openPostgres(t, server.Fresh(), 1, things)
	if err := s.Update(ctx, func(tx store.Tx) error {
		_, err := tx.Exec("INSERT INTO things_thing (owner, hash, text) VALUES ('readable owner', ?, ?)", []byte("canary key"), bytes.Repeat([]byte("canary text"), 10))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	server.SQL("CHECKPOINT")
	readable := false
	err := filepath.WalkDir(server.Dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // files come and go
		}
		b, _ := os.ReadFile(path)
		if bytes.Contains(b, []byte("canary")) {
			t.Errorf("bytes lie in the clear in %s", path)
		}
		readable = readable || bytes.Contains(b, []byte("readable owner"))
		return nil
	})
	if err != nil || !readable {
		t.Errorf("not even text was found: the test shows nothing (%v)", err)
	}
}

func postgresSteps(t *testing.T, url string) {
	stepsTest(t, true, func(schemas ...store.Schema) (store.Store, error) {
		return store.OpenPostgres(ctx, url, key(1), schemas...)
	})
}

func rollingUpgrade(t *testing.T, url string) {
	step := "-- additive\nALTER TABLE things_thing ADD COLUMN more BLOB; ALTER TABLE things_thing ADD COLUMN n INTEGER NOT NULL DEFAULT 0; CREATE TABLE things_more (id INTEGER)"
	newer := store.Schema{Name: "things", Steps: append(things.Steps[:1:1], step)}
	put := func(s store.Store, owner string) {
		t.Helper()
		err := s.Update(ctx, func(tx store.Tx) error {
			_, err := tx.Exec("INSERT INTO things_thing (owner, hash, text) VALUES (?, ?, ?)", owner, []byte("h"), []byte(owner))
			return err
		})
		if err != nil {
			t.Errorf("%s: %v", owner, err)
		}
		n := 0
		err = s.View(ctx, func(tx store.Tx) error {
			return tx.Rows("SELECT owner, text FROM things_thing", nil, func(scan func(...any) error) error {
				var o, text string
				err := scan(&o, &text)
				if o != text {
					t.Errorf("%s reads %q of %s", owner, text, o)
				}
				n++
				return err
			})
		})
		if err != nil || n == 0 {
			t.Errorf("%s: %d rows, %v", owner, n, err)
		}
	}
	old := openPostgres(t, url, 1, things)
	put(old, "old, alone")
	upgraded := openPostgres(t, url, 1, newer)
	put(upgraded, "new")
	put(old, "old, beside")
	restarted := openPostgres(t, url, 1, things)
	put(restarted, "old, restarted")
	others := []store.Store{old, upgraded, restarted}
	final := store.Schema{Name: "things", Steps: append(newer.Steps[:2:2], "DROP TABLE things_more")}
	if _, err := store.OpenPostgres(ctx, url, key(1), final); err == nil || !strings.Contains(err.Error(), "other nodes") {
		t.Errorf("a step that isn't additive, beside others: %v", err)
	}
	put(old, "old, still")
	for _, s := range others {
		s.Close()
	}
	openPostgres(t, url, 1, final)
	for _, schema := range []store.Schema{things, newer} {
		if _, err := store.OpenPostgres(ctx, url, key(1), schema); err == nil || !strings.Contains(err.Error(), "newer") {
			t.Errorf("a program of %d steps met a step that isn't additive: %v", len(schema.Steps), err)
		}
	}
}

// failover names a server that is not there before the one that is.
func failover(t *testing.T, url string) {
	url = strings.Replace(url, "@", "@127.0.0.1:1,", 1) + "&pool_max_conns=2"
	if n := len(numbers(t, openPostgres(t, url, 1, storetest.Schema))); n != 0 {
		t.Errorf("%d rows", n)
	}
}

func TestPostgresURL(t *testing.T) {
	for _, url := range []string{
		"", "sqlite:", "host=/tmp", "mysql://a@127.0.0.1/b", "postgres://u:secret%@127.0.0.1/d",
		"postgres://u:secret@127.0.0.1:1/d?sslmode=prefer", "postgres://u:secret@127.0.0.1:1/d?sslmode=allow",
		"postgres://u:secret@127.0.0.1:1/d", "postgres://u:secret@127.0.0.1:1/d?pool_max_conns=0",
		"postgres://u:secret@127.0.0.1:1/d?sslmode=nonsense",
	} {
		_, err := store.OpenPostgres(ctx, url, key(1))
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// BenchmarkPostgres is BenchmarkUpdate over PostgreSQL, by one node and by two,
// and the same with a look for an earlier row first.
func BenchmarkPostgres(b *testing.B) {
	server := peer.Postgres(b)
	for _, how := range []struct {
		name           string
		nodes, workers int
		ctx            context.Context
		look           bool
	}{
		{"1", 1, 1, ctx, false},
		{"1,relaxed", 1, 1, store.Relaxed(ctx), false},
		{"16", 1, 16, ctx, false},
		{"16,relaxed", 1, 16, store.Relaxed(ctx), false},
		{"16,look", 1, 16, ctx, true},
		{"16,look,relaxed", 1, 16, store.Relaxed(ctx), true},
		{"2x16,relaxed", 2, 16, store.Relaxed(ctx), false},
	} {
		b.Run(how.name, func(b *testing.B) {
			url := server.Fresh()
			var nodes []store.Store
			for range how.nodes {
				nodes = append(nodes, storetest.Postgres(b, url, storetest.Schema))
			}
			data := make([]byte, 10_000)
			var wg sync.WaitGroup
			var runs atomic.Int64
			work := make(chan int)
			for w := range how.workers * how.nodes {
				wg.Go(func() {
					for id := range work {
						if err := nodes[w%how.nodes].Update(how.ctx, func(tx store.Tx) error {
							runs.Add(1)
							if how.look {
								var n int
								if err := tx.Row("SELECT id FROM storetest_row WHERE id = ?", []any{id}, &n); !errors.Is(err, store.ErrNoRow) {
									return fmt.Errorf("found %d: %w", n, err)
								}
							}
							_, err := tx.Exec("INSERT INTO storetest_row (id, data) VALUES (?, ?)", id, data)
							return err
						}); err != nil {
							b.Error(err)
						}
					}
				})
			}
			id := 0
			for b.Loop() {
				id++
				work <- id
			}
			close(work)
			wg.Wait()
			b.ReportMetric(float64(runs.Load())/float64(id), "runs/op")
		})
	}
}

func postgresTLS(t *testing.T, server *peer.PostgresServer) {
	for suffix, want := range map[string]bool{
		"&sslmode=verify-full&sslrootcert=" + server.CA: true,
		"&sslmode=verify-full":                          false,
	} {
		s, err := store.OpenPostgres(ctx, server.Fresh()+suffix, key(1))
		if (err == nil) != want {
			t.Errorf("%s: %v", suffix, err)
		}
		if err == nil {
			s.Close()
		}
	}
}

func TestPostgresTLSOffLoopback(t *testing.T) {
	t.Setenv("PGSSLMODE", "disable") // doesn't count
	for url, want := range map[string]string{
		"postgres://u@127.0.0.1/d":                               "",
		"postgres://u@[::1]/d":                                   "",
		"postgres://u@localhost/d":                               "",
		"postgres:///d?host=/run/postgresql":                     "",
		"postgres://u@db.example.org/d":                          "db.example.org",
		"postgres://u@192.0.2.1/d":                               "192.0.2.1",
		"postgres://u@127.0.0.1,db.example.org/d":                "127.0.0.1",
		"postgres://u@db.example.org/d?sslmode=disable":          "",
		"postgres://u@127.0.0.1/d?sslmode=verify-full":           "127.0.0.1",
		"postgresql://u@db.example.org:5433/d?pool_max_conns=40": "db.example.org",
	} {
		c, ok, err := store.PostgresTLS(url)
		switch {
		case err != nil || !ok:
			t.Errorf("%s: %v, %v", url, ok, err)
		case (c == nil) != (want == ""):
			t.Errorf("%s: TLS is %v", url, c != nil)
		case c != nil && (c.ServerName != want || c.InsecureSkipVerify && c.VerifyPeerCertificate == nil):
			t.Errorf("%s: the name %q is verified, want %q", url, c.ServerName, want)
		}
	}
}
