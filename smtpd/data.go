package smtpd

import (
	"errors"
	"strconv"
	"strings"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/meter"
	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/smtpd/queue"
	"letterlock.org/letterlock/smtpd/wire"
)

// submission is one message as the client gave it.
type submission struct {
	src       message.Source
	root      *message.Part
	from      address.Address // the first author
	messageID string
	key       string // see queue.Key
	plain     bool   // see pgp.Protection
	// others have the same message, by another transaction, or by this one before
	// some of it was held.
	others []heldOther
	// waited: src is of a copy that the rules had let go in clear and that has waited
	// since, see Review; then word is what was taken off its subject, "" for nothing,
	// and size that of what the client gave, 0 if unknown.
	waited bool
	word   string
	size   int64
}

// data is DATA: it reads the message and sends it.
func (s *session) data() error {
	if s.env == nil || s.env.chunks != nil || len(s.env.rcpts) == 0 {
		return s.noData()
	}
	s.conn.put(354, "", "go on; the end is a line with a dot only")
	in := s.newIntake()
	defer in.close()
	defer s.expect()()
	var dots wire.DataDecoder
	s.conn.messages(true)
	defer s.conn.messages(false)
	for {
		block, err := s.conn.in.Block()
		if err != nil {
			return s.lost(err)
		}
		out, rest, done := dots.Decode(block)
		in.take(out)
		if done {
			s.conn.in.Unread(len(rest))
			break
		}
	}
	s.over = s.over || dots.Doubtful()
	in.plain = !in.other && dots.Longest() <= pgp.PlainLine
	return s.whole(in, dots.Bad())
}

// noData refuses DATA. What came behind it without waiting can only be a message
// (RFC 2920, Section 3.1): its lines are no commands.
func (s *session) noData() error {
	s.over = s.over || s.conn.in.Buffered() > 0
	return s.nobody()
}

// nobody refuses a message that has no recipients, or comes in the middle of another.
func (s *session) nobody() error {
	if s.env != nil && s.env.chunks == nil && len(s.env.named) > 0 {
		return permanent(554, "5.5.1", "there are no recipients who get it")
	}
	return permanent(503, "5.5.1", "RCPT first")
}

// expect has others who are about to write the journal wait for us a little, until
// what it returns is called.
func (s *session) expect() (came func()) {
	s.came = s.server.c.Queue.Expect()
	return s.came
}

// chunk is BDAT (RFC 3030): a piece of the message, of a length that is told.
func (s *session) chunk(args string) error {
	size, last, ok := parseChunk(args)
	if !ok {
		s.over = true // nobody knows where the next command is
		return permanent(501, "5.5.4", "use BDAT LENGTH [LAST]")
	}
	var in *intake
	if s.env != nil && len(s.env.rcpts) > 0 {
		if s.env.chunks == nil {
			s.env.chunks = s.newIntake()
		}
		in = s.env.chunks
	}
	if size > s.maxSize() {
		s.over = true // it isn't worth being read
		large := permanent(552, "5.3.4", "the message is too large")
		if in != nil {
			s.ended(large)
		}
		return large
	}
	if in != nil { // a chunk of no transaction becomes no message
		defer s.expect()()
	}
	if err := s.readChunk(size, in); err != nil {
		return s.lost(err)
	}
	switch {
	case in == nil:
		return s.nobody()
	case in.err != nil || last:
		return s.whole(in, s.env.checks.Bad())
	}
	return answer(250, "2.0.0", "go on")
}

// parseChunk reads the arguments of BDAT.
func parseChunk(args string) (size int64, last, ok bool) {
	digits, word, more := strings.Cut(args, " ")
	if digits == "" || len(digits) > 18 || strings.Trim(digits, "0123456789") != "" {
		return 0, false, false
	}
	if more && !strings.EqualFold(word, "LAST") {
		return 0, false, false
	}
	size, err := strconv.ParseInt(digits, 10, 64)
	return size, more, err == nil
}

// readChunk reads n bytes into in, or to nowhere.
func (s *session) readChunk(n int64, in *intake) error {
	s.conn.messages(true)
	defer s.conn.messages(false)
	for n > 0 {
		block, err := s.conn.in.Block()
		if err != nil {
			return err
		}
		if over := int64(len(block)) - n; over > 0 {
			s.conn.in.Unread(int(over))
			block = block[:n]
		}
		if n -= int64(len(block)); in != nil {
			s.env.checks.Check(block)
			in.take(block)
		}
	}
	return nil
}

// lost ends a session that broke off within a message.
func (s *session) lost(err error) error {
	s.log.Debug("session", "err", err)
	s.over = true
	return answer(421, "4.4.2", "the message broke off")
}

// whole ends a transaction: its message was read to the end.
func (s *session) whole(in *intake, bare bool) error {
	defer s.reset()
	defer in.close()
	reply := answer(421, "4.3.0", "internal error") // where a panic ends it
	defer func() { s.ended(reply) }()
	reply = s.replyTo(in, bare)
	return reply
}

// replyTo sends a message that was read, if it is one, and returns the reply.
func (s *session) replyTo(in *intake, bare bool) error {
	switch {
	case in.err != nil:
		return s.fault("reading the message", in.err)
	case bare:
		s.log.Info("submission", "outcome", "refused", "reason", wire.ErrBareLineEnd)
		s.server.c.Count("refused")
		return permanent(554, "5.6.0", "the message has a bare CR or LF; the mail program must end lines with CRLF")
	}
	start := s.server.c.Now()
	err := s.receive(in)
	s.server.c.Meter.Took(meter.Accept, s.server.c.Now().Sub(start))
	var r *ownReply
	if errors.As(err, &r) && r.Code/100 == 2 {
		s.bad, s.clients = 0, 0
	}
	return err
}

// receive checks what the message says of itself, and sends it.
func (s *session) receive(in *intake) error {
	sub, err := s.read(in)
	if err != nil {
		return err
	}
	release, ok := s.server.c.Queue.Claim(sub.key, s.env.keys()...)
	if !ok {
		return temporary("4.4.5", "the same message is being sent right now; try again in a minute")
	}
	defer release()
	return s.submit(s.ctx, sub)
}

func (s *session) read(in *intake) (sub submission, err error) {
	sub.src, sub.plain = in.spool, in.plain
	sub.root, err = in.parser.End()
	if err != nil {
		return sub, s.fault("reading the message", err)
	}
	if s.account.Relay != nil {
		if err := s.looping(sub.root.Header); err != nil {
			return sub, err
		}
	}
	if err = s.nameAuthor(&sub); err != nil {
		return sub, err
	}
	if sub.from, err = s.author(sub.root.Header); err != nil {
		return sub, err
	}
	if !s.account.anySender() && s.env.from.IsZero() && !sub.root.Is("multipart/report") {
		return sub, permanent(550, "5.7.1", "without a sender address only read receipts and other reports are sent")
	}
	id := sub.root.Header.Get("Message-ID")
	if !strings.HasPrefix(id, "<") || !strings.HasSuffix(id, ">") || len(message.MessageIDs(id)) != 1 {
		return sub, nil
	}
	if sub.key = queue.Key(s.account.key(), id, in.sum()); len(id) <= maxMessageID {
		sub.messageID, s.env.messageID = id, id
	}
	return sub, nil
}

// maxMessageID is the bytes of a Message-ID that the journal keeps with each copy, for
// days, and that reports have in a line of 998 (RFC 5322, Section 2.1.1).
const maxMessageID = 900
