package config_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/config"
	"letterlock.org/letterlock/internal/endpoint"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/policy"
)

// good is the example of the design, less what is not built yet.
const good = `
state_dir = "/var/lib/letterlock"
unlock    = "key-file:/etc/letterlock/key"

[[bridge]]
address = "alice@example.org"
aliases = ["a.liddell@example.org"]
auth    = "local"
imap    = { listen = "127.0.0.1:1143", upstream = "imaps://imap.example.org" }
smtp    = { listen = ["127.0.0.1:1025", "submissions://[::1]:0"], upstream = "submissions://smtp.example.org" }
upstream_user     = "alice@example.org"
upstream_password = "store"
upstream_ca       = ""
append  = "all"
sent    = "client"
search_upstream = true

[[bridge]]
address = "bob@example.org"
imap    = { listen = "127.0.0.1:1143", upstream = "imap+insecure://127.0.0.1:143" }

[relay]
listen    = "127.0.0.1:10026"
smarthost = "submission://mx.example.org:587"
domains   = ["example.org"]
trusted   = ["127.0.0.0/8", "::1/128"]

[keydir]
listen  = "127.0.0.1:8080"
domains = ["example.org"]

[store]
url = "sqlite:"

[discovery]
sources = ["wkd", "autocrypt"]
proxy   = ""
wkd_override = { "example.org" = "http://127.0.0.1:8080" }

[policy]
default     = "prefer"
missing     = "refuse"
unavailable = "defer"
mixed       = "refuse"
min_trust   = { require = "directory", prefer = "first-seen" }
[[policy.rule]]
name = "partners are always encrypted"
to   = ["*@partner.example"]
mode = "require"

[log]
level = "debug"
[metrics]
listen = ""
`

func TestDesignsExampleIsUnderstood(t *testing.T) {
	c, err := config.Parse("x.toml", good)
	if err != nil {
		t.Fatal(err)
	}
	a, b := c.Bridges[0], c.Bridges[1]
	if a.Account.String() != "alice@example.org" || len(a.Alias) != 1 || a.IMAP.Addresses[0].HostPort() != "127.0.0.1:1143" ||
		a.SMTP.Addresses[1].Security != endpoint.TLS || a.IMAP.Server.HostPort() != "imap.example.org:993" {
		t.Errorf("first bridge is %+v", a)
	}
	if b.Auth != "local" || b.Append != "all" || b.Sent != "client" || !b.SearchUpstream || b.UpstreamPassword != "store" || b.UpstreamUser != "bob@example.org" || b.SMTP != nil {
		t.Errorf("second bridge lacks its defaults: %+v", b)
	}
	if c.Rules == nil || c.Discovery.WKDOverride["example.org"] != "http://127.0.0.1:8080" || c.LogLevel().String() != "DEBUG" {
		t.Errorf("config is %+v", c)
	}
}

func TestEmptyFileIsTheDefaults(t *testing.T) {
	c, err := config.Parse("", "")
	if err != nil {
		t.Fatal(err)
	}
	want := config.Default()
	want.Rules = c.Rules
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got %+v, want %+v", c, want)
	}
}

func TestProblemsNameFileLineAndRemedy(t *testing.T) {
	for _, tt := range []struct {
		name, old, new string
		want           string // one line of the error
	}{
		{"misspelt setting at the top", "unlock    =", "unlok     =", `x.toml:3: unlok: unknown setting; did you mean "unlock"?`},
		{"setting that is like no other", "auth    = ", "zzz     = ", `x.toml:8: bridge[0].zzz: unknown setting; here belong address, aliases, append`},
		{"misspelt within an inline table", `imap    = { listen = "127.0.0.1:1143", upstream = "imaps:`, `imap    = { lisen = "127.0.0.1:1143", upstream = "imaps:`, `x.toml:9: bridge[0].imap.lisen: unknown setting; did you mean "listen"?`},
		{"misspelt in a rule", `to   = [`, `too  = [`, `x.toml:48: policy.rule[0].too: unknown setting; did you mean "to"?`},
		{"unknown table", "[metrics]", "[metric]", `x.toml:53: metric: unknown setting; did you mean "metrics"?`},
		{"setting of the top below a table", "sent    = ", "state_dir = \"/x\"\nsent    = ", `x.toml:15: bridge[0].state_dir: unknown setting here; it belongs at the top of the file, above every line that begins with [`},
		{"setting of another table", "[log]", "[log]\nsources = [\"wkd\"]", `x.toml:52: log.sources: unknown setting here; it belongs under [discovery]`},
		{"setting of accounts at the top", "[[bridge]]", "upstream_ca = \"\"\n[[bridge]]", `x.toml:5: upstream_ca: unknown setting here; it belongs under [[bridge]]`},
		{"text for a service", `imap    = { listen = "127.0.0.1:1143", upstream = "imap+insecure://127.0.0.1:143" }`, `imap    = "imaps://imap.example.org"`, `x.toml:20: bridge[1].imap: is a text; write imap = { listen = "127.0.0.1:1143", upstream = "imaps://HOST" }`},
		{"text without quotes", `auth    = "local"`, `auth    = local`, `x.toml:8: not TOML: expected value but found "local" instead (texts stand in quotes: "…")`},
		{"heading without its end", "[[bridge]]", "[[bridge]", `x.toml:5: not TOML: expected end of table array name delimiter`},
		{"number for a text", `auth    = "local"`, `auth    = 1`, `x.toml:8: bridge[0].auth: is a number; write a text in quotes`},
		{"text for a switch", `search_upstream = true`, `search_upstream = "yes"`, `x.toml:16: bridge[0].search_upstream: is a text; write true or false`},
		{"text for a list", `aliases = ["a.liddell@example.org"]`, `aliases = "a.liddell@example.org"`, `x.toml:7: bridge[0].aliases: is a text; write a list`},
		{"not TOML", `mixed       = "refuse"`, `mixed       = refuse`, `x.toml:44: not TOML: `},
		{"no such login", `"local"`, `"locale"`, `x.toml:8: bridge[0].auth: "locale" is none of local, passthrough`},
		{"relative state_dir", `"/var/lib/letterlock"`, `"state"`, `x.toml:2: state_dir: "state" is no absolute path`},
		{"unlock that is none", `"key-file:/etc/letterlock/key"`, `"keyfile:/x"`, `x.toml:3: unlock: "keyfile:/x" is none of "keyring", "key-file:/path"`},
		{"password in the file", `upstream_password = "store"`, `upstream_password = "hunter2"`, `x.toml:12: bridge[0].upstream_password: is none of "store"`},
		{"CA file that is missing", `upstream_ca       = ""`, `upstream_ca       = "/nonexistent/ca.pem"`, `x.toml:13: bridge[0].upstream_ca: reading CA certificates: open /nonexistent/ca.pem`},
		{"address that is none", `address = "bob@example.org"`, `address = "bob"`, `x.toml:19: bridge[1].address: "bob" is no mail address`},
		{"address of two accounts", `address = "bob@example.org"`, `address = "A.Liddell@example.org"`, `x.toml:19: bridge[1].address: A.Liddell@example.org belongs to bridge[0] already`},
		{"cleartext upstream elsewhere", `imap+insecure://127.0.0.1:143`, `imap+insecure://192.0.2.1:143`, `x.toml:20: bridge[1].imap.upstream: cleartext is accepted for loopback addresses only: 192.0.2.1 (write imap://`},
		{"listener off loopback", `bob@example.org"
imap    = { listen = "127.0.0.1:1143"`, `bob@example.org"
imap    = { listen = "0.0.0.0:1143"`, `x.toml:20: bridge[1].imap.listen: listener would be reachable from other machines`},
		{"exposed listener without a certificate", `bob@example.org"
imap    = { listen = "127.0.0.1:1143"`, `bob@example.org"
expose  = true
imap    = { listen = "0.0.0.0:1143"`, `x.toml:21: bridge[1].imap.listen: other machines need a certificate`},
		{"listener of two protocols", `"127.0.0.1:1025"`, `"127.0.0.1:1143"`, `127.0.0.1:1143 is taken by`},
		{"no mode in a rule", `mode = "require"`, ``, `x.toml:46: policy.rule[0].mode: is missing`},
		{"misspelt safeguard of a rule", `mode = "require"`, "mode = \"require\"\nexpird = \"hold\"", `x.toml:50: policy.rule[0].expird: unknown setting; did you mean "expired"?`},
		{"cleartext where something is wrong", `mode = "require"`, "mode = \"require\"\nrevoked = \"cleartext\"", `x.toml:50: policy.rule[0].revoked: "cleartext" is never what this leads to; write "refuse", "hold" or "password"`},
		{"cleartext under require", `mode = "require"`, "mode = \"require\"\nmissing = \"cleartext\"", `x.toml:50: policy.rule[0].missing: "cleartext" is never`},
		{"a group that isn't", `["*@partner.example"]`, `["@partners"]`, `x.toml:48: policy.rule[0].to: "@partners": there is no group of that name; write [policy.groups]`},
		{"a group of groups", "[[policy.rule]]", "[policy.groups]\na = [\"@b\"]\nb = [\"x@b.example\"]\n[[policy.rule]]", `x.toml:47: policy.groups.a: "@b": a group has no groups in it`},
		{"a group that is no list", "[[policy.rule]]", "[policy.groups]\na = \"x@b.example\"\n[[policy.rule]]", `x.toml:47: policy.groups.a: is a text; write a list`},
		{"groups that are none", "[[policy.rule]]", "groups = 1\n[[policy.rule]]", `x.toml:46: policy.groups: is a number; write a table of lists`},
		{"a size without a unit", `mode = "require"`, "mode = \"require\"\nlarger_than = \"10\"", `x.toml:50: policy.rule[0].larger_than: "10" is no size; write a number and its unit`},
		{"an algorithm that is none", `mode = "require"`, "mode = \"require\"\nmin_cipher = \"des\"", `policy.rule[0].min_cipher: "des" is not known; write "aes128" or "aes256"`},
		{"a length of keys in quotes", `mode = "require"`, "mode = \"require\"\nmin_rsa = \"3072\"", `policy.rule[0].min_rsa: is a text; write a number without quotes`},
		{"a length of keys that is none", `mode = "require"`, "mode = \"require\"\nmin_rsa = 512", `policy.rule[0].min_rsa: 512 is no length of an RSA key`},
		{"a page for nothing", `mode = "require"`, "mode = \"require\"\n[policy.password]\nlimit = \"1kB\"", `policy.password.limit: "1kB" is not between "10kB" and "64MiB"`},
		{"a page for more than is taken", `mode = "require"`, "mode = \"require\"\n[policy.password]\nlimit = \"1GB\"", `policy.password.limit: "1GB" is not between`},
		{"a page of a length that is none", `mode = "require"`, "mode = \"require\"\n[policy.password]\nlimit = \"much\"", `policy.password.limit: "much" is no size`},
		{"a size that is none", `mode = "require"`, "mode = \"require\"\nlarger_than = \"xMB\"", `policy.rule[0].larger_than: "xMB" is no size`},
		{"a span that is none", `mode = "require"`, "mode = \"require\"\naccept_wkd_after = \"soon\"", `x.toml:50: policy.rule[0].accept_wkd_after: "soon" is no length of time; write for example "3d" or "72h"`},
		{"a span that is too short", `mode = "require"`, "mode = \"require\"\naccept_wkd_after = \"1h\"", `x.toml:50: policy.rule[0].accept_wkd_after: is too short`},
		{"a hold without an end", `mode = "require"`, "mode = \"require\"\nhold_for = \"forever\"", `x.toml:50: policy.rule[0].hold_for: "forever" is no length of time`},
		{"a dry run of bridges", "[policy]", "[policy]\ndry_run = true", `x.toml:41: policy.dry_run: would send the mail of [[bridge]] in clear`},
		{"source without a server", `["wkd", "autocrypt"]`, `["wkd", "hkp"]`, `x.toml:36: discovery.sources: "hkp" has no server to ask; write for example hkp = ["hkps://HOST"]`},
		{"source that isn't known", `["wkd", "autocrypt"]`, `["wkd", "pigeon"]`, `x.toml:36: discovery.sources: "pigeon" is none of`},
		{"key server in clear", `proxy   = ""`, "vks = [\"http://keys.example.org\"]", `x.toml:37: discovery.vks: "http://keys.example.org" is no key server; write for example "https://`},
		{"DNS through a proxy", "sources = [\"wkd\", \"autocrypt\"]\nproxy   = \"\"", "sources = [\"dane\"]\nproxy   = \"socks5://127.0.0.1:9050\"", `x.toml:36: discovery.sources: "dane" asks a name server, which discovery.proxy can't carry`},
		{"resolver that is a name", `proxy   = ""`, "resolver = \"localhost\"", `x.toml:37: discovery.resolver: "localhost" is no IP address and port`},
		{"organisation's directory of nobody", "[policy]", "[[discovery.ldap]]\nurl = \"http://x\"\npassword = \"secret\"\n[policy]", `discovery.ldap[0].url: "http://x" is no directory`},
		{"organisation's directory without domains", "[policy]", "[[discovery.ldap]]\nurl = \"ldaps://x\"\nbase = \"dc=x\"\n[policy]", `discovery.ldap[0].domains: is missing: whose directory is it?`},
		{"override that is no URL", `"http://127.0.0.1:8080"`, `"127.0.0.1:8080"`, `x.toml:38: discovery.wkd_override.example.org: "127.0.0.1:8080" is no base URL`},
		{"override without TLS", `"http://127.0.0.1:8080"`, `"http://192.0.2.1:8080"`, `x.toml:38: discovery.wkd_override.example.org: "http://192.0.2.1:8080": http is for loopback addresses`},
		{"directory without a port", `"127.0.0.1:8080"
domains`, `"127.0.0.1"
domains`, `x.toml:29: keydir.listen: "127.0.0.1" is not HOST:PORT`},
		{"level that is none", `"debug"`, `"loud"`, `x.toml:52: log.level: "loud" is no level`},
		{"an audit that is required and off", "[log]", "[audit]\nenabled = false\nrequired = true\n[log]", `audit.required: true, but audit is off; write enabled = true`},
		{"an audit kept for no time", "[log]", "[audit]\nkeep = \"90 days\"\n[log]", `audit.keep: "90 days" is no length of time; write for example "90d"`},
		{"figures off loopback", `listen = ""`, `listen = "0.0.0.0:9464"`, `metrics.listen: 0.0.0.0:9464 shows other machines how much mail goes`},
		{"a shared store without a database", `"sqlite:"`, `"postgres://user:hunter2@db"`, `x.toml:33: store.url: names no host or no database; write for example "postgres://letterlock@`},
		{"a shared store in clear if need be", `"sqlite:"`, `"postgres://db/x?sslmode=prefer"`, `store.url: sslmode=prefer lets whoever is on the wire choose cleartext`},
		{"a shared store for a person's bridge", `"sqlite:"`, `"postgres://db/x"`, `store.url: a [[bridge]] keeps its mail's index for itself`},
		{"taking over at once", `"sqlite:"`, "\"postgres://db/x\"\ntakeover = \"10ms\"", `store.takeover: "10ms": between 2s and 1h`},
		{"another database", `"sqlite:"`, `"mysql://db/x"`, `store.url: is neither "sqlite:" nor postgres://`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := strings.Replace(good, tt.old, tt.new, 1)
			if text == good {
				t.Fatalf("%q is not in the good file", tt.old)
			}
			_, err := config.Parse("x.toml", text)
			var p config.Problems
			if !errors.As(err, &p) {
				t.Fatalf("error is %v, want Problems", err)
			}
			if strings.Contains(err.Error(), "has neither imap nor smtp") {
				t.Errorf("of a service that is there it says\n%v", err)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("problems are\n%v\nwant one with\n%s", err, tt.want)
			}
		})
	}
}

// Every key of the rules' language, as it is written, does what it says.
func TestPolicyAsWritten(t *testing.T) {
	c, err := config.Parse("x.toml", `
[policy]
missing_prefer = "hold"
accept_wkd_after = "3d"
hold_for = "48h"
[policy.groups]
board = ["chair@example.org"]
[[policy.rule]]
name = "marked"
subject = "[secure]"
header = ["Sensitivity: Company-Confidential", "X-Secure: *"]
larger_than = "1.5 kB"
attachment = true
strip_subject = true
lower = true
mode = "require"
missing = "password"
min_trust = "confirmed"
accept_wkd_after = "never"
[[policy.rule]]
name = "board"
to = "@board"
identity = ["none", "first-seen"]
mode = "sign"
sign_as = "domain"
[relay]
listen    = "127.0.0.1:10026"
smarthost = "smtp+insecure://127.0.0.1:2525"
domains   = ["example.org"]
`)
	if err != nil {
		t.Fatal(err)
	}
	from, bob := address.Address{Local: "a", Domain: "example.org"}, address.Address{Local: "bob", Domain: "partner.example"}
	m := policy.Message{Size: 1501, Attachment: true, Headers: map[string][]string{"subject": {"[Secure] x"}, "x-secure": {"yes"}}}
	decide := func(a address.Address, m policy.Message) policy.Decision {
		return c.Rules.Message(m, []policy.Decision{c.Rules.Recipient(from, keydir.Finding{Address: a, Outcome: keydir.Absent})})[0]
	}
	if d := decide(bob, m); d.Action != policy.Password || d.Rule != "marked" || d.Options.Strip != "[secure]" {
		t.Errorf("marked: %+v", d)
	}
	m.Size = 1500
	if d := decide(bob, m); d.Action != policy.Hold || d.HoldFor != 48*time.Hour || d.Rule != policy.DefaultRule {
		t.Errorf("not as large: %+v", d)
	}
	if d := decide(address.Address{Local: "chair", Domain: "example.org"}, m); d.Action != policy.SignOnly || d.Options.SignAs != policy.SignAsDomain {
		t.Errorf("the board: %+v", d)
	}
	_, err = config.Parse("x.toml", "[policy]\nsign_as = \"domain\"\n")
	if err == nil || !strings.Contains(err.Error(), `x.toml:2: policy.sign_as: "domain" is the key of [relay]`) {
		t.Errorf("the domain's key without a relay: %v", err)
	}
	_, err = config.Parse("x.toml", "[policy]\ndry_run = true\n")
	if err == nil || !strings.Contains(err.Error(), "x.toml:2: policy.dry_run: is for [relay]") {
		t.Errorf("a dry run of nothing: %v", err)
	}
}

func TestEveryProblemIsTold(t *testing.T) {
	_, err := config.Parse("x.toml", "unlok = 1\nstate_dir = 2\n[[bridge]]\nauth = \"x\"\n[log]\nlevel = \"y\"\n")
	var p config.Problems
	if !errors.As(err, &p) {
		t.Fatal(err)
	}
	for _, want := range []string{"x.toml:1: unlok", "x.toml:2: state_dir", "x.toml:3: bridge[0].address: is missing", "x.toml:4: bridge[0].auth", "x.toml:3: bridge[0]: has neither", "x.toml:6: log.level"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("problems lack %q:\n%v", want, err)
		}
	}
}

// The description must be what a newcomer can start from: every line that it
// comments out is a setting that exists, with the default that holds.
func TestDescriptionIsTrue(t *testing.T) {
	if _, err := config.Parse("describe.toml", config.Description); err != nil {
		t.Errorf("as printed: %v", err)
	}
	setting := regexp.MustCompile(`(?m)^#(\[|[a-z_]+ *=)`)
	all := setting.ReplaceAllString(config.Description, "$1")
	c, err := config.Parse("describe.toml", all)
	if err != nil {
		t.Fatalf("with every setting written out: %v", err)
	}
	def := config.Default()
	b := c.Bridges[0]
	if b.Auth != "local" || b.UpstreamPassword != "store" || b.Append != "all" || b.Sent != "client" || !b.SearchUpstream || b.Expose {
		t.Errorf("described defaults of a bridge are %+v", b)
	}
	if c.Unlock != def.Unlock || c.Store != def.Store || !reflect.DeepEqual(c.Discovery.Sources, def.Discovery.Sources) || c.Log != def.Log || c.Policy.MinTrust != def.Policy.MinTrust ||
		c.Policy.Settings != def.Policy.Settings || c.Policy.Default != def.Policy.Default || c.Policy.MissingPrefer != def.Policy.MissingPrefer {
		t.Errorf("described defaults are %+v, real ones %+v", c, def)
	}
}

func TestKeySources(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		f := filepath.Join(dir, name)
		if err := os.WriteFile(f, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return f
	}
	hex := strings.Repeat("0f", 32)
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	file("cred", hex+"\n")
	key := func(unlock string, exists bool) ([32]byte, error) {
		c := config.Default()
		c.StateDir, c.Unlock = dir, unlock
		return c.Key(exists)
	}
	for _, tt := range []struct{ name, unlock, err string }{
		{"hex digits in a file", "key-file:" + file("hex", hex+"\n"), ""},
		{"hex digits as a credential", "credential:cred", ""},
		{"too few digits", "key-file:" + file("short", hex[2:]), "64 hex digits"},
		{"no digits", "key-file:" + file("words", strings.Repeat("zz", 32)), "64 hex digits"},
		{"no file", "key-file:" + dir + "/none", "openssl rand"},
		{"no credential", "credential:none", "none"},
		{"empty passphrase", "passphrase-file:" + file("empty", "\n"), "passphrase is empty"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := key(tt.unlock, false)
			if tt.err == "" {
				if err != nil || got[0] != 0x0f {
					t.Errorf("got %x, %v", got, err)
				}
			} else if !errors.Is(err, config.ErrLocked) || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error is %v, want ErrLocked about %q", err, tt.err)
			}
		})
	}
	pass := "passphrase-file:" + file("pass", "correct horse\n")
	if _, err := key(pass, true); !errors.Is(err, config.ErrLocked) {
		t.Errorf("a store without its salt gives %v; a new salt would lose it", err)
	}
	first, err := key(pass, false)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := key(pass, true); err != nil || again != first {
		t.Errorf("the same passphrase gives another key, %v", err)
	}
	if other, _ := key("passphrase-file:"+file("pass2", "correct hors\n"), true); other == first {
		t.Error("another passphrase gives the same key")
	}
}

func TestSharedStore(t *testing.T) {
	dir := t.TempDir()
	url := filepath.Join(dir, "url")
	if err := os.WriteFile(url, []byte("postgres://ll:hunter2@db.example.org/mail\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	parse := func(unlock, url string) (*config.Config, error) {
		return config.Parse("x.toml", fmt.Sprintf("state_dir = %q\nunlock = %q\n[store]\nurl = %q\n", dir, unlock, url))
	}
	c, err := parse("key-file:/k", "file:"+url)
	if err != nil || !c.Store.Shared() || c.Store.DSN != "postgres://ll:hunter2@db.example.org/mail" {
		t.Fatalf("%v, %+v", err, c)
	}
	if w := c.Store.Where(); w != "postgres://db.example.org/mail" {
		t.Errorf("told as %s", w)
	}
	if _, err := parse("passphrase-file:/p", "file:"+url); err == nil || !strings.Contains(err.Error(), "all nodes of a shared store need the same key") {
		t.Errorf("a passphrase: %v", err)
	}
	if _, err := parse("key-file:/k", "postgres://ll:hunter2@db:port/x y"); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the password is told, or nothing: %v", err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	if err := os.WriteFile(filepath.Join(dir, "pass"), []byte("correct horse"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err = parse("credential:pass", "file:"+url); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Key(false); !errors.Is(err, config.ErrLocked) || !strings.Contains(err.Error(), "64 hex digits") {
		t.Errorf("a passphrase in a credential: %v", err)
	}
}
