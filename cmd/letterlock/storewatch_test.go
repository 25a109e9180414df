package main_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	main "letterlock.org/letterlock/cmd/letterlock"
	"letterlock.org/letterlock/internal/mailtest"
	"letterlock.org/letterlock/internal/store"
)

// failing is a store whose reads end in err, once there is one.
type failing struct {
	store.Store
	err atomic.Pointer[error]
}

func (f *failing) View(context.Context, func(store.Tx) error) error {
	if err := f.err.Load(); err != nil {
		return *err
	}
	return nil
}

// TestOnlyAStoreThatIsLostEndsServe: what passes by itself, such as a database that
// can't be reached for a while, is waited for.
func TestOnlyAStoreThatIsLostEndsServe(t *testing.T) {
	st := &failing{}
	lost := main.StoreLost(t.Context(), st, time.Millisecond, func() error { return nil })
	for _, err := range []error{nil, errors.New("the database can't be reached")} {
		st.err.Store(&err)
		select {
		case got := <-lost:
			t.Fatalf("%v: serve would end: %v", err, got)
		case <-time.After(30 * time.Millisecond):
		}
	}
	gone := fmt.Errorf("reading: %w", store.ErrSync)
	st.err.Store(&gone)
	if got := <-lost; !errors.Is(got, store.ErrSync) {
		t.Errorf("serve ends with %v", got)
	}
}

// TestAStateDirectoryThatIsTakenAway: what serve would go on accepting would be gone
// with the process. It ends instead, and says why; put back, all is there.
func TestAStateDirectoryThatIsTakenAway(t *testing.T) {
	t.Parallel()
	up, err := mailtest.Start(mailtest.Options{Users: map[string]string{alice: "upstream-alice"}})
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	w := newWorld(t, up)
	a := w.bridge(alice, "upstream-alice")
	if err := mailtest.Submit(a.smtp, alice, []string{alice}, []byte("From: "+alice+"\r\nTo: "+alice+"\r\nSubject: x\r\n\r\nbefore\r\n")); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(w.state, "alice")
	for _, tt := range []struct {
		name       string
		take, give func() error
	}{
		{"the directory", func() error { return os.Rename(state, state+".away") }, func() error { return os.Rename(state+".away", state) }},
		{"the lock", func() error { return os.Remove(filepath.Join(state, "lock")) }, func() error { return nil }},
		{"another store in its place", func() error {
			return errors.Join(os.Rename(state+"/letterlock.db", state+"/away"), os.WriteFile(state+"/letterlock.db", nil, 0o600))
		}, func() error { return os.Rename(state+"/away", state+"/letterlock.db") }},
	} {
		if err := tt.take(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { a.process.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(patience):
			t.Fatalf("without %s serve runs on", tt.name)
		}
		log, _ := os.ReadFile(a.log)
		if a.process.ProcessState.ExitCode() != 1 || !strings.Contains(string(log), "removed, moved away or replaced while serve ran") {
			t.Errorf("without %s serve ends with %v: %s", tt.name, a.process.ProcessState, log[max(0, len(log)-300):])
		}
		if err := tt.give(); err != nil {
			t.Fatal(err)
		}
		a.kill() // for the world to know
		a.again()
		if got, err := mailtest.Fetch(a.imap, "INBOX"); err != nil || len(got) != 1 || !strings.Contains(string(got[0].Raw), "before") {
			t.Errorf("%s is back, and mail can't be read: %d, %v", tt.name, len(got), err)
		}
	}
}
