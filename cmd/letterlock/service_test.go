package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	letterlock "letterlock.org/letterlock/cmd/letterlock"
)

func TestUnitNamesFilesAsTheyAre(t *testing.T) {
	for _, tt := range []struct{ name, file, want string }{
		{"a usual name", "/home/ann/l.toml", `"/home/ann/l.toml"`},
		{"a space", "/home/ann b/l.toml", `"/home/ann b/l.toml"`},
		{"a quote and a backslash", `/home/a"b\c/l.toml`, `"/home/a\"b\\c/l.toml"`},
		{"a percent sign, which begins a specifier", "/home/100%h/l.toml", `"/home/100%%h/l.toml"`},
		{"a dollar sign", "/home/$HOME/l.toml", ""},
		{"a line end, which would begin another setting", "/home/a\nExecStartPre=/bin/false/l.toml", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text, err := letterlock.Unit("/usr/bin/letterlock", tt.file, "")
			if tt.want == "" {
				if err == nil {
					t.Errorf("it was taken:\n%s", text)
				}
				return
			}
			if err != nil || !strings.Contains(text, "\nExecStart=\"/usr/bin/letterlock\" serve --config "+tt.want+"\n") {
				t.Errorf("%v in\n%s", err, text)
			}
		})
	}
}

// systemd says nothing of a unit that it understands whole.
func TestUnitIsOneForSystemd(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "a 50% program")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	text, err := letterlock.Unit(program, filepath.Join(dir, "l.toml"), filepath.Join(dir, "50% of the state"))
	if err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(dir, "letterlock.service")
	if err := os.WriteFile(at, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), analyze, "--user", "verify", at)
	c.Env = append(os.Environ(), "HOME="+dir, "XDG_RUNTIME_DIR="+dir, "XDG_CONFIG_HOME=")
	if out, err := c.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v: %s", err, out)
	}
}
