package imapd

import (
	"context"
	"strconv"
	"strings"
	"time"

	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/imapd/wire"
)

// copy is COPY, MOVE and their UID forms. What is known of the messages is
// copied with them, so that copies need not be opened again.
func (s *session) copy(c *wire.Command) error {
	uid := strings.HasPrefix(c.Name, "UID ")
	if len(c.Args) != 2 || !c.Args[1].IsString() {
		s.reject(c, "takes a set and a mailbox")
		return nil
	}
	if strings.HasSuffix(c.Name, "MOVE") && !s.up.has("MOVE") {
		s.reject(c, "MOVE is not offered")
		return nil
	}
	if s.relay.find(func(p *pending) bool { return p.copyTo != "" }) != nil {
		// The COPYUID of a MOVE doesn't say which of two it is of.
		if err := s.relay.barrier(); err != nil {
			return err
		}
	}
	set, ok := s.set(c, uid)
	if !ok {
		return nil
	}
	o := (&wire.Out{}).String(c.Name + " ").Text(set).String(" ").Token(c.Args[1])
	return s.relay.forward(c.Tag, o, &pending{copyTo: c.Args[1].Text()})
}

// copied follows a COPYUID (RFC 4315, Section 3). Run by the responder, before
// the EXPUNGE responses of a MOVE.
func (s *session) copied(box *selected, to string, line []byte) {
	lib := box.lib.Load()
	code, arg := responseCode(line)
	f := strings.Fields(arg)
	if lib == nil || code != "COPYUID" || len(f) != 3 {
		return
	}
	validity, err := strconv.ParseUint(f[0], 10, 32)
	from, err1 := wire.ParseSet([]byte(f[1]))
	dest, err2 := wire.ParseSet([]byte(f[2]))
	if err != nil || err1 != nil || err2 != nil || from.HasStar() || dest.HasStar() {
		return
	}
	pairs := pairUp(from, dest, box.view.len()+1000)
	if len(pairs) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(s.ctx, 30*time.Second)
	defer cancel()
	dst, err := s.account.Library.Mailbox(ctx, to, uint32(validity))
	if err == nil {
		err = lib.Copy(ctx, dst, pairs)
		dst.Close()
	}
	if err != nil { // they will be classified and opened anew
		s.log.Warn("what is known of copied messages is lost", "reason", reason(err))
	}
}

// pairUp pairs the UIDs of two sets in the order in which they are given.
func pairUp(from, to wire.Set, limit int) []index.Pair {
	var pairs []index.Pair
	i, k := 0, uint32(0) // the next UID of to is to[i].First + k
	for _, r := range from {
		for u := min(r.First, r.Last); u <= max(r.First, r.Last) && u != 0; u++ {
			if i >= len(to) || len(pairs) >= limit {
				return pairs
			}
			first, last := min(to[i].First, to[i].Last), max(to[i].First, to[i].Last)
			pairs = append(pairs, index.Pair{From: u, To: first + k})
			if k++; first+k > last || first+k == 0 {
				i, k = i+1, 0
			}
		}
	}
	return pairs
}
