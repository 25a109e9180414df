package imapd_test

import (
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/mailtest/peer"
)

// TestWithheld: what would show ciphertext, name messages that we don't know or
// upload what is not one message is neither told of nor carried out, whatever the
// upstream can do.
func TestWithheld(t *testing.T) {
	d := (&double{caps: "IMAP4rev1 IMAP4rev2 LITERAL+ SASL-IR AUTH=PLAIN IDLE ESEARCH SEARCHRES SORT SORT=DISPLAY ESORT THREAD=REFERENCES UTF8=ACCEPT " +
		"ENABLE CONDSTORE BINARY COMPRESS=DEFLATE PREVIEW SNIPPET=FUZZY CATENATE MULTIAPPEND REPLACE NOTIFY CONTEXT=SEARCH URLAUTH METADATA ACL WITHIN UIDPLUS"}).start(t)
	b := startBridge(t, d.addr, "up", "pw", nil)
	c := login(t, b.addr, user, password)
	if got, want := strings.Join(c.ok("CAPABILITY"), ""), "* CAPABILITY IMAP4rev1 LITERAL+ ID IDLE ESEARCH ENABLE CONDSTORE UIDPLUS"; got != want {
		t.Errorf("told of %q, want %q", got, want)
	}
	if got := strings.Join(c.ok("ENABLE UTF8=ACCEPT IMAP4rev2"), ""); got != "* ENABLED" {
		t.Errorf("ENABLE says %q", got)
	}
	c.ok("SELECT INBOX")
	before := d.received()
	for _, command := range []string{
		"SORT (SUBJECT) UTF-8 ALL", "UID SORT (DATE) UTF-8 ALL", "THREAD REFERENCES UTF-8 ALL", "UID THREAD REFERENCES UTF-8 ALL",
		"SEARCH RETURN (SAVE) ALL", "UID SEARCH RETURN (SAVE MIN) ALL", "FETCH $ (FLAGS)", "UID FETCH $ (FLAGS)", "STORE $ +FLAGS (x)", "COPY $ A", "UID MOVE $ A", "SEARCH $", "SEARCH UID $",
		"FETCH 1 (BINARY.PEEK[1])", "FETCH 1 (BINARY.SIZE[1])", "FETCH 1 (PREVIEW)", "FETCH 1 (SNIPPET (FUZZY))", "FETCH 1 (EMAILID)", "FETCH 1 ALL (PARTIAL 1:2)",
		"COMPRESS DEFLATE", "NOTIFY SET (SELECTED (MessageNew))", "CANCELUPDATE x", "GENURLAUTH x INTERNAL", "URLFETCH x", "SETACL INBOX bob lr", `GETMETADATA INBOX "/private/comment"`,
		"REPLACE 1 INBOX {1+}\r\nx", "UID REPLACE 10 INBOX {1+}\r\nx", `APPEND INBOX CATENATE (URL "/INBOX/;UID=10")`, "APPEND INBOX UTF8 (~{1+}\r\nx)", "UNAUTHENTICATE", "XLIST \"\" *",
	} {
		if got := c.cmd(command); len(got) != 1 || !strings.Contains(got[0], " BAD ") && !strings.Contains(got[0], " NO ") {
			t.Errorf("%s: %q", command, got)
		}
	}
	if got := strings.TrimPrefix(d.received(), before); got != "" {
		t.Errorf("the upstream was told %q", got)
	}
}

// TestEsearch: ESEARCH is answered as Dovecot answers it, for mail that is opened
// too.
func TestEsearch(t *testing.T) {
	d, b, mail := secretBox(t, nil)
	c := login(t, b.addr, user, password)
	c.ok("SELECT INBOX")
	direct := login(t, d.Addr, peer.Alice, peer.AlicePassword)
	direct.ok("SELECT INBOX")
	if len(mail) != 6 {
		t.Fatal(len(mail))
	}
	for _, tt := range []struct{ command, want string }{
		{"SEARCH RETURN () ALL", "ALL 1:6"},
		{"SEARCH RETURN (ALL) ALL", "ALL 1:6"},
		{"SEARCH RETURN (MIN MAX COUNT) ALL", "MIN 1 MAX 6 COUNT 6"},
		{"UID SEARCH RETURN (MIN MAX COUNT ALL) UID 2:4", "UID MIN 2 MAX 4 ALL 2:4 COUNT 3"},
		{"SEARCH RETURN (COUNT) UNKEYWORD nosuch NOT ALL", "COUNT 0"},
		{"SEARCH RETURN (MIN COUNT) SUBJECT secret", "MIN 2 COUNT 3"},
		{"UID SEARCH RETURN (ALL) BODY canary", "UID ALL 2,4"},
		{"SEARCH RETURN (COUNT) BODY nowhere", "COUNT 0"},
	} {
		strip := func(all []string) string {
			_, after, _ := strings.Cut(strings.Join(all, ""), ") ")
			return after
		}
		if got := strip(c.ok(tt.command)); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.command, got, tt.want)
		}
		if !strings.Contains(tt.command, "SUBJECT") && !strings.Contains(tt.command, "BODY") {
			if got := strip(direct.ok(tt.command)); got != tt.want {
				t.Errorf("Dovecot says %q to %s, want %q", got, tt.command, tt.want)
			}
		}
	}
}
