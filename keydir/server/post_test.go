package server_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/internal/store/storetest"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/keydir/server"
)

// clock is a clock that tests set while others read it.
type clock struct{ at atomic.Int64 }

func newClock(t time.Time) *clock {
	c := &clock{}
	c.at.Store(t.UnixMicro())
	return c
}

func (c *clock) now() time.Time         { return time.UnixMicro(c.at.Load()).UTC() }
func (c *clock) set(t time.Time)        { c.at.Store(t.UnixMicro()) }
func (c *clock) add(d time.Duration)    { c.at.Add(d.Microseconds()) }
func (c *clock) of(d *server.Directory) { d.Now = c.now }

// counter is an Intake of a node over a store; run sends its mails until the test
// ends or stop is called.
type counter struct {
	h    http.Handler
	stop func()
}

func newCounter(t testing.TB, d *server.Directory, send server.Send) *counter {
	t.Helper()
	post := server.NewPost(send, nil)
	post.Pause = 5 * time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { post.Run(ctx); close(done) }()
	c := &counter{stop: func() { cancel(); <-done }}
	t.Cleanup(c.stop)
	c.h = server.NewIntake(server.IntakeConfig{Directory: d, Domains: []string{"example.org"}, URL: "https://k", From: addr(t, "k@example.org"),
		Post: post, Next: handler(d), Now: d.Now, Rate: 1000})
	return c
}

// submit sends a certificate as gpg --send-keys does.
func (c *counter) submit(t testing.TB, from, address string) {
	t.Helper()
	r := httptest.NewRequest("POST", "https://k/pks/add", strings.NewReader(url.Values{"keytext": {cert(t, address).Armored()}}.Encode()))
	r.RemoteAddr = from + ":1"
	w := httptest.NewRecorder()
	c.h.ServeHTTP(w, r)
	if w.Code != 200 {
		t.Fatal(w.Code, w.Body)
	}
}

func (c *counter) post(path, form string) int {
	r := httptest.NewRequest("POST", "https://k"+path, strings.NewReader(form))
	r.RemoteAddr = "127.0.0.1:1"
	w := httptest.NewRecorder()
	c.h.ServeHTTP(w, r)
	return w.Code
}

func linkIn(m server.Mail) string {
	_, link, _ := strings.Cut(string(m.Text), "https://k")
	link, _, _ = strings.Cut(link, "\r\n")
	return link
}

func TestMailIsTriedAgainWithTheSameLink(t *testing.T) {
	d, _ := directory(t)
	now := newClock(today)
	now.of(d)
	sent := make(chan server.Mail, 10)
	n, first := 0, ""
	c := newCounter(t, d, func(_ context.Context, m server.Mail) error {
		if n++; n < 4 {
			if first == "" {
				first = linkIn(m)
			}
			return errors.New("down")
		}
		sent <- m
		return nil
	})
	c.submit(t, "192.0.2.1", "joe.doe@example.org")
	stop := make(chan struct{})
	var passing sync.WaitGroup
	passing.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				now.add(time.Second)
			}
		}
	})
	m := receive(t, sent)
	close(stop)
	passing.Wait()
	if linkIn(m) != first {
		t.Errorf("the link is %s, and was %s", linkIn(m), first)
	}
	if got := c.post(first, ""); got != 200 || served(t, d) == nil {
		t.Errorf("confirming: %d", got)
	}
	now.add(time.Hour)
	nothing(t, sent)
}

func TestMailThatIsRefusedForGoodIsNotTriedAgain(t *testing.T) {
	d, st := directory(t)
	now := newClock(today)
	now.of(d)
	sent := make(chan server.Mail, 10)
	c := newCounter(t, d, func(_ context.Context, m server.Mail) error {
		sent <- m
		now.add(time.Hour)
		return fmt.Errorf("%w: 550 5.1.1 no such mailbox", server.ErrRefused)
	})
	c.submit(t, "192.0.2.1", "joe.doe@example.org")
	receive(t, sent)
	nothing(t, sent)
	if n := rows(t, st, "keydirserver_pending"); n != 1 {
		t.Errorf("%d requests are kept", n)
	}
}

// A mail that was asked for is sent after a restart; and by one node only.
func TestMailOutlivesAStop(t *testing.T) {
	storetest.Each(t, []store.Schema{server.Schema}, func(t *testing.T, st store.Store) {
		now := newClock(today)
		d := reopened(st)
		now.of(d)
		trying := make(chan struct{})
		var once sync.Once
		c := newCounter(t, d, func(ctx context.Context, _ server.Mail) error {
			once.Do(func() { close(trying) })
			<-ctx.Done() // the stop comes while the mail is under way
			return ctx.Err()
		})
		c.submit(t, "192.0.2.1", "joe.doe@example.org")
		c.submit(t, "192.0.2.1", "bob@example.org")
		<-trying
		c.stop()
		now.add(time.Minute)
		sent := make(chan server.Mail, 10)
		var nodes []*counter
		for range 2 {
			d := reopened(st)
			now.of(d)
			nodes = append(nodes, newCounter(t, d, func(_ context.Context, m server.Mail) error { sent <- m; return nil }))
		}
		to := map[string]server.Mail{}
		for range 2 {
			m := receive(t, sent)
			to[m.To.String()] = m
		}
		noted(t, st)
		now.add(time.Hour)
		nothing(t, sent)
		if len(to) != 2 {
			t.Fatalf("mails to %v", to)
		}
		if got := nodes[0].post(linkIn(to["bob@example.org"]), ""); got != 200 {
			t.Errorf("confirming at another node: %d", got)
		}
	})
}

// What was changed in the store makes no mail.
func TestMailsOfForgedRowsAreNotSent(t *testing.T) {
	for _, change := range []string{
		"UPDATE keydirserver_pending SET spelling = 'eve@example.org', address = 'eve@example.org'",
		"UPDATE keydirserver_pending SET seed = 'another'",
		"UPDATE keydirserver_pending SET used = 1",
	} {
		d, st := directory(t)
		now := newClock(today)
		now.of(d)
		sent, tried := make(chan server.Mail, 10), false
		c := newCounter(t, d, func(_ context.Context, m server.Mail) error {
			sent <- m
			if !tried {
				tried = true
				return errors.New("down")
			}
			return nil
		})
		c.submit(t, "192.0.2.1", "joe.doe@example.org")
		receive(t, sent) // and it isn't due again as yet
		if err := st.Update(ctx, func(tx store.Tx) error { _, err := tx.Exec(change); return err }); err != nil {
			t.Fatal(err)
		}
		now.add(time.Hour)
		nothing(t, sent)
	}
}

func TestAStrangerDoesNotUseUpTheMailsOfAnAddress(t *testing.T) {
	d, _ := directory(t)
	now := newClock(today)
	now.of(d)
	sent := make(chan server.Mail, 200)
	c := newCounter(t, d, func(_ context.Context, m server.Mail) error { sent <- m; return nil })
	for range 5 {
		c.submit(t, "198.51.100.7", "joe.doe@example.org")
	}
	stranger := receive(t, sent)
	receive(t, sent)
	nothing(t, sent)
	c.submit(t, "192.0.2.1", "joe.doe@example.org")
	receive(t, sent)
	c.submit(t, "192.0.2.1", "joe.doe@example.org")
	nothing(t, sent) // three are enough for a mailbox, unless it says:
	if got := c.post(linkIn(stranger), "refuse=1"); got != 200 || served(t, d) != nil {
		t.Errorf("refusing: %d", got)
	}
	if got := c.post(linkIn(stranger), ""); got != 404 {
		t.Errorf("confirming what was refused: %d", got)
	}
	c.submit(t, "198.51.100.7", "joe.doe@example.org")
	nothing(t, sent) // the stranger's word is spent
	c.submit(t, "192.0.2.1", "joe.doe@example.org")
	if got := c.post(linkIn(receive(t, sent)), ""); got != 200 || served(t, d) == nil {
		t.Errorf("the owner's: %d", got)
	}
	// Nor does one client write to everybody.
	for i := range 110 {
		c.submit(t, "198.51.100.7", fmt.Sprintf("user%d@example.org", i))
	}
	for range 98 { // and two to joe
		receive(t, sent)
	}
	nothing(t, sent)
	now.add(25 * time.Hour)
	c.submit(t, "198.51.100.7", "user1@example.org")
	receive(t, sent)
}

// Nor do uploads that nobody asks about keep others from theirs, or an owner from an
// authenticated PUT.
func TestUploadsOfOneClientAreBounded(t *testing.T) {
	d, st := directory(t)
	newClock(today).of(d)
	c := newCounter(t, d, nil)
	raw := string(cert(t, "joe.doe@example.org").Bytes())
	upload := func(from string) int {
		r := httptest.NewRequest("POST", "https://k/vks/v1/upload", strings.NewReader(raw))
		r.RemoteAddr = from + ":1"
		w := httptest.NewRecorder()
		c.h.ServeHTTP(w, r)
		return w.Code
	}
	for i := range 60 {
		if got, want := upload("198.51.100.7"), map[bool]int{true: 200, false: 429}[i < 50]; got != want {
			t.Fatalf("upload %d: %d, want %d", i, got, want)
		}
	}
	if got := upload("192.0.2.1"); got != 200 {
		t.Errorf("another client: %d", got)
	}
	err := st.Update(ctx, func(tx store.Tx) error {
		for i := range 5000 {
			_, err := tx.Exec(`INSERT INTO keydirserver_pending (token, way, address, spelling, fingerprint, certificate, made, ends, used, mac)
				VALUES (?, 'upload', '', '', '', ?, 0, ?, 0, ?)`, []byte(fmt.Sprint(i)), []byte{}, today.Add(time.Hour).UnixMicro(), []byte{})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := upload("192.0.2.2"); got != 429 {
		t.Errorf("beyond what is kept in all: %d", got)
	}
	o, k, a := &office{t: t, d: d, h: c.h}, key(t, "joe.doe@example.org"), addr(t, "joe.doe@example.org")
	invite, err := d.Invite(ctx, a)
	if err != nil {
		t.Fatal(err)
	}
	p := putting{PutRequest: keydir.PutRequest{Host: "openpgpkey.example.org", Address: a, Date: today, Nonce: strings.Repeat("y", 32), Body: k.Certificate().Bytes()},
		signer: k, invite: invite, path: a.String(), host: "openpgpkey.example.org"}
	if got, text := o.put(p); got != 204 {
		t.Errorf("an invited owner's PUT: %d %s", got, text)
	}
}

func receive(t testing.TB, sent chan server.Mail) server.Mail {
	t.Helper()
	select {
	case m := <-sent:
		return m
	case <-time.After(time.Minute):
		t.Fatal("no mail was sent")
		panic("")
	}
}

// noted waits until every mail that was sent is noted as sent. Until then a node
// holds it on a lease, which a clock that jumps would end.
func noted(t testing.TB, st store.Store) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); rows(t, st, "keydirserver_pending WHERE due > 0") > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("mails are not noted as sent")
		}
	}
}

func nothing(t testing.TB, sent chan server.Mail) {
	t.Helper()
	select {
	case m := <-sent:
		t.Errorf("a mail to %s was sent", m.To)
	case <-time.After(50 * time.Millisecond):
	}
}
