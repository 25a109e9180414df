package smtpd_test

import (
	"context"
	"slices"
	"strings"

	"letterlock.org/letterlock/smtpd/queue"
)

// report is a delivery status notification that the smarthost took.
type soakReport struct {
	about string // Message-ID
	who   []string
}

// reports are those that say of recipients that they failed, or that nobody
// knows; all counts the others too.
func (h *soakHost) reports() (failed []soakReport, all int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.taken {
		if !strings.Contains(m.data, "report-type=delivery-status") {
			continue
		}
		all++
		if !strings.Contains(m.data, "Subject: Not delivered\r\n") {
			continue
		}
		var r soakReport
		_, about, _ := strings.Cut(m.data, "text/rfc822-headers")
		_, about, _ = strings.Cut(about, "Message-ID: ")
		r.about, _, _ = strings.Cut(about, "\r\n")
		for line := range strings.Lines(m.data) {
			if who, ok := strings.CutPrefix(line, "Final-Recipient: rfc822; "); ok {
				r.who = append(r.who, strings.TrimSpace(who))
			}
		}
		failed = append(failed, r)
	}
	return failed, all
}

// oracle compares what clients and sender were told with what the smarthost
// really took.
func (w *soak) oracle(fates map[*soakMessage]*fate) {
	q, err := queue.New(queue.Config{Store: w.st, Now: w.clock.Now})
	if err != nil {
		w.fail("reading the journal: %v", err)
		return
	}
	defer q.Close()
	es, err := q.List(context.Background(), "", 10000)
	if err != nil {
		w.fail("reading the journal: %v", err)
		return
	}
	failed, all := w.host.reports()
	w.sum.reports = all
	for m, f := range fates {
		for _, r := range m.Rcpts {
			w.one(m, f, r, es, failed)
		}
		if f.ambiguous {
			w.sum.ambiguous++
		}
		w.sum.cut += f.cut
	}
	w.passwordsTold(es)
	for _, what := range w.host.bad {
		w.fail("the smarthost was told what it should not: %s", what)
	}
	if w.host.saw(canary) {
		w.fail("CLEAR: the smarthost saw the canary")
	}
	if strings.Contains(w.log.String(), canary) {
		w.fail("the log has the canary")
	}
}

// one is what became of one recipient of a message.
func (w *soak) one(m *soakMessage, f *fate, r string, es []queue.Entry, failed []soakReport) {
	copies := 0
	for _, d := range w.host.taken {
		if d.id == m.ID && d.from != "<>" && slices.Contains(d.rcpts, r) && !strings.Contains(d.data, "report-type=delivery-status") {
			copies++
			if (r != inClear || m.ID == "") && !m.Clear && !strings.Contains(d.data, "BEGIN PGP MESSAGE") && r != lockedFor {
				w.fail("CLEAR: %s for %s is not encrypted", m.ID, r)
			}
		}
	}
	state, reportRefused := map[queue.State]bool{}, false
	for _, e := range es {
		reportRefused = reportRefused || e.Report && e.State == queue.Failed // a double bounce: the journal shows it
		for _, rc := range e.Recipients {
			if e.MessageID == m.ID && rc.Address == r && !e.Report {
				state[rc.State] = true
			}
		}
	}
	told := slices.ContainsFunc(failed, func(x soakReport) bool { return x.about == m.ID && slices.Contains(x.who, r) })
	w.sum.messages++
	w.sum.copies += copies
	if state[queue.Unknown] {
		w.sum.unknown++
	}
	if m.ID == "" { // reports of such messages name nothing, either
		if copies > 1 {
			w.sum.twiceNoID += copies - 1
		}
		if copies > 1 && f.cut+f.again == 0 && !m.Twice {
			w.fail("TWICE: %s got %d copies of a message without Message-ID that its client sent once", r, copies)
		}
		return
	}
	_, refused := f.refused[r]
	switch {
	case copies > 1:
		w.fail("TWICE: %s got %d copies of %s", r, copies, m.ID)
	case copies == 1:
	case told:
		w.sum.refused++
	case state[queue.Held]:
		w.sum.held++
	case f.acked[r] && reportRefused && state[queue.Failed]:
		w.sum.refused++
	case f.acked[r]:
		w.fail("LOST: %s has no copy of %s, its client was told 250, and no report tells of it; journal %v", r, m.ID, state)
	case refused:
		w.sum.refused++
	case f.ambiguous:
	default: // its client has given up before it was told anything good
		w.sum.unacked++
		if state[queue.Waiting] || state[queue.Sending] {
			w.fail("%s is still on its way to %s", m.ID, r)
		}
	}
	if state[queue.Unknown] && copies == 0 && !told && !f.ambiguous && f.acked[r] {
		w.fail("nobody was told that %s may not have %s", r, m.ID)
	}
}
