package smtpd

import (
	"fmt"
	"slices"
	"time"

	"letterlock.org/letterlock/internal/message"
)

// client is one authenticated connection to an upstream. Not for concurrent use.
type client struct {
	*link
	caps      Capabilities
	pipelines bool     // RFC 2920
	sized     bool     // RFC 1870, whether or not it tells the most that it takes
	auth      []string // mechanisms
	starttls  bool
	t         Timeouts
	helo      string // our name
	reused    bool   // it carried a transaction before, and may be dead by now
	served    bool   // it took a MAIL before, and may take no more
	dirty     bool   // a transaction is open, or may be
	broken    bool   // it must not be used again
	ahead     *ahead // the message that is on its way already; nil for none
	idleSince time.Time
}

// ask sends one command and reads its reply. Errors break the connection.
func (c *client) ask(line string, d time.Duration) (reply, error) {
	rs, err := c.askAll([]string{line}, d)
	if err != nil {
		return reply{}, err
	}
	return rs[0], nil
}

// askAll sends commands in one go where the upstream allows it (RFC 2920),
// else one by one, and reads all replies. Errors break the connection, and so does a
// 421, which is the reply to all that comes behind it too: it hangs up (RFC 5321,
// Section 3.8).
func (c *client) askAll(lines []string, d time.Duration) (rs []reply, err error) {
	defer func() {
		if err != nil {
			c.broken = true
		}
	}()
	if c.r.Buffered() > 0 {
		return nil, fmt.Errorf("a reply to nothing: %w", errUpstream)
	}
	for i, l := range lines {
		if err := c.command(l); err != nil {
			return nil, err
		}
		if c.pipelines && i < len(lines)-1 {
			continue
		}
		if err := c.flush(); err != nil {
			return nil, fmt.Errorf("%w: %w", errUpstream, err)
		}
		for len(rs) <= i {
			r, err := c.reply(d)
			if err != nil {
				return nil, err
			}
			rs = append(rs, r)
			if r.Code == 421 {
				c.broken = true
				return append(rs, slices.Repeat([]reply{r}, len(lines)-len(rs))...), nil
			}
		}
	}
	return rs, nil
}

// errFull means that a connection takes no further message. Servers bound those of one
// connection: they hang up, or refuse MAIL for now with a 421 or another reply. Whether
// that was meant, a new connection tells.
var errFull = fmt.Errorf("no further message over this connection: %w", errUpstream)

// begin starts a transaction: MAIL and RCPTs. The first reply is MAIL's.
func (c *client) begin(mail string, rcpts []string) ([]reply, error) {
	lines := make([]string, 0, len(rcpts)+2)
	reset := c.dirty
	if reset {
		lines = append(lines, "RSET")
	}
	c.dirty = true
	lines = append(append(lines, mail), rcpts...)
	rs, err := c.askAll(lines, c.t.Command)
	if err != nil && c.served {
		return nil, fmt.Errorf("%w: %w", errFull, err)
	}
	if err != nil {
		return nil, err
	}
	if reset {
		if rs[0].Code != 250 {
			c.broken = true
			return nil, fmt.Errorf("RSET: %w: %v", errUpstream, rs[0])
		}
		rs = rs[1:]
	}
	if c.served && rs[0].temporary() {
		c.broken = true
		return nil, errFull
	}
	c.reused, c.served = true, c.served || rs[0].ok()
	return rs, nil
}

// startData sends DATA. A refusal is returned as an error of type reply.
func (c *client) startData() error {
	r, err := c.ask("DATA", c.t.Command)
	if err != nil {
		return err
	}
	switch {
	case r.Code == 354:
		return nil
	case r.Code/100 == 4, r.Code/100 == 5:
		return r
	default: // such as a 250 that belongs to another command: nothing was taken
		c.broken = true
		return fmt.Errorf("reply %d to DATA: %w", r.Code, errUpstream)
	}
}

// data sends DATA and the message, all but the final dot, or what is left to send
// of one that is on its way. A refusal is returned as an error of type reply.
func (c *client) data(body message.Source) (err error) {
	if a := c.ahead; a != nil {
		c.ahead = nil
		err = a.end()
	} else {
		if err := c.startData(); err != nil {
			return err
		}
		err = c.body(body)
	}
	if err != nil {
		return c.midway(err)
	}
	return nil
}

// midway is an error of sending a message. Where the upstream has told why it takes no
// more of it, that is a reply too: many say that a message is too large before its end.
func (c *client) midway(err error) error {
	c.broken = true
	if r, said := c.lastWords(); said {
		return fmt.Errorf("%w: %w", errMidway, r)
	}
	return fmt.Errorf("%w: %w", errMidway, err)
}

// lastWords is the refusal that an upstream has sent without being asked, before the
// final dot: then it can't have taken the message.
func (c *client) lastWords() (reply, bool) {
	r, err := c.reply(lastWordsTime)
	return r, err == nil && (r.Code/100 == 4 || r.Code/100 == 5)
}

// lastWordsTime is for the rest of a reply, of which there is something already, or of
// a connection that is broken.
const lastWordsTime = time.Second

// hold passes on what is still in our buffer, while the transaction is open.
func (c *client) hold() error {
	if err := c.flush(); err != nil {
		c.broken = true
		return fmt.Errorf("%w: %w", errUpstream, err)
	}
	return nil
}

// final sends what hold has not passed on, and the final dot, and reads the
// reply. After an error nobody knows whether the message was taken (RFC 1047).
// Where the dot could not be written whole, it surely was not: that is a reply.
func (c *client) final() (reply, error) {
	if err := c.command("."); err != nil {
		c.broken = true
		return reply{}, err
	}
	if c.flush() != nil {
		c.broken = true
		return reply{Code: 451, Status: "4.4.2", Text: "the connection broke before the end of the message"}, nil
	}
	r, err := c.reply(c.t.Final)
	if err != nil {
		c.broken = true
		return reply{}, err
	}
	if class := r.Code / 100; class != 2 && class != 4 && class != 5 { // it is no answer to this
		err = fmt.Errorf("reply %d to the end of the message: %w", r.Code, errUpstream)
	}
	c.broken = c.broken || err != nil || r.Code == 421
	c.dirty = false
	return r, err
}

// close ends the connection at once; an open transaction is thereby void.
func (c *client) close() {
	c.broken = true
	c.conn.Close()
}

// quit ends the connection politely, without waiting for the answer.
func (c *client) quit() {
	c.conn.SetWriteDeadline(time.Now().Add(time.Second))
	c.command("QUIT")
	c.flush()
	c.close()
}
