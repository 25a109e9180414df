package message_test

import (
	"slices"
	"testing"

	"letterlock.org/letterlock/internal/message"
)

// TestMessageIDs: a mail program that copies an ID in its own way still names
// the same message.
func TestMessageIDs(t *testing.T) {
	for _, tt := range []struct {
		name, value string
		want        []string
	}{
		{"as it should be", "<a@x>", []string{"<a@x>"}},
		{"several", "<a@x> <b@x>,<a@x>", []string{"<a@x>", "<b@x>"}},
		{"without brackets", "a@x", []string{"<a@x>"}},
		{"in other case", "<A@X>", []string{"<a@x>"}},
		{"with white space inside", "<a\t b@x>", []string{"<ab@x>"}},
		{"after a comment", "(hi) <a@x> (there)", []string{"<a@x>"}},
		{"after a comment that opens a bracket", "(a <b) <a@x>", []string{"<a@x>"}},
		{"after a phrase", `"Bob <" of <a@x>`, []string{"<a@x>"}},
		{"cut off", "<a@x", []string{"<a@x>"}},
		{"an encoded word", "=?utf-8?q?<a@x>?=", []string{"<a@x>"}},
		{"words without brackets", "your letter a@x", []string{"<your>", "<letter>", "<a@x>", "<yourlettera@x>"}},
		{"empty brackets", "<> < >", nil},
		{"nothing", " ", nil},
	} {
		if got := message.MessageIDs(tt.value); !slices.Equal(got, tt.want) {
			t.Errorf("%s: MessageIDs(%q) = %q, want %q", tt.name, tt.value, got, tt.want)
		}
	}
}

func FuzzMessageIDs(f *testing.F) {
	f.Add("(a <b) <a@x> x")
	f.Fuzz(func(t *testing.T, v string) {
		for _, id := range message.MessageIDs(v) {
			if again := message.MessageIDs(id); !slices.Contains(again, id) {
				t.Errorf("%q of %q is not found again: %q", id, v, again)
			}
		}
	})
}
