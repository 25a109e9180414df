package mishap_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/mishap"
)

func TestNothingOfTheLetterIsQuoted(t *testing.T) {
	letter := "the letter's text"
	for _, tt := range []struct {
		name string
		f    func()
		want string
	}{
		{"an index beyond the end", func() { _ = letter[len(letter)+len(t.Name()):] }, "panic: runtime error: slice bounds out of range"},
		{"another type than thought", func() { _ = any(letter).(error) }, "panic: interface conversion: string is not error"},
		{"a library's words", func() { panic(fmt.Sprintf("malformed: %q", letter)) }, "panic with a string"},
		{"a library's error", func() { panic(errors.New(letter)) }, "panic with a *errors.errorString"},
	} {
		func() {
			defer func() {
				got := mishap.Text(recover())
				if !strings.HasPrefix(got, tt.want) || strings.Contains(got, letter) {
					t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
				}
			}()
			tt.f()
		}()
	}
}
