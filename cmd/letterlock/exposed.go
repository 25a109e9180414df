package main

import (
	"fmt"
	"io/fs"
	"os"
	"strings"

	"letterlock.org/letterlock/internal/config"
)

// exposed tells, for a person, where other users of this machine could read what
// is secret or change what is kept. serving tells that it is so all the time.
func exposed(c *config.Config, serving bool) (out []string) {
	st, err := os.Stat(c.StateDir)
	if err == nil && st.Mode().Perm()&0o022 != 0 {
		out = append(out, fmt.Sprintf("others may write in state_dir, and could put files of theirs in the place of ours (run: chmod go-w %s)", shellWord(c.StateDir)))
	}
	if err == nil && foreign(st) && (serving || os.Geteuid() != 0) { // root may look after a service
		out = append(out, fmt.Sprintf("state_dir belongs to another user, who can put files of theirs in the place of ours (run serve as that user, or: chown %d %s)", os.Geteuid(), shellWord(c.StateDir)))
	}
	for _, file := range secretFiles(c) {
		// A group may be meant to read it: that of the service, say.
		if st, err := os.Stat(file); err == nil && st.Mode().IsRegular() && st.Mode().Perm()&0o007 != 0 {
			out = append(out, fmt.Sprintf("every user of this machine may open %s, which is secret (run: chmod o= %s)", file, shellWord(file)))
		}
	}
	return out
}

func (s *state) warnOfExposure() {
	for _, what := range exposed(s.cfg.Load(), true) {
		s.log.Warn(what)
	}
}

// foreign tells whether a file belongs to neither us nor root.
func foreign(st fs.FileInfo) bool {
	owner, ok := ownerOf(st)
	return ok && owner != 0 && owner != os.Geteuid()
}

// secretFiles are those that the configuration names.
func secretFiles(c *config.Config) (out []string) {
	add := func(setting, kind string) {
		if file, ok := strings.CutPrefix(setting, kind); ok && file != "" {
			out = append(out, file)
		}
	}
	add(c.Unlock, "key-file:")
	add(c.Unlock, "passphrase-file:")
	for _, b := range c.Bridges {
		add(b.UpstreamPassword, "file:")
		add(b.TLSKey, "")
	}
	if r := c.Relay; r != nil {
		add(r.SmarthostPassword, "file:")
		add(r.TLSKey, "")
		if r.DKIM != nil {
			add(r.DKIM.Key, "")
		}
	}
	if k := c.Keydir; k != nil {
		add(k.TLSKey, "")
	}
	return out
}
