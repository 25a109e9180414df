package letters_test

import (
	"slices"
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/letters"
)

func bob(t testing.TB) address.Address {
	t.Helper()
	a, err := address.Parse("Bob@example.net")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestSubjectsThatAreOne(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		same bool
	}{
		{"The merger", "the  Merger", true},
		{"The merger", "Fwd: Re: The merger", true},
		{"AW: The merger", "WG: [board] RE[2]: The\tmerger (fwd)", true},
		{"The merger", "[Fwd: The merger]", true},
		{"The merger", "转发： The merger", true},
		{"[Secret]", "Fwd: [Secret]", true},
		{"Re:", "Re:", true},
		{"Über uns", "Fwd: über Uns", true},
		{"The merger", "The mergers", false},
		{"1 2", "1 3", false},
	} {
		if a, b := letters.ID(bob(t), tt.a), letters.ID(bob(t), tt.b); a == "" || (a == b) != tt.same {
			t.Errorf("%q is %q, %q is %q; same: want %v", tt.a, a, tt.b, b, tt.same)
		}
	}
	for _, none := range []string{"", " ", "[...]", "..."} {
		if id := letters.ID(bob(t), none); id != "" {
			t.Errorf("%q has ID %q", none, id)
		}
	}
	if id := letters.ID(address.Address{}, "x"); id != "" {
		t.Errorf("nobody's letter has ID %q", id)
	}
}

func TestQuotedLetters(t *testing.T) {
	want := letters.ID(bob(t), "The merger with Example, Inc. in the third quarter")
	const subject = "The merger with Example, Inc. in the third quarter"
	for _, tt := range []struct {
		name, text, subject string
		found               bool
	}{
		{"mutt", "----- Forwarded message from Bob <bob@example.net> -----\r\n\r\nDate: Mon, 1 Jan 2024\r\nFrom: Bob <bob@example.net>\r\nTo: alice@example.org\r\nSubject: " + subject + "\r\n\r\ntext\r\n", "[bob@example.net: x]", true},
		{"a phone", "Begin forwarded message:\n\n> From: Bob <bob@example.net>\n> Subject: " + subject + "\n> Date: x\n", "Fwd: x", true},
		{"another language", "-------- Ursprüngliche Nachricht --------\nVon: Bob <BOB@example.net>\nGesendet: x\nBetreff: Re: " + subject + "\n", "x", true},
		{"bold, with its address linked", "*From:* Bob [mailto:bob@example.net]\n*Sent:* x\n*Subject:* " + subject + "\n", "", true},
		{"a folded subject", "From: bob@example.net\nSubject: The merger with\n Example, Inc. in\n the third quarter\nTo: x\n", "", true},
		{"a folded subject, quoted", "> From: bob@example.net\n> Subject: The merger with Example,\n> Inc. in the third quarter\n", "", true},
		{"a value below its name", "From:\n bob@example.net\nSubject:\n " + subject + "\n", "", true},
		{"an answer that names nothing", "On Monday, Bob <bob@example.net> wrote:\n> text\n", "Re: " + subject, true},
		{"wide colons", "发件人：Bob <bob@example.net>\n主题：" + subject + "\n", "", true},
		{"another sender", "From: Bob <bob@example.com>\nSubject: " + subject + "\n", "Fwd: " + subject, false},
		{"another subject", "From: Bob <bob@example.net>\nSubject: lunch\n", "Fwd: lunch", false},
		{"far away", "From: Bob <bob@example.net>\n" + strings.Repeat("x\n", 20) + "Subject: " + subject + "\n", "", false},
		{"a new message of that subject", "ask bob@example.net\n", subject, false},
	} {
		if got := letters.Quoted(tt.text, tt.subject); slices.Contains(got, want) != tt.found {
			t.Errorf("%s: %q; want it found: %v", tt.name, got, tt.found)
		}
	}
}

func FuzzQuoted(f *testing.F) {
	f.Add("From: bob@example.net\nSubject: x\n", "Fwd: x")
	f.Add(strings.Repeat("a@b: [x]: ", 500), strings.Repeat("[re: ", 500))
	f.Fuzz(func(t *testing.T, text, subject string) {
		ids := letters.Quoted(text, subject)
		if len(ids) > 1000 {
			t.Errorf("%d letters", len(ids))
		}
		for _, id := range ids {
			if !strings.HasPrefix(id, letters.Prefix) || len(id) > 10_000 {
				t.Errorf("ID %q", id)
			}
		}
	})
}
