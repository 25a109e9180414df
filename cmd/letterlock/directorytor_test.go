package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/proxy"

	"letterlock.org/letterlock/internal/mailtest/peer"
)

// torNode is a relay and exit of a Tor network of the test's own. %[1]s is its
// folder, %[2]d its number.
const torNode = `TestingTorNetwork 1
DataDirectory %[1]s
Nickname node%[2]d
Address 127.0.0.1
ORPort 127.0.0.1:500%[2]d
SocksPort 0
ContactInfo nobody
AssumeReachable 1
AddressDisableIPv6 1
ExitRelay 1
ExitPolicy accept *:*
ExitPolicyRejectPrivate 0
ServerDNSDetectHijacking 0
ServerDNSTestAddresses
ServerDNSAllowBrokenConfig 1
`

// torAuthority is what the first of them is besides.
const torAuthority = `DirPort 127.0.0.1:7000
AuthoritativeDirectory 1
V3AuthoritativeDirectory 1
TestingV3AuthInitialVotingInterval 5
TestingV3AuthInitialVoteDelay 2
TestingV3AuthInitialDistDelay 2
V3AuthVotingInterval 10
V3AuthVoteDelay 2
V3AuthDistDelay 2
V3AuthNIntervalsValid 20
TestingDirAuthVoteGuard *
TestingDirAuthVoteExit *
TestingDirAuthVoteHSDir *
TestingMinExitFlagThreshold 0
`

// startTor starts three relays and a client, and waits until it connects. It
// gives the client's SOCKS5 proxy.
func startTor(t *testing.T, i *peer.Island) string {
	t.Helper()
	dir := filepath.Join(i.Dir, "tor")
	node := func(n int) string { return filepath.Join(dir, fmt.Sprint("node", n)) }
	keys := filepath.Join(node(1), "keys")
	if err := os.MkdirAll(keys, 0o700); err != nil {
		t.Fatal(err)
	}
	gencert := exec.Command("tor-gencert", "--create-identity-key", "-m", "12", "-a", "127.0.0.1:7000", "-i", "authority_identity_key",
		"-s", "authority_signing_key", "-c", "authority_certificate", "--passphrase-fd", "0")
	gencert.Dir, gencert.Stdin = keys, strings.NewReader("passphrase\n")
	if out, err := gencert.CombinedOutput(); err != nil {
		t.Fatalf("tor-gencert: %v\n%s", err, out)
	}
	config := fmt.Sprintf(torNode, node(1), 1) + torAuthority
	// What its key is must stand in its own configuration; to make it, anything may.
	list := exec.Command("tor", "-f", i.File("torrc-1", config), "--list-fingerprint", "--quiet",
		"--DirAuthority", "x orport=1 v3ident="+strings.Repeat("F", 40)+" 127.0.0.1:1 "+strings.Repeat("F", 40))
	if out, err := list.CombinedOutput(); err != nil {
		t.Fatalf("tor --list-fingerprint: %v\n%s", err, out)
	}
	authority := fmt.Sprintf("DirAuthority node1 orport=5001 v3ident=%s 127.0.0.1:7000 %s\n",
		word(t, filepath.Join(keys, "authority_certificate"), "fingerprint"), word(t, filepath.Join(node(1), "fingerprint"), "node1"))
	for n := 1; n <= 3; n++ {
		if n > 1 {
			config = fmt.Sprintf(torNode, node(n), n)
		}
		i.Start("tor", fmt.Sprint("127.0.0.1:500", n), "tor", "-f", i.File(fmt.Sprint("torrc-", n), config+authority))
	}
	// The flags are listed once, then for each.
	// A client that came before would ask again only after a while.
	torAwaits(t, filepath.Join(node(1), "cached-microdesc-consensus"), func(s string) bool { return strings.Count(s, " Exit Fast Guard ") == 4 })
	log := filepath.Join(dir, "client.log")
	i.Start("tor", "127.0.0.1:9050", "tor", "-f", i.File("torrc-client", fmt.Sprintf(
		"TestingTorNetwork 1\nDataDirectory %s\nSocksPort 127.0.0.1:9050\nConfluxEnabled 0\nUseEntryGuards 0\nClientRejectInternalAddresses 0\nLog notice file %s\n%s", filepath.Join(dir, "client"), log, authority)))
	by, err := proxy.SOCKS5("tcp", "127.0.0.1:9050", nil, proxy.Direct)
	if err != nil {
		t.Fatal(err)
	}
	torAwaits(t, log, func(s string) bool {
		if !strings.Contains(s, "Bootstrapped 100%") {
			return false
		}
		c, err := by.Dial("tcp", "openpgpkey.example.org:443")
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return "socks5://127.0.0.1:9050"
}

func torAwaits(t *testing.T, file string, come func(string) bool) {
	t.Helper()
	for end := time.Now().Add(90 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		b, _ := os.ReadFile(file)
		if come(string(b)) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("no Tor network came up; %s:\n%s", filepath.Base(file), b)
		}
	}
}

// word is the one that follows another at the beginning of a line.
func word(t *testing.T, file, before string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == before {
			return f[1]
		}
	}
	t.Fatalf("no %s in %s", before, b)
	return ""
}

// Look-ups go through Tor, which tells more than other proxies: that a domain has
// an address and its host openpgpkey none.
func TestFindsByTor(t *testing.T) {
	if testing.Short() {
		t.Skip("a Tor network takes half a minute to agree on itself")
	}
	peer.Require(t, "unbound", "unshare", "tor", "tor-gencert")
	peer.OnIsland(t, func(i *peer.Island) {
		p := newPortal(t, i)
		asked := blindfold(t)
		s := p.blind("tor", startTor(t, i), "")
		s.finds("joe@example.org", "found", "wkd-advanced", "", p.joe)
		s.finds("nobody@example.org", "absent", "wkd-advanced", "answered 404", nil)
		s.finds("nobody@example.net", "no-directory", "wkd-direct", "answered 404", nil)
		s.finds("ann@example.net", "found", "wkd-direct", "", p.ann)
		s.finds("somebody@example.net", "unavailable", "wkd-direct", "answered 404", nil) // of a domain that has a directory
		s.finds("joe@nowhere.example", "unavailable", "wkd-direct", "the proxy could not connect", nil)
		if n := asked.Load(); n != 0 {
			t.Errorf("%d names went to a name server and not to Tor", n)
		}
	}, portalAddress+"/32")
}
