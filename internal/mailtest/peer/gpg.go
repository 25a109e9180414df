package peer

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/message"
)

// GPG is a GnuPG with a home of its own and a key of Bob's, who signs.
type GPG struct {
	t    testing.TB
	home string
}

// StartGPG makes a GnuPG home, gone when the test ends.
func StartGPG(t testing.TB) *GPG {
	t.Helper()
	Require(t, "gpg")
	g := &GPG{t, filepath.Join(folder(t), "gpg")}
	mkdir(t, g.home, 0o700, -1, -1)
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", g.home, "--kill", "all").Run() // the agent of this home
	})
	g.run(nil, "--passphrase", "", "--quick-generate-key", "Bob <"+Bob+">", "ed25519", "cert,sign", "never")
	return g
}

// Certificate is Bob's, armored.
func (g *GPG) Certificate() []byte { g.t.Helper(); return g.run(nil, "--armor", "--export", Bob) }

// Encrypt makes raw, which has its header, a message as RFC 3156, Section 6.2
// has it: what describes the body goes inside, every other field stays outside
// as it is. It is signed by Bob where sign says so. certificate is the reader's, armored or not.
func (g *GPG) Encrypt(certificate, raw []byte, sign bool) []byte {
	g.t.Helper()
	f := filepath.Join(g.home, "to.gpg")
	write(g.t, f, string(certificate), 0o600)
	h := message.ParseHeader(raw)
	var outer, inner bytes.Buffer
	for _, f := range h.Fields {
		n := strings.ToLower(f.Name)
		switch {
		case n == "mime-version":
		case strings.HasPrefix(n, "content-"):
			inner.Write(f.Raw)
		default:
			outer.Write(f.Raw)
		}
	}
	if inner.Len() == 0 {
		inner.WriteString("Content-Type: text/plain; charset=utf-8\r\n")
	}
	inner.WriteString("\r\n")
	inner.Write(raw[len(h.Raw):])
	args := []string{"--armor", "--trust-model", "always", "--recipient-file", f, "--encrypt"}
	if sign {
		args = append(args, "--local-user", Bob, "--sign")
	}
	armor := bytes.ReplaceAll(g.run(inner.Bytes(), args...), []byte("\n"), []byte("\r\n"))
	fmt.Fprintf(&outer, "MIME-Version: 1.0\r\nContent-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=gpgtwin\r\n\r\n"+
		"--gpgtwin\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\r\n--gpgtwin\r\nContent-Type: application/octet-stream\r\n\r\n%s\r\n--gpgtwin--\r\n", armor)
	return outer.Bytes()
}

func (g *GPG) run(stdin []byte, args ...string) []byte {
	g.t.Helper()
	cmd := exec.Command("gpg", append([]string{"--homedir", g.home, "--batch", "--no-tty", "--quiet", "--pinentry-mode", "loopback"}, args...)...)
	cmd.Stdin = bytes.NewReader(stdin)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		g.t.Fatalf("gpg %s: %v: %s", args[len(args)-1], err, &stderr)
	}
	return out
}
