package imapd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"letterlock.org/letterlock/imapd/render"
	"letterlock.org/letterlock/imapd/wire"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

// appendBefore tells whether the next literal of an APPEND is its message.
func appendBefore(args []wire.Token) bool { return len(args) >= 1 && len(args) <= 3 }

// append is APPEND (RFC 3501, Section 6.3.11). The upload is spooled, sealed for
// its owner unless the account says otherwise, and only then sent on; the
// client's OK is the upstream's.
func (s *session) append(c *wire.Command) error {
	m := c.Message
	if m == nil {
		s.reject(c, "APPEND takes a mailbox and a message")
		return nil
	}
	prefix, ok := appendPrefix(c.Args)
	if !ok {
		if err := m.Refuse(); err != nil {
			return err
		}
		s.reject(c, "APPEND takes a mailbox, flags, a date and one message")
		return nil
	}
	if m.Size > s.appendLimit() {
		if err := m.Refuse(); err != nil {
			return err
		}
		s.local(c.Tag, "NO [TOOBIG] the message is too large")
		return nil
	}
	if m.Size == 0 { // RFC 3502 makes that the end of a MULTIAPPEND; here it is nothing
		if err := m.Refuse(); err != nil {
			return err
		}
		s.local(c.Tag, "NO empty message")
		return nil
	}
	up, err := s.upload(m)
	if errors.Is(err, wire.ErrSyntax) {
		s.reject(c, err.Error())
		return nil
	}
	if err != nil {
		return err
	}
	defer up.Close()
	if up.err != nil {
		s.log.Warn("upload could not be spooled", "reason", reason(up.err))
		s.local(c.Tag, "NO [LIMIT] the message cannot be taken now")
		return nil
	}
	src, err := s.sealed(c.Args, up)
	if errors.Is(err, message.ErrLimit) {
		s.local(c.Tag, "NO [LIMIT] the message has too many parts, levels or fields to be shown again once it is sealed")
		return nil
	}
	if err != nil {
		// Never stored as it is instead: that would be plaintext upstream.
		s.log.Warn("upload could not be sealed", "reason", reason(err))
		s.local(c.Tag, "NO [UNAVAILABLE] the message cannot be sealed now, and is not stored unsealed")
		return nil
	}
	if c, ok := src.(io.Closer); ok {
		defer c.Close()
	}
	return s.sendAppend(c.Tag, prefix, src)
}

// appendPrefix is what stands before the message, without our keywords.
func appendPrefix(args []wire.Token) (*wire.Out, bool) {
	if len(args) < 1 || !args[0].IsString() {
		return nil, false
	}
	o := (&wire.Out{}).String("APPEND ").Token(args[0])
	rest := args[1:]
	if len(rest) > 0 && rest[0].Kind == wire.List {
		o.String(" ").Token(withoutOurs(rest[0]))
		rest = rest[1:]
	}
	if len(rest) > 0 && rest[0].Kind == wire.Quoted {
		o.String(" ").Token(rest[0])
		rest = rest[1:]
	}
	return o.String(" "), len(rest) == 0
}

// upload is a message on its way from a client.
type upload struct {
	*message.Spool
	err error // it could not be spooled; it was read to its end all the same
}

// upload reads the client's message to its end.
func (s *session) upload(m *wire.Message) (*upload, error) {
	if err := m.Accept(); err != nil {
		return nil, err
	}
	up := &upload{Spool: message.NewSpool(s.account.Spool)}
	w := &spoolWriter{w: up.Spool}
	_, err := io.Copy(w, m)
	if err == nil {
		err = m.End()
	}
	if err != nil {
		_ = up.Close()
		return nil, err
	}
	up.err = w.err
	return up, nil
}

// sealed gives what is to be stored: sealed, or as it is where the account wants
// that or it is encrypted already.
func (s *session) sealed(args []wire.Token, up *upload) (message.Source, error) {
	seals, err := s.seals(args, up)
	if err != nil {
		return nil, err
	}
	if !seals || alreadyEncrypted(up) {
		return up.Spool, nil
	}
	// What no rendering can be made of would never be readable here again.
	if _, err := message.Parse(up, message.Limits{}); errors.Is(err, message.ErrLimit) {
		return nil, err
	}
	if s.account.Seal == nil {
		return nil, errors.New("no key to seal with")
	}
	src, err := unimitated(up)
	if err != nil {
		return nil, err
	}
	out := message.NewSpool(s.account.Spool)
	if err := s.account.Seal(s.ctx, out, src); err != nil {
		_ = out.Close()
		return nil, fmt.Errorf("sealing: %w", err)
	}
	return out, nil
}

// unimitated is an upload with imitations of our fields masked in place, as they
// are in mail that isn't sealed: of what is shown again as it was uploaded we say
// nothing by them, and whoever wrote it may have.
func unimitated(up *upload) (message.Source, error) {
	h, err := message.ReadHeader(up.Spool, 0)
	if err != nil {
		return nil, err
	}
	found := render.Imitations(h.Raw)
	if len(found) == 0 {
		return up.Spool, nil
	}
	head := bytes.Clone(h.Raw)
	render.Mask(head, 0, found)
	n := int64(len(head))
	return message.Concat(message.Bytes(head), message.Section(up.Spool, n, up.Size()-n)), nil
}

// alreadyEncrypted tells whether a message is PGP/MIME encrypted as a whole
// (RFC 3156, Section 4): sealing it again would only hide it. What only says so,
// or has room for text beside its encrypted part, is not.
func alreadyEncrypted(src message.Source) bool {
	root, err := message.Parse(src, message.Limits{})
	if err != nil {
		return false
	}
	s, err := pgp.IsSealedSubmission(root, src)
	if err != nil || s.Kind != pgp.PGPMIME {
		return false
	}
	// Before the parts programs say what this is; beside and behind them is nothing.
	return root.Children[0].Start-root.Body <= 512
}

// sendAppend sends the message and passes the upstream's answer on.
func (s *session) sendAppend(tag string, prefix *wire.Out, src message.Source) error {
	if err := s.relay.barrier(); err != nil {
		return err
	}
	p := &pending{tag: tag}
	o := *prefix
	if err := s.relay.sendMessage(&o, src, p); err != nil {
		return err
	}
	_, _, err := s.relay.await(p)
	return err
}

// sendMessage sends a command that ends in a literal read from src. It waits for
// the upstream to ask for it: in somebody's mail there may be lines that are
// commands, and header fields of it are outside of what we seal.
func (r *relay) sendMessage(o *wire.Out, src message.Source, p *pending) error {
	if err := r.afterLiteral(); err != nil {
		return err
	}
	if err := r.enqueue(p); err != nil {
		return err
	}
	w := r.s.up.w
	_, _ = w.WriteString(p.upTag + " ")
	for _, part := range o.Parts {
		if part.Literal {
			if ok, err := r.announce(p, int64(len(part.Bytes))); err != nil || !ok {
				return err
			}
		}
		_, _ = w.Write(part.Bytes)
	}
	if ok, err := r.offer(p, src.Size()); err != nil || !ok {
		return err
	}
	if _, err := io.Copy(sending{r}, message.Reader(src)); err != nil {
		// Half a literal cannot be taken back.
		_ = r.s.up.conn.Close()
		return err
	}
	if _, err := (sending{r}).Write([]byte("\r\n")); err != nil {
		return err
	}
	defer r.waitAnew()
	return w.Flush()
}

// sending writes what the upstream answers once it has all of it.
type sending struct{ r *relay }

// Write implements io.Writer.
func (s sending) Write(p []byte) (int, error) {
	defer s.r.waitAnew()
	return s.r.s.up.w.Write(p)
}

// spoolLimit is how long a message may be that we keep for a while.
func (s *session) spoolLimit() int64 {
	if limit := s.account.Spool.Limit; limit > 0 {
		return limit
	}
	return 128 << 20
}

// appendLimit is how long an upload may be: sealing makes it longer by a third
// and some.
func (s *session) appendLimit() int64 {
	limit := s.spoolLimit() * 10 / 14
	for _, c := range s.up.capList {
		if n := appendLimit(strings.ToUpper(c)); n > 0 {
			limit = min(limit, n)
		}
	}
	return limit
}

// appendLimit is what we announce for the upstream's APPENDLIMIT (RFC 7889), or 0.
func appendLimit(capability string) int64 {
	v, ok := strings.CutPrefix(capability, "APPENDLIMIT=")
	n, err := strconv.ParseInt(v, 10, 64)
	if !ok || err != nil || n < 0 {
		return 0
	}
	return n / 14 * 10
}

func number64(t wire.Token) (uint64, bool) {
	n, err := strconv.ParseUint(string(t.Value), 10, 64)
	return n, err == nil
}
