package policy_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/policy"
)

// TestManyWords: of rules that look for words which begin like each other, lie in
// each other and repeat, the ones with a word in some subject are the ones that
// strings.Contains says.
func TestManyWords(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	text := func(n int) string {
		var b strings.Builder
		for range n {
			b.WriteByte("aAbB["[random.IntN(5)])
		}
		return b.String()
	}
	for range 300 {
		c := policy.Config{Default: policy.Cleartext}
		for i := range 30 {
			r := policy.Rule{Name: fmt.Sprint(i), Mode: policy.Require, Lower: true, Subject: []string{text(1 + random.IntN(5))}}
			if random.IntN(3) == 0 {
				r.Subject = append(r.Subject, text(1+random.IntN(3)))
			}
			switch random.IntN(8) {
			case 0:
				r.Subject, r.LargerThan = nil, 5
			case 1:
				r.To = []string{"other@example.net"}
			}
			c.Rules = append(c.Rules, r)
		}
		r := rules(t, c)
		m := policy.Message{Size: int64(random.IntN(10)), Headers: map[string][]string{"subject": {text(random.IntN(6)), text(random.IntN(4))}}}
		if random.IntN(4) == 0 {
			m.Headers = nil
		}
		matches := func(one policy.Rule) bool {
			return one.To == nil && (one.LargerThan == 0 || m.Size > one.LargerThan) && (one.Subject == nil || slices.ContainsFunc(m.Headers["subject"], func(s string) bool {
				return slices.ContainsFunc(one.Subject, func(w string) bool { return strings.Contains(strings.ToLower(s), strings.ToLower(w)) })
			}))
		}
		want := policy.DefaultRule
		if i := slices.IndexFunc(c.Rules, matches); i >= 0 {
			want = c.Rules[i].Name
		}
		if _, d := decide(r, m, has(bob)); d.Rule != want {
			for _, one := range c.Rules {
				t.Logf("rule %s: to %q, subject %q, larger than %d", one.Name, one.To, one.Subject, one.LargerThan)
			}
			t.Fatalf("%q of %d bytes: rule %s, want %s", m.Headers["subject"], m.Size, d.Rule, want)
		}
	}
}

// TestRulesBeyondThoseTold: however many rules may raise protection once the
// message is known, RCPT sees the one that decides, and DATA each of them.
func TestRulesBeyondThoseTold(t *testing.T) {
	c := policy.Config{Default: policy.Cleartext}
	for i := range 40 {
		c.Rules = append(c.Rules, policy.Rule{Name: fmt.Sprint("raises ", i), Subject: []string{fmt.Sprintf("[%d]", i)}, Mode: policy.Require})
	}
	c.Rules = append(c.Rules,
		policy.Rule{Name: "lowers", Subject: []string{"[open]"}, Lower: true, Mode: policy.Sign},
		policy.Rule{Name: "raises, last", Subject: []string{"[last]"}, Mode: policy.Require},
		policy.Rule{Name: "refuses", To: []string{"*"}, Mode: policy.Refuse})
	r := rules(t, c)
	f := keydir.Finding{Address: bob, Outcome: keydir.Absent}
	for _, tt := range []struct {
		name, subject, rule string
		action              policy.Action
	}{
		{"one that lowers", "[open]", "lowers", policy.SignOnly},
		{"none", "", "refuses", policy.RefuseMessage},
		{"the thirtieth raises that", "[30][open]", "raises 30", policy.RefuseMessage},
	} {
		rcpt, d := decide(r, subject(tt.subject), f)
		if rcpt.Rule != "lowers" || len(rcpt.Pending) != 16 {
			t.Fatalf("at RCPT rule %s, pending %v", rcpt.Rule, rcpt.Pending)
		}
		if d.Rule != tt.rule || d.Action != tt.action {
			t.Errorf("%s: rule %s, %q, want %s, %q", tt.name, d.Rule, d.Action, tt.rule, tt.action)
		}
	}
}
