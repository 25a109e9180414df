package queue_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"letterlock.org/letterlock/internal/mailtest/peer"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/smtpd/queue"
)

// TestALockThatADeadNodeLeftStopsNobodysHeart: a node that was cut off from the
// database leaves a transaction open there, with its locks, for minutes. Who
// takes it for dead waits for those; and lives on meanwhile, or a third would
// take that one for dead too.
func TestALockThatADeadNodeLeftStopsNobodysHeart(t *testing.T) {
	db := peer.Postgres(t)
	url := db.Fresh()
	open := func() store.Store {
		st, err := store.OpenPostgres(t.Context(), url, [32]byte{1}, queue.Schema)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { st.Close() })
		return st
	}
	const lease = 2 * time.Second
	dead, err := queue.New(queue.Config{Store: open(), Lease: lease})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, q: dead, now: time.Now(), bodies: map[string][]byte{}}
	w.put(queue.Sending, "", "bob@x")
	left, err := pgconn.Connect(t.Context(), url+"&sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	defer left.Close(t.Context())
	if _, err := left.Exec(t.Context(), "BEGIN; SELECT * FROM queue_item FOR UPDATE").ReadAll(); err != nil {
		t.Fatal(err)
	}
	a := &world{t: t, st: open(), bodies: map[string][]byte{}}
	a.open(queue.Config{Store: a.st, Lease: lease, Node: "a"})
	until := func() (at int64) {
		t.Helper()
		err := a.st.View(t.Context(), func(tx store.Tx) error {
			return tx.Row(`SELECT until FROM queue_node WHERE node = 'a'`, nil, &at)
		})
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	// Long enough for the dead one's lease to be over, and for a's own to run out if
	// it isn't renewed.
	for end, was := time.Now().Add(3*lease), until(); time.Now().Before(end); {
		a.until("it is renewed", func() bool { return until() > was })
		was = until()
	}
	if got := a.list(); got != "sending bob@x=sending" {
		t.Errorf("taken over in spite of the lock: %s", got)
	}
	if _, err := left.Exec(t.Context(), "ROLLBACK").ReadAll(); err != nil {
		t.Fatal(err)
	}
	a.until("taken over", func() bool { return a.list() == "unknown bob@x=unknown" })
}
