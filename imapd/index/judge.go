package index

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"

	"letterlock.org/letterlock/imapd/render"
	"letterlock.org/letterlock/imapd/search"
	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/letters"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

// renderingMemory bounds what each cached rendering keeps in memory; the rest
// of it is in an unlinked, encrypted file.
const renderingMemory = 64 << 10

// judged is one message after pgp.Open, before anything is stored.
type judged struct {
	opened  *pgp.Opened
	first   bool     // no verdict was frozen before
	results []string // of Authentication-Results outside; where first
	ticket  *ticket
	row     *Row
	message *render.Message // nil unless Encrypted
	texts   []search.Text   // what is searched
	whole   bool            // texts is all of it
	ids     []string        // what a reply to it would name
	state   state
}

func (o *judged) close() {
	if o.opened.Rendering != nil {
		o.opened.Rendering.Close()
		o.opened.Rendering = nil
	}
}

// judge opens src. It stores nothing; the caller ends the ticket.
func (l *Library) judge(ctx context.Context, src message.Source) (*judged, error) {
	h := sha256.New()
	if _, err := io.Copy(h, message.Reader(src)); err != nil {
		return nil, err
	}
	o := &judged{ticket: &ticket{lib: l}, row: &Row{}}
	h.Sum(o.row.Raw[:0])
	frozen, err := l.frozen(ctx, o.row.Raw)
	if err != nil {
		return nil, err
	}
	if o.first = frozen == nil; o.first {
		if o.results, err = l.observeOuter(ctx, src); err != nil {
			return nil, err
		}
	}
	keys, err := l.c.Keys(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range keys.Certificates() {
		o.ticket.keys = append(o.ticket.keys, c.Fingerprint())
	}
	spool := l.c.Spool
	if spool.Memory == 0 || spool.Memory > renderingMemory {
		spool.Memory = renderingMemory
	}
	done := false
	defer func() {
		if !done { // by a panic, too: others wait for what it claimed
			o.ticket.end()
		}
	}()
	o.opened, err = l.c.Open(ctx, src, pgp.Opening{
		Keys: keys, Certificates: l.c.Certificates, Own: *l.names.Load(), Replayed: o.ticket.replayed, Frozen: frozen, Spool: spool,
	})
	if err == nil {
		err = l.described(ctx, o)
	}
	if err != nil {
		if o.opened != nil {
			o.close()
		}
		return nil, err
	}
	done = true
	return o, nil
}

// tooLarge judges a message that no spool takes: it is shown as it arrived.
func tooLarge(l *Library) *judged {
	return &judged{
		opened: &pgp.Opened{Class: pgp.Opaque, Reason: "it is larger than what is opened"},
		ticket: &ticket{lib: l},
		row:    &Row{Class: pgp.Opaque},
		state:  settled | kwWarning,
	}
}

// describe fills in what the rendering says of itself.
func (l *Library) describe(ctx context.Context, o *judged) error {
	r := o.row
	if o.opened.Class == pgp.Encrypted {
		m, err := render.New(o.opened.Rendering, message.Limits{})
		switch {
		case errors.Is(err, message.ErrLimit):
			o.close()
			o.opened.Class, o.opened.Reason = pgp.Opaque, "its decrypted content exceeds a limit on structure"
		case err != nil:
			return err
		default:
			o.message = m
			r.Size = o.opened.Rendering.Size()
			r.Header, r.Envelope, r.Body, r.BodyStructure = m.Header(), m.Envelope(), m.Body(), m.BodyStructure()
			if o.texts, o.whole, err = search.Extract(m); err != nil {
				return err
			}
			if o.ids, err = RepliedTo(m); err != nil {
				return err
			}
		}
	}
	r.Class, r.Verdict = o.opened.Class, o.opened.Verdict
	r.MessageID, r.From, r.Sent = o.opened.MessageID, o.opened.From, o.opened.Date
	identity, err := l.identity(ctx, r)
	if err != nil {
		return err
	}
	o.state = settled | keywordsOf(r.Class, r.Verdict, identity)
	if o.whole {
		o.state |= hasText
	}
	return nil
}

// identity is how sure we are of a row's signer today.
func (l *Library) identity(ctx context.Context, r *Row) (pgp.Identity, error) {
	if !r.Verdict.Signature.Good() || r.Verdict.Signer == "" || r.From.IsZero() {
		return r.Verdict.Identity, nil
	}
	now, err := l.c.Certificates.Identity(ctx, r.From, r.Verdict.Signer)
	if err != nil {
		return "", fmt.Errorf("asking how sure a signer is: %w", err)
	}
	if now == pgp.Unknown && r.Verdict.Signature == pgp.SignatureGateway { // the key of the domain
		if now, err = l.c.Certificates.Identity(ctx, pgp.GatewayAddress(r.From.Domain), r.Verdict.Signer); err != nil {
			return "", fmt.Errorf("asking how sure a gateway's key is: %w", err)
		}
	}
	return now, nil
}

// settle stores what was judged of uid, and tells those who watch.
func (m *Mailbox) settle(ctx context.Context, uid uint32, o *judged) error {
	o.row.UID = uid
	before, err := m.row(ctx, uid)
	if err != nil && !errors.Is(err, store.ErrNoRow) {
		return err
	}
	same := before != nil && before.Raw == o.row.Raw && before.Class == pgp.Encrypted
	if same && o.opened.Class != pgp.Encrypted {
		return ErrChanged
	}
	if before != nil && before.lends(o.row) {
		return m.swapped(ctx, uid)
	}
	if same && before.Size == o.row.Size && m.entry(uid).state == o.state {
		return nil // opened again after its rendering was evicted
	}
	e := entry{class: o.opened.Class, state: o.state}
	if err := m.change(ctx, uid, e, func(tx store.Tx, e entry) error { return m.write(tx, e, o) }); err != nil {
		return err
	}
	m.mu.Lock()
	again := m.again[uid]
	delete(m.again, uid)
	m.mu.Unlock()
	if o.first && before == nil && !again {
		m.lib.observeOpened(ctx, o)
	}
	return nil
}

// swapped notes, for status, that uid is another message now.
func (m *Mailbox) swapped(ctx context.Context, uid uint32) error {
	err := m.lib.c.Store.Update(ctx, func(tx store.Tx) error {
		_, err := tx.Exec(`UPDATE index_message SET reason = ? WHERE mailbox = ? AND uid = ?`, ErrSwapped.Error(), m.id, int64(uid))
		return err
	})
	return errors.Join(ErrSwapped, err)
}

// write is the transaction of settle.
func (m *Mailbox) write(tx store.Tx, e entry, o *judged) error {
	if err := m.put(tx, o.row.UID, e, o.opened.Reason); err != nil {
		return err
	}
	if e.class == pgp.Encrypted || e.class == pgp.Signed {
		if err := m.writeRow(tx, o.row); err != nil {
			return err
		}
	}
	if e.class != pgp.Encrypted {
		return nil
	}
	if err := m.writeText(tx, o.row.UID, o.texts); err != nil {
		return err
	}
	if o.first {
		if err := m.lib.freeze(tx, o.row.Raw, o.row.Verdict); err != nil {
			return err
		}
	}
	what, account := openedLetter, anyAccount
	if o.opened.Verdict.Sealed {
		// Of somebody else's mail, which was put into a mailbox here, the others
		// may have copies that came in clear.
		if what = openedSealed; !m.lib.own(o.opened.From) {
			account = m.lib.c.Account
		}
	}
	for _, id := range o.ids {
		if err := m.lib.mark(tx, account, what, id); err != nil {
			return err
		}
	}
	return o.ticket.write(tx)
}

// own tells whether an address is of the account.
func (l *Library) own(a address.Address) bool {
	return slices.ContainsFunc(*l.names.Load(), a.Equal)
}

// RepliedTo is what a reply to a message would name, as message.MessageIDs spells
// it: each Message-ID that a mail program may take for its own; as "ical:" and its
// UID, every event that it invites to; and, for answers that name nothing, whose
// letter it is about what (package letters).
func RepliedTo(m *render.Message) ([]string, error) {
	var ids []string
	h := message.ParseHeader(m.Header())
	for _, f := range h.All("Message-ID") {
		ids = append(ids, message.MessageIDs(f.Value())...)
	}
	ids = append(ids[:min(len(ids), maxIDs)], lettersOf(h)...)
	uids, err := search.CalendarUIDs(m)
	for _, uid := range uids {
		ids = append(ids, calendarPrefix+uid)
	}
	return ids, err
}

// Bounds on the Message-IDs that one message may have, and on its senders.
const (
	maxIDs     = 1000
	maxSenders = 8
)

// lettersOf are the letters that an answer to a message may quote without naming it.
func lettersOf(h message.Header) (ids []string) {
	var senders []address.Address
	for _, from := range h.All("From") {
		list, err := address.ParseList(from.Value())
		if err != nil {
			continue
		}
		for _, m := range list[:min(len(list), maxSenders-len(senders))] {
			senders = append(senders, m.Address)
		}
	}
	for _, subject := range h.All("Subject") {
		said := subject.Text() // once: there may be thousands
		for _, from := range senders {
			if id := letters.ID(from, said); id != "" && len(ids) < maxSenders {
				ids = append(ids, id)
			}
		}
	}
	return ids
}
