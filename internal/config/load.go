package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// Problem is one fault of a file.
type Problem struct {
	File string
	Line int    // counted from 1; 0 where no line is to blame
	Key  string // such as "bridge[0].imap.listen"; "" for the file as a whole
	Text string // what is wrong, and what to write instead
}

func (p Problem) Error() string {
	s := p.File
	if p.Line > 0 {
		s = fmt.Sprintf("%s:%d", s, p.Line)
	}
	if p.Key != "" {
		s += ": " + p.Key
	}
	return s + ": " + p.Text
}

// Problems is everything that is wrong with a file, in the order of its lines.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, one := range p {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// ErrNoFile means that there is no configuration file.
var ErrNoFile = errors.New("no configuration file")

// Find is the file that holds: the one given, else LETTERLOCK_CONFIG, else
// letterlock/letterlock.toml in the XDG configuration directory, else
// /etc/letterlock/letterlock.toml.
func Find(given string) (string, error) {
	if given != "" {
		return given, nil
	}
	if env := os.Getenv("LETTERLOCK_CONFIG"); env != "" {
		return env, nil
	}
	candidates := []string{Preferred(), "/etc/letterlock/letterlock.toml"}
	for _, f := range candidates {
		if _, err := os.Stat(f); err == nil || errors.Is(err, os.ErrPermission) { // Load tells why it can't be read
			return f, nil
		}
	}
	return "", fmt.Errorf("%w: looked for %s (make one with: letterlock setup ADDRESS, or name one with --config)", ErrNoFile, strings.Join(candidates, " and "))
}

// Preferred is where a person's own file is looked for and made.
func Preferred() string {
	return filepath.Join(xdg("XDG_CONFIG_HOME", ".config"), "letterlock", "letterlock.toml")
}

func defaultStateDir() string {
	if d := os.Getenv("STATE_DIRECTORY"); d != "" { // systemd.exec(5)
		return strings.Split(d, ":")[0]
	}
	return filepath.Join(xdg("XDG_STATE_HOME", ".local/state"), "letterlock")
}

func xdg(env, fallback string) string {
	if d := os.Getenv(env); filepath.IsAbs(d) {
		return d
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = "/"
	}
	return filepath.Join(home, fallback)
}

// Load reads and checks a file. Its error is a Problems or ErrNoFile.
func Load(file string) (*Config, error) {
	b, err := Read(file)
	if err != nil {
		return nil, err
	}
	return Parse(file, string(b))
}

// Read reads a file without looking at it. Its error is a Problems or ErrNoFile.
func Read(file string) ([]byte, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w at %s (make one with: letterlock setup ADDRESS)", ErrNoFile, file)
	}
	if err != nil {
		var path *os.PathError
		if errors.As(err, &path) {
			err = path.Err // the file is named already
		}
		text := fmt.Sprintf("can't be read: %v", err)
		if errors.Is(err, os.ErrPermission) {
			text += " (run the command as the user whose configuration it is)"
		}
		return nil, Problems{{File: file, Text: text}}
	}
	return b, nil
}

// Parse is Load of a text.
func Parse(file, text string) (*Config, error) {
	var raw map[string]any
	if _, err := toml.Decode(text, &raw); err != nil {
		return nil, notTOML(file, err)
	}
	c := Default()
	c.File = file
	d := &decoder{file: file, lines: locate(text)}
	d.whole = structOf(c)
	d.table("", raw, d.whole)
	d.check(c)
	if len(d.problems) > 0 {
		slices.SortStableFunc(d.problems, func(a, b Problem) int { return a.Line - b.Line })
		return nil, d.problems
	}
	return c, nil
}
