package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const module = "letterlock.org/letterlock/"

// level is how high a room of the house stands: imports point down.
var level = map[string]int{"cmd": 5, "smtpd": 4, "imapd": 4, "policy": 3, "keydir": 2, "audit": 2, "form": 2, "pgp": 1, "internal": 0}

// onlyFor are packages with few callers: what their results are is handed on as
// values and functions.
var onlyFor = map[string]string{
	"internal/config":          "cmd",
	"internal/endpoint":        "cmd, internal/config, internal/mailservers",
	"internal/login":           "cmd",
	"internal/mailtest":        "cmd, internal/mailtest/peer",
	"internal/mailtest/peer":   "internal/store/storetest",
	"internal/mailservers":     "cmd",
	"internal/metrics":         "cmd",
	"internal/store/storetest": "",
}

type listed struct {
	path          string
	imports, test []string
}

func list(t *testing.T) (out []listed) {
	t.Helper()
	cmd := exec.Command("go", "list", "-f", `{{.ImportPath}}|{{join .Imports " "}}|{{join .TestImports " "}} {{join .XTestImports " "}}`, module+"...")
	b, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, b)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		f := strings.Split(line, "|")
		out = append(out, listed{strings.TrimPrefix(f[0], module), strings.Fields(f[1]), strings.Fields(f[2])})
	}
	if len(out) < 15 {
		t.Fatalf("go list found only %d packages", len(out))
	}
	return out
}

func top(path string) string { s, _, _ := strings.Cut(path, "/"); return s }

func TestImportsPointDown(t *testing.T) {
	for _, p := range list(t) {
		for _, i := range p.imports {
			to, ours := strings.CutPrefix(i, module)
			if !ours {
				continue
			}
			from, ok := level[top(p.path)]
			if !ok {
				t.Errorf("%s is in a room without a level", p.path)
			}
			if top(p.path) != top(to) && level[top(to)] >= from && !downwards(p.path) {
				t.Errorf("%s imports %s, which does not stand below it", p.path, to)
			}
			if allowed, few := onlyFor[to]; few && !callers(allowed, p.path) {
				t.Errorf("%s imports %s, which is for %q alone", p.path, to, allowed)
			}
		}
	}
}

// downwards: the configuration speaks of everything that can be configured.
func downwards(path string) bool { return path == "internal/config" }

func callers(allowed, path string) bool {
	for _, a := range strings.Split(allowed, ", ") {
		if a != "" && (path == a || strings.HasPrefix(path, a+"/")) {
			return true
		}
	}
	return false
}

// banned matches OpenPGP packages that accept what they should refuse
// (reference/security.md, Section 0).
var banned = regexp.MustCompile(`^(golang\.org/x/crypto/openpgp(/.*)?|github\.com/ProtonMail/go-crypto/openpgp)$`)

func TestBannedPackages(t *testing.T) {
	for _, p := range list(t) {
		for _, i := range append(p.imports, p.test...) {
			if banned.MatchString(i) {
				t.Errorf("%s imports %s", p.path, i)
			}
		}
		if top(p.path) == "pgp" {
			for _, i := range p.imports {
				if i == "net" || strings.HasPrefix(i, "net/") || i == "crypto/tls" {
					t.Errorf("%s imports %s, but OpenPGP needs no network", p.path, i)
				}
			}
		}
		if p.path == "policy" {
			for _, i := range p.imports {
				if i == "os" || i == "io" || strings.HasPrefix(i, "net") {
					t.Errorf("policy imports %s, but it does no I/O", i)
				}
			}
		}
	}
}

// policy knows durations and no clock: the same rules and facts give the same
// decision.
func TestPolicyReadsNoClock(t *testing.T) {
	files, err := filepath.Glob("../../policy/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(len(files), err)
	}
	clock := regexp.MustCompile(`\btime\.(Now|Since|Until|After|AfterFunc|Tick|NewTimer|NewTicker|Sleep)\b`)
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if at := clock.Find(b); at != nil && !strings.HasSuffix(f, "_test.go") {
			t.Errorf("%s calls %s", f, at)
		}
	}
}

func TestStoreStaysAtItsVersion(t *testing.T) {
	b, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`(?m)^\s*github\.com/ncruces/go-sqlite3 v0\.36\.0$`).Match(b) {
		t.Error("go.mod does not have ncruces/go-sqlite3 v0.36.0; v0.37.0 needs a module that cannot be had")
	}
}
