package smtpd_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// fate is what a client and its user know of a message.
type fate struct {
	mu        sync.Mutex // guards what follows
	acked     map[string]bool
	refused   map[string]string // recipients to the last words about them
	ambiguous bool              // they were told that nobody knows
	cut       int               // answers that the client did not wait for, or lost
	again     int               // attempts after one of which it could not know
	last      string
}

func (f *fate) words() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

// send hands a message in until the client is told what became of it, or has
// enough.
func (w *soak) send(m *soakMessage, f *fate, breaks []string) {
	todo := slices.Clone(m.Rcpts)
	calm := 0
	for try := 0; len(todo) > 0; try++ {
		select {
		case <-w.calm:
			if strings.Contains(f.words(), "right now") { // the other client is at it
				time.Sleep(10 * time.Millisecond)
				calm--
			}
			if w.plan.Stubborn != "" && calm > 3 {
				return // a mail program is told 4xx, and its user has enough
			}
			if calm++; calm > 12 || try > 1000 {
				w.fail("the client of %s is never told what became of it: %q", m.ID, f.words())
				return
			}
		default:
			if try >= m.Tries {
				if !m.Patient {
					return
				}
				<-w.calm
			}
		}
		brk := ""
		if try < len(breaks) {
			brk = breaks[try]
		}
		answer, sent, refused := w.attempt(m, todo, brk)
		w.note("client %s %v break %q: sent %v refused %v: %s", m.ID, todo, brk, sent, refused, answer)
		f.mu.Lock()
		f.last = answer
		for a, why := range refused {
			f.refused[a] = why
			todo = slices.DeleteFunc(todo, func(x string) bool { return x == a })
		}
		gaveUp := false
		switch {
		case strings.HasPrefix(answer, "250"):
			for _, a := range sent {
				f.acked[a] = true
			}
			todo = slices.DeleteFunc(todo, func(x string) bool { return slices.Contains(sent, x) })
		case strings.HasPrefix(answer, "5"):
			for _, a := range sent {
				f.refused[a] = answer
			}
			gaveUp = true
		case strings.Contains(answer, "did not confirm"):
			gaveUp = f.ambiguous && !m.MTA
			f.ambiguous = true
			if len(sent) == len(todo) && calm > 2 {
				gaveUp = true // a server tells its sender in the end
			}
		case len(sent) > 0 && !strings.HasPrefix(answer, "4"):
			f.cut++
		}
		if f.cut > 0 || f.ambiguous || strings.Contains(answer, "it has no Message-ID") {
			f.again++
		}
		if len(refused) > 0 && !m.MTA {
			gaveUp = true // a mail program tells its user, and sends to nobody
		}
		f.mu.Unlock()
		if gaveUp {
			return
		}
		time.Sleep(retries)
	}
}

// attempt is one session; answer is the last reply, or how the connection broke.
func (w *soak) attempt(m *soakMessage, todo []string, brk string) (answer string, sent []string, refused map[string]string) {
	refused = map[string]string{}
	c, err := net.Dial("tcp", w.address())
	if err != nil {
		return err.Error(), nil, refused
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	r := bufio.NewReader(c)
	said := func(cmd string) string {
		if cmd != "" {
			if _, err := fmt.Fprintf(c, "%s\r\n", cmd); err != nil {
				return err.Error()
			}
		}
		reply, err := wholeReply(r)
		if err != nil {
			return err.Error()
		}
		return reply
	}
	for _, cmd := range []string{"", "EHLO client.example.org", "MAIL FROM:<alice@example.org>"} {
		if answer = said(cmd); answer[0] != '2' {
			return answer, nil, refused
		}
	}
	for _, a := range todo {
		answer = said("RCPT TO:<" + a + ">")
		switch {
		case answer[0] == '2':
			sent = append(sent, a)
		case answer[0] == '5':
			refused[a] = answer
			fallthrough
		default:
			if !m.MTA || answer[0] != '5' && answer[0] != '4' {
				return answer, nil, refused
			}
		}
	}
	if len(sent) == 0 {
		return answer, nil, refused
	}
	text := w.text(m)
	if m.Chunks {
		cut := len(text) / 3
		if brk == "body" {
			fmt.Fprintf(c, "BDAT %d\r\n%s", len(text), text[:cut])
			return "left", nil, refused
		}
		fmt.Fprintf(c, "BDAT %d\r\n%s", cut, text[:cut])
		if answer = said(""); answer[0] != '2' {
			return answer, nil, refused
		}
		fmt.Fprintf(c, "BDAT %d LAST\r\n%s", len(text)-cut, text[cut:])
	} else {
		if answer = said("DATA"); answer[0] != '3' {
			return answer, nil, refused
		}
		stuffed := wired(text)
		if brk == "body" {
			fmt.Fprint(c, stuffed[:len(stuffed)/2])
			return "left", nil, refused
		}
		fmt.Fprint(c, stuffed+".\r\n")
	}
	if brk == "reply" {
		time.Sleep(retries)
		return "left", sent, refused
	}
	return said(""), sent, refused
}

func wholeReply(r *bufio.Reader) (string, error) {
	all := ""
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", err
		}
		line = strings.TrimRight(line, "\r\n")
		if len(line) < 3 {
			return "", errors.New("malformed reply " + line)
		}
		all += line
		if len(line) == 3 || line[3] != '-' {
			return all, nil
		}
	}
}

// text is a message as it is submitted.
func (w *soak) text(m *soakMessage) string {
	secret := canary
	if m.Clear {
		secret = "this one may be read"
	}
	to, id := "undisclosed-recipients:;", ""
	if len(m.To) > 0 {
		to = strings.Join(m.To, ", ")
	}
	if m.ID != "" {
		id = "Message-ID: " + m.ID + "\r\n"
	}
	head := fmt.Sprintf("From: alice@example.org\r\nTo: %s\r\nSubject: %s\r\n%sDate: Sun, 22 Nov 2026 12:00:00 +0000\r\nMIME-Version: 1.0\r\n\r\n%s\r\n.dot\r\n", to, secret, id, secret)
	return head + strings.Repeat(strings.Repeat("x", 70)+"\r\n", m.Size/72)
}
