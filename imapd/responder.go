package imapd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	"time"

	"letterlock.org/letterlock/imapd/wire"
	"letterlock.org/letterlock/internal/mishap"
)

// respond reads responses until the upstream is gone or out of step.
func (r *relay) respond() {
	defer close(r.gone)
	err := r.safely()
	r.s.forgetNow()
	r.mu.Lock()
	if r.err == nil {
		r.err = errEnded
		if err != nil && !errors.Is(err, io.EOF) {
			r.err = err
		}
	}
	r.cond.Broadcast()
	r.mu.Unlock()
	close(r.done)
	if errors.Is(err, wire.ErrDesync) {
		r.s.log.Warn("upstream is out of step", "reason", reason(err))
	}
	r.s.lost()
}

func (r *relay) safely() (err error) {
	defer func() {
		if p := recover(); p != nil {
			r.s.log.Error("session ended by a fault of ours", "panic", mishap.Text(p), "stack", string(debug.Stack()))
			err = errEnded
			r.abandon()
		}
	}()
	for {
		h, err := r.s.up.r.Next()
		if err != nil {
			return err
		}
		if err := r.response(h); err != nil {
			r.abandon()
			return err
		}
	}
}

// abandon ends a response that nobody ended.
func (r *relay) abandon() {
	if r.holding {
		r.s.out.breakOff()
		r.release()
	}
}

// response handles one response.
func (r *relay) response(h wire.Head) error {
	switch {
	case h.Continuation():
		if _, err := r.s.up.r.Line(); err != nil {
			return err
		}
		return r.continuation()
	case bytes.EqualFold(h.Tag, []byte("[COPYUID")): // as Exchange 2013 says it in MOVE, without "* OK"
		line, err := r.s.up.r.Line()
		if err != nil {
			return err
		}
		return r.s.tellStatus(append([]byte("* OK "), line...))
	case !h.Untagged():
		return r.completed(h)
	}
	if p := r.head(); p != nil && p.untagged != nil {
		if handled, err := p.untagged(h); handled || err != nil {
			return err
		}
	}
	return r.s.untagged(h)
}

// continuation hands a continuation request to the command it must be for: the
// last one sent.
func (r *relay) continuation() error {
	r.mu.Lock()
	var p *pending
	for i := len(r.queue) - 1; i >= 0 && p == nil; i-- {
		if r.queue[i].upTag != "" && !r.queue[i].complete {
			p = r.queue[i]
		}
	}
	r.mu.Unlock()
	if p == nil {
		return nil // asked for nothing: nobody to hand it to
	}
	if p.continued != nil {
		return p.continued()
	}
	select {
	case p.cont <- struct{}{}:
	default:
	}
	return nil
}

// completed handles a tagged response.
func (r *relay) completed(h wire.Head) error {
	tag, name := string(h.Tag), h.Name
	line, err := r.s.up.r.Line()
	if err != nil {
		return err
	}
	line = bytes.Clone(bytes.TrimLeft(line[len(tag):], " "))
	r.mu.Lock()
	var p *pending
	for _, q := range r.queue {
		if q.upTag == tag && !q.complete {
			p = q
			break
		}
	}
	late := p == nil && r.dones > 0 && strings.EqualFold(tag, "DONE") // no tag of ours
	if late {
		r.dones--
	}
	r.mu.Unlock()
	if late {
		return nil
	}
	if p == nil || name != "OK" && name != "NO" && name != "BAD" {
		return fmt.Errorf("%w: answer to nothing", wire.ErrDesync)
	}
	p.status, p.line = name, line
	if box := r.s.selected(); box != nil {
		if p.copyTo != "" {
			r.s.copied(box, p.copyTo, line)
		}
		if code, _ := responseCode(line); code == "HIGHESTMODSEQ" {
			_ = r.s.learnCode(box, line)
		}
	}
	r.s.forgetNow()
	if p.tagged != nil {
		line = p.tagged(line)
	}
	if p.tag != "" {
		line = r.s.status(line)
		p.answer = append(append([]byte(p.tag+" "), line...), "\r\n"...)
	}
	return r.advance(p)
}

// advance notes that p is complete and lets out the answers whose turn it is.
func (r *relay) advance(p *pending) error {
	// Held before the queue is empty, since local writes then, and its answer
	// belongs behind these.
	o := r.hold()
	r.mu.Lock()
	p.complete = true
	var out []*pending
	for len(r.queue) > 0 && r.queue[0].complete {
		out = append(out, r.queue[0])
		r.queue[0] = nil
		r.queue = r.queue[1:]
	}
	r.busy = time.Now()
	r.mu.Unlock()
	for _, q := range out {
		if len(q.answer) == 0 {
			continue
		}
		r.answered(q.begun)
		if q.tag != "" && !q.quiet {
			r.s.announceGone(o)
		}
		_, _ = o.w.Write(q.answer)
	}
	r.release()
	close(p.finished)
	r.mu.Lock()
	r.cond.Broadcast()
	r.mu.Unlock()
	return nil
}

// keepAlive says something to a client that has been waiting for an answer,
// since some give up.
func (r *relay) keepAlive() {
	tick := time.NewTicker(max(r.s.srv.c.KeepAlive/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-r.done:
			return
		case <-r.s.ctx.Done():
			return
		case <-tick.C:
		}
		if !r.waitsLong() || !r.s.out.TryLock() {
			continue
		}
		if r.waitsLong() { // the answer may have come meanwhile
			_, _ = r.s.out.w.WriteString("* OK still working\r\n")
			_ = r.s.out.w.Flush()
		}
		r.s.out.Unlock()
	}
}

// waitsLong tells whether the client has waited for an answer and heard nothing for
// as long as it may. A command of its own may be many of ours.
func (r *relay) waitsLong() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	waiting := len(r.queue) > 0 && !r.queue[0].complete && r.queue[0].continued == nil || r.working.Load() > 0
	since := r.busy
	if begun := r.begun.Load(); begun != 0 {
		waiting, since = true, time.Unix(0, begun)
	}
	last := time.Unix(0, r.s.out.last.Load())
	return waiting && time.Since(since) >= r.s.srv.c.KeepAlive && time.Since(last) >= r.s.srv.c.KeepAlive
}
