package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"letterlock.org/letterlock/internal/address"
)

// ErrByHand means that a file is laid out in a way in which only a person can change it.
var ErrByHand = errors.New("it has to be changed by hand")

// WithoutBridge is the text of a file without the [[bridge]] of an account; all else
// stays as it is, comments too. It is "" if there is none. The error is that of Parse,
// or ErrByHand.
func WithoutBridge(file, text string, account address.Address) (string, error) {
	old, err := Parse(file, text)
	if err != nil {
		return "", err
	}
	n := slices.IndexFunc(old.Bridges, func(b Bridge) bool { return b.Account.Equal(account) })
	if n < 0 {
		return "", nil
	}
	out := cutTable(text, fmt.Sprintf("bridge[%d]", n))
	if out == "" {
		out = "\n"
	}
	// The lines were found by rule of thumb; what they mean tells whether that was right.
	now, err := Parse(file, out)
	if err != nil {
		return "", fmt.Errorf("%w: without the [[bridge]] of %s, %w", ErrByHand, account, err)
	}
	if old.Bridges = slices.Delete(old.Bridges, n, n+1); len(old.Bridges) == 0 {
		old.Bridges = nil
	}
	want, err := json.Marshal(old)
	got, err2 := json.Marshal(now)
	if err := errors.Join(err, err2); err != nil {
		return "", err
	}
	if string(want) != string(got) {
		return "", fmt.Errorf("%w: the [[bridge]] of %s in %s can't be told from what stands around it", ErrByHand, account, file)
	}
	return out, nil
}

// cutTable takes out the lines of a table and of those within it. Comments before the
// next table are that one's.
func cutTable(text, path string) string {
	lines, at := strings.SplitAfter(text, "\n"), locate(text)
	start, end := at[path], len(lines) // counted from 1, and from 0 the first that stays
	if start == 0 {
		return text
	}
	for name, n := range at {
		if n > start && n-1 < end && strings.HasPrefix(strings.TrimSpace(lines[n-1]), "[") && !strings.HasPrefix(name, path+".") {
			end = n - 1
		}
	}
	last := end
	for last > start && idle(lines[last-1]) {
		last--
	}
	if last < end && start > 1 && strings.TrimSpace(lines[start-2]) == "" && strings.TrimSpace(lines[last]) == "" {
		last++ // of the empty lines on both sides one is enough
	}
	return strings.Join(slices.Concat(lines[:start-1], lines[last:]), "")
}

// idle tells of a line without a setting.
func idle(line string) bool {
	line = strings.TrimSpace(line)
	return line == "" || strings.HasPrefix(line, "#")
}
