package smtpd_test

import (
	"bytes"
	"crypto/hkdf"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"letterlock.org/letterlock/smtpd/queue"
)

// passwordsTold fails for every copy under a password that the smarthost took
// where no notice that it took, too, tells the sender that password: nobody could
// ever read it. What the smarthost refused to take, or left without an answer
// three times, the journal shows.
func (w *soak) passwordsTold(es []queue.Entry) {
	var passwords []string
	for _, d := range w.host.taken {
		if slices.Equal(d.rcpts, []string{"alice@example.org"}) && strings.Contains(d.data, "BEGIN PGP MESSAGE") {
			if m := madePassword.FindStringSubmatch(readNotice(w.t, key(w.t, "alice@example.org"), d.data)); m != nil {
				passwords = append(passwords, m[1])
			}
		}
	}
	shown := slices.ContainsFunc(es, func(e queue.Entry) bool { return e.Report && (e.State == queue.Failed || e.State == queue.Unknown) })
	for _, d := range w.host.taken {
		switch {
		case !slices.Contains(d.rcpts, lockedFor) || strings.Contains(d.data, "report-type=delivery-status"):
		case slices.ContainsFunc(passwords, func(p string) bool { return opensPage(d.data, p) }):
			w.sum.told++
		case shown:
			w.sum.untold++
		default:
			w.fail("PASSWORD: %s has %s, and nobody was told its password", lockedFor, d.id)
		}
	}
}

var pageAttribute = regexp.MustCompile(`data-(rounds|salt|check)="([^"]*)"`)

// opensPage tells whether a mail's page takes a password, by the check value that
// the page itself looks at first.
func opensPage(mail, password string) bool {
	is := map[string]string{}
	for _, m := range pageAttribute.FindAllStringSubmatch(mail, -1) {
		is[m[1]] = m[2]
	}
	rounds, _ := strconv.Atoi(is["rounds"])
	salt, _ := base64.StdEncoding.DecodeString(is["salt"])
	check, _ := base64.StdEncoding.DecodeString(is["check"])
	if rounds == 0 || len(salt) == 0 || len(check) == 0 {
		return false
	}
	stretched, err := pbkdf2.Key(sha256.New, password, salt, rounds, 32)
	if err != nil {
		return false
	}
	got, err := hkdf.Key(sha256.New, stretched, salt, "letterlock form 1 check", len(check))
	return err == nil && bytes.Equal(got, check)
}
