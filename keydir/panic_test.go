package keydir_test

import (
	"strings"
	"testing"

	"letterlock.org/letterlock/keydir"
)

// TestAnAnswerThatPanics is that directory's fault, or ours, but never an absence, and
// ends nobody's session; whoever asks again isn't made to wait for it.
func TestAnAnswerThatPanics(t *testing.T) {
	for range 2 {
		w := newWorld(t)
		w.Panics(true)
		if f := w.find(bob); f.Outcome != keydir.Unavailable || !strings.Contains(f.Detail, "fails to read") {
			t.Errorf("%q: %s", f.Outcome, f.Detail)
		}
		w.Panics(false)
		for range 2 {
			if f, err := w.Find(t.Context(), carol); err == nil || !strings.Contains(err.Error(), "panic") {
				t.Errorf("a panic of our own: %q, %v", f.Outcome, err)
			}
		}
	}
}
