package index

import (
	"bytes"
	"context"
	"crypto/hmac"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

// Row is what is kept of an opened message. Of one whose class is not
// Encrypted only Class, Raw, Verdict, MessageID, From and Sent are set.
type Row struct {
	UID   uint32
	Class pgp.Class
	// Raw is the SHA-256 of the message as the upstream has it.
	Raw [32]byte
	// Size is RFC822.SIZE of the rendering.
	Size int64
	// Header is the rendering's root header, with the empty line that ends it.
	Header []byte
	// Envelope, Body and BodyStructure are in IMAP's syntax, parentheses included.
	Envelope, Body, BodyStructure []byte
	// Verdict is that of the last opening, by which the keywords go. What the
	// rendering says was frozen with the first.
	Verdict   pgp.Verdict
	MessageID string
	// From is the one address of the rendering's From, else zero.
	From address.Address
	// Sent is the rendering's Date, zero if it has none.
	Sent time.Time
}

// lends tells whether what clients were shown of a message says of its signature
// what isn't so of another one that the upstream gives now. Of servers that write
// fields of their own into a message later it is the same one.
func (r *Row) lends(now *Row) bool {
	if r.Class != pgp.Encrypted || r.Raw == now.Raw {
		return false
	}
	status := message.ParseHeader(r.Header).Get(pgp.StatusField) // as it was frozen
	if !r.Verdict.Signature.Good() && !strings.Contains(status, "signature="+string(pgp.SignatureValid)) && !strings.Contains(status, "signature="+string(pgp.SignatureGateway)) {
		return false
	}
	return now.Class != pgp.Encrypted || now.Verdict.Signature != r.Verdict.Signature || now.Verdict.Signer != r.Verdict.Signer ||
		!bytes.Equal(now.Envelope, r.Envelope) || !bytes.Equal(now.BodyStructure, r.BodyStructure)
}

const rowColumns = `uid, class, raw, transform, size, sent, sender, signer, message_id, header, envelope, body, structure, verdict, mac`

// Row reads the row of an opened message, or gives store.ErrNoRow: the UID was
// not opened yet, or by another version, and its Rendering makes the row.
func (m *Mailbox) Row(ctx context.Context, uid uint32) (*Row, error) {
	m.lib.touch()
	r, err := m.row(ctx, uid)
	if err != nil {
		return nil, fmt.Errorf("index row of UID %d: %w", uid, err)
	}
	return r, nil
}

func (m *Mailbox) row(ctx context.Context, uid uint32) (r *Row, err error) {
	err = m.lib.c.Store.View(ctx, func(tx store.Tx) error {
		r, err = m.readRow(tx, uid)
		return err
	})
	return r, err
}

// anyRow is row, of every transform.
func (m *Mailbox) anyRow(ctx context.Context, uid uint32) (r *Row, err error) {
	err = m.lib.c.Store.View(ctx, func(tx store.Tx) error {
		r, _, err = m.readAnyRow(tx, uid)
		return err
	})
	return r, err
}

// Rows calls each for every one of uids that has a row, in the order of uids.
// UIDs without one are left out. Many in one call are one transaction, during
// which each must not use the store.
func (m *Mailbox) Rows(ctx context.Context, uids []uint32, each func(*Row) error) error {
	m.lib.touch()
	return m.lib.c.Store.View(ctx, func(tx store.Tx) error {
		for _, uid := range uids {
			r, err := m.readRow(tx, uid)
			if errors.Is(err, store.ErrNoRow) {
				continue
			}
			if err != nil {
				return err
			}
			if err := each(r); err != nil {
				return err
			}
		}
		return nil
	})
}

// readRow reads and authenticates a row. One that does not fit its MAC, or is of
// another transform, is as good as none: the message is opened again.
func (m *Mailbox) readRow(tx store.Tx, uid uint32) (*Row, error) {
	r, version, err := m.readAnyRow(tx, uid)
	if err == nil && version != m.lib.transform {
		return nil, store.ErrNoRow
	}
	return r, err
}

// readAnyRow is readRow, and gives rows of every transform: which message was opened
// is true of all.
func (m *Mailbox) readAnyRow(tx store.Tx, uid uint32) (_ *Row, version int64, _ error) {
	var (
		r                            Row
		n, sent                      int64
		class, sender                string
		signer                       string
		raw, verdict, mac            []byte
		header, env, body, structure []byte
	)
	err := tx.Row(`SELECT `+rowColumns+` FROM index_row WHERE mailbox = ? AND uid = ?`, []any{m.id, int64(uid)},
		&n, &class, &raw, &version, &r.Size, &sent, &sender, &signer, &r.MessageID, &header, &env, &body, &structure, &verdict, &mac)
	if err != nil {
		return nil, 0, err
	}
	r.UID, r.Class, r.Header, r.Envelope, r.Body, r.BodyStructure = uid, pgp.Class(class), header, env, body, structure
	copy(r.Raw[:], raw)
	if sent != 0 {
		r.Sent = time.UnixMicro(sent)
	}
	if sender != "" {
		r.From, _ = address.Parse(sender)
	}
	if !hmac.Equal(m.rowMAC(&r, version, verdict), mac) || json.Unmarshal(verdict, &r.Verdict) != nil {
		return nil, 0, store.ErrNoRow
	}
	return &r, version, nil
}

// rowMAC authenticates a row.
func (m *Mailbox) rowMAC(r *Row, version int64, verdict []byte) []byte {
	return m.lib.c.Store.MAC("index row", []byte(m.lib.c.Account), []byte(m.key.name),
		number(uint64(m.key.uidvalidity)), number(uint64(r.UID)), []byte(r.Class), r.Raw[:], number(uint64(version)),
		number(uint64(r.Size)), number(uint64(microseconds(r.Sent))), []byte(sender(r)), []byte(r.MessageID),
		r.Header, r.Envelope, r.Body, r.BodyStructure, verdict)
}

func microseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func sender(r *Row) string {
	if r.From.IsZero() {
		return ""
	}
	return r.From.String()
}

// writeRow writes a row and freezes its verdict.
func (m *Mailbox) writeRow(tx store.Tx, r *Row) error {
	verdict, err := json.Marshal(r.Verdict)
	if err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO index_row (mailbox, `+rowColumns+`)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (mailbox, uid) DO UPDATE SET class = excluded.class, raw = excluded.raw, transform = excluded.transform,
			size = excluded.size, sent = excluded.sent, sender = excluded.sender, signer = excluded.signer,
			message_id = excluded.message_id, header = excluded.header, envelope = excluded.envelope, body = excluded.body,
			structure = excluded.structure, verdict = excluded.verdict, mac = excluded.mac`,
		m.id, int64(r.UID), string(r.Class), r.Raw[:], m.lib.transform, r.Size, microseconds(r.Sent), sender(r),
		string(r.Verdict.Signer), r.MessageID, r.Header, r.Envelope, r.Body, r.BodyStructure, verdict, m.rowMAC(r, m.lib.transform, verdict))
	return err
}
