package main_test

import (
	"bytes"
	"testing"

	main "letterlock.org/letterlock/cmd/letterlock"
)

// TestAListWrittenByElementsIsTheSame as one that is written whole.
func TestAListWrittenByElementsIsTheSame(t *testing.T) {
	type entry struct {
		Name string            `json:"name"`
		List []string          `json:"list"`
		More map[string]string `json:"more"`
	}
	one := entry{"<a&b>", []string{"x", "y"}, map[string]string{"k": "v\n"}}
	for _, vs := range [][]any{{}, {one}, {one, entry{List: []string{}}, one}} {
		var whole, parts bytes.Buffer
		if err := main.JSONOf(&whole, vs...); err != nil {
			t.Fatal(err)
		}
		if err := main.JSONListOf(&parts, vs...); err != nil {
			t.Fatal(err)
		}
		if whole.String() != parts.String() {
			t.Errorf("%d elements: got\n%s\nwant\n%s", len(vs), &parts, &whole)
		}
	}
}
