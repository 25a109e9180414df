package main_test

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// Every command line that the README shows is one that exists.
func TestReadmesCommands(t *testing.T) {
	b, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := regexp.MustCompile(`(?m)^    (?:\./|go run \./cmd/)?letterlock (.*)$`).FindAllStringSubmatch(string(b), -1)
	if len(shown) < 8 {
		t.Fatalf("only %d commands were found in it", len(shown))
	}
	for _, s := range shown {
		line, _, _ := strings.Cut(s[1], "   ") // what follows is said of it
		args := strings.Fields(strings.ReplaceAll(line, "…", "you@example.org"))
		if out, err := exec.Command("letterlock", append(args, "--help")...).CombinedOutput(); err != nil {
			t.Errorf("letterlock %s: %s", line, out)
		}
	}
	for _, command := range []string{"    go run ./cmd/letterlock demo\n", "    go test ./...\n"} {
		if !strings.Contains(string(b), command) {
			t.Errorf("it does not show %q", strings.TrimSpace(command))
		}
	}
}
