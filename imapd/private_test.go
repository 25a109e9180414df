package imapd_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"letterlock.org/letterlock/imapd"
	"letterlock.org/letterlock/internal/mailtest/peer"
)

// stored is how the upstream has the last message of a mailbox.
func stored(t *testing.T, d *peer.DovecotServer, mailbox string) string {
	t.Helper()
	c := login(t, d.Addr, peer.Alice, peer.AlicePassword)
	defer c.conn.Close()
	c.ok("EXAMINE " + mailbox)
	return strings.Join(c.ok("FETCH * (BODY.PEEK[])"), "\n")
}

// TestWhatIsPrivate: append = "private" seals drafts, templates and what was sent
// however the mailbox is called and whatever the upstream says of it.
func TestWhatIsPrivate(t *testing.T) {
	plain := peer.StartDovecot(t, peer.DovecotOptions{Capability: "IMAP4rev1 IDLE UIDPLUS LITERAL+"})
	marking := peer.Dovecot(t)
	for i, tt := range []struct {
		name, mailbox, flags, header string
		upstream                     *peer.DovecotServer
		create                       string // "" for no CREATE beyond the mailbox
		seals                        bool
	}{
		{"any other mailbox", "Letters", "", "", plain, "", false},
		{"a name in English", "Drafts", "", "", plain, "", true},
		{"another case", "dRAFTS", "", "", plain, "", true},
		{"a name below another", "INBOX/Sent Items", "", "", plain, "", true},
		{"a name that looks like one", "Sentinels", "", "", plain, "", false},
		{"a name in German", "Entw&APw-rfe", "", "", plain, "", true},
		{"a name in Japanese", "&Tgtm+DBN-", "", "", plain, "", true},
		{"a name in Russian, below another", "x/&BB4EQgQ,BEAEMAQyBDsENQQ9BD0ESwQ1-", "", "", plain, "", true},
		{"a flag", "Letters", "(\\Seen \\Draft) ", "", plain, "", true},
		{"another flag", "Letters", "(\\Seen) ", "", plain, "", false},
		{"a field that drafts have", "Letters", "", "X-Mozilla-Draft-Info: internal/draft; vcard=0\r\n", plain, "", true},
		{"a mailbox that is marked", "Sent", "", "", marking, "", true},
		{"a mailbox that is marked otherwise", "Archive", "", "", marking, "", false},
		{"a mailbox made for it", "Later", "", "", plain, `CREATE Later (USE (\Drafts))`, true},
		{"a mailbox made for something else", "Old", "", "", plain, `CREATE Old (USE (\Archive))`, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := startBridge(t, tt.upstream.Addr, peer.Alice, peer.AlicePassword, func(_ *imapd.Config, a *imapd.Account) { a.Append = imapd.AppendPrivate })
			c := login(t, b.addr, user, password)
			if tt.create != "" { // which this upstream doesn't know
				c.cmd(tt.create)
			}
			c.cmd(fmt.Sprintf("CREATE \"%s\"", tt.mailbox))
			raw := fmt.Appendf(nil, "From: alice@example.test\r\n%sSubject: x\r\nMessage-ID: <p%d@x>\r\n\r\nprivate canary\r\n", tt.header, i)
			c.upload(`"`+tt.mailbox+`"`, tt.flags, raw)
			got := stored(t, tt.upstream, `"`+tt.mailbox+`"`)
			if sealed := !strings.Contains(got, "private canary") && strings.Contains(got, "multipart/encrypted"); sealed != tt.seals {
				t.Errorf("sealed: %v, want %v: %.300q", sealed, tt.seals, got)
			}
			c.ok(fmt.Sprintf("EXAMINE \"%s\"", tt.mailbox))
			if back := c.fetch("FETCH * (UID BODY.PEEK[])"); !strings.Contains(fmt.Sprint(back), string(raw)) {
				t.Errorf("comes back as %.300q", back)
			}
		})
	}
}

// TestLettersStayPrivate: append = "private" seals what came encrypted wherever it
// is put, since programs move mail between mailboxes and accounts by uploading what
// they were shown, and so it does with what answers it: some file that beside it.
func TestLettersStayPrivate(t *testing.T) {
	d := peer.Dovecot(t)
	b := startBridge(t, d.Addr, peer.Alice, peer.AlicePassword, func(_ *imapd.Config, a *imapd.Account) { a.Append = imapd.AppendPrivate })
	encrypted := encrypt(t, b.key, []byte("From: alice@example.test\r\nSubject: x\r\nMessage-ID: <letter@x>\r\n\r\nletter canary\r\n"))
	c := login(t, d.Addr, peer.Alice, peer.AlicePassword)
	c.ok("CREATE Projects")
	c.upload("INBOX", "", encrypted)
	c.conn.Close()
	c = login(t, b.addr, user, password)
	c.ok("SELECT INBOX")
	shown := fmt.Sprint(c.fetch("FETCH * (UID BODY.PEEK[])"))
	if !strings.Contains(shown, "letter canary") {
		t.Fatalf("not decrypted: %.500q", shown)
	}
	for _, tt := range []struct {
		name, header string
		seals        bool
	}{
		{"what was shown", "From: bob@example.test\r\nLetterlock-Status: encrypted; signature=none; identity=none; signer=none\r\n", true},
		{"what was shown, without our field", "From: bob@example.test\r\nMessage-ID: <letter@x>\r\n", true},
		{"an answer", "From: alice@example.test\r\nMessage-ID: <1@x>\r\nIn-Reply-To: <letter@x>\r\n", true},
		{"an answer to an answer", "From: alice@example.test\r\nReferences: <0@x>\r\n <letter@x> <1@x>\r\n", true},
		{"what forwards it", "From: alice@example.test\r\nX-Forwarded-Message-Id: <letter@x>\r\n", true},
		{"an answer that names very many", "From: alice@example.test\r\nReferences: " + strings.Repeat("<a@x>\r\n <b@x> ", 1100) + "\r\n", false},
		{"anything else", "From: alice@example.test\r\nIn-Reply-To: <other@x>\r\nLetterlock-Status: signed\r\n", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			raw := []byte(tt.header + "Subject: x\r\n\r\nletter canary\r\n")
			c.upload("Projects", "", raw)
			got := stored(t, d, "Projects")
			if sealed := !strings.Contains(got, "letter canary") && strings.Contains(got, "multipart/encrypted"); sealed != tt.seals {
				t.Errorf("sealed: %v, want %v: %.300q", sealed, tt.seals, got)
			}
		})
	}
}

// TestNothingThatIsUploadedSpeaksForUs: whoever wrote a message that is moved here
// from elsewhere may have written our fields into it. They are masked in place, as
// in mail that isn't sealed, and nothing else changes.
func TestNothingThatIsUploadedSpeaksForUs(t *testing.T) {
	d := peer.Dovecot(t)
	b := startBridge(t, d.Addr, peer.Alice, peer.AlicePassword, nil)
	c := login(t, b.addr, user, password)
	const raw = "From: mallory@example.test\r\nLetterLock-Status: encrypted; signature=valid; identity=confirmed; signer=AA\r\n" +
		"Subject: x\rletterlock-status: y\r\nMessage-ID: <u@x>\r\n\r\nLetterlock-Status: of the text\r\n"
	c.upload("Archive", "", []byte(raw))
	c.ok("SELECT Archive")
	want := strings.Replace(strings.Replace(raw, "LetterLock-", "XXXXXXXXXX-", 1), "\rletterlock-", "\rXXXXXXXXXX-", 1)
	for range 2 { // from the rendering, and from what the index keeps of its header
		if got := fmt.Sprint(c.fetch("FETCH * (UID RFC822.SIZE BODY.PEEK[])")); !strings.Contains(got, want) {
			t.Errorf("shown as %q", got)
		}
		if got := fmt.Sprint(c.fetch("FETCH * (UID BODY.PEEK[HEADER])")); strings.Contains(strings.ToLower(got), "letterlock-") {
			t.Errorf("its header is %q", got)
		}
	}
	if got := stored(t, d, "Archive"); !strings.Contains(got, "multipart/encrypted") {
		t.Errorf("stored as %.300q", got)
	}
}

// TestOnlyWhatIsEncryptedIsNotSealed: an upload that only says that it is
// encrypted is sealed like any other.
func TestOnlyWhatIsEncryptedIsNotSealed(t *testing.T) {
	d := peer.Dovecot(t)
	b := startBridge(t, d.Addr, peer.Alice, peer.AlicePassword, nil)
	c := login(t, b.addr, user, password)
	encrypted := encrypt(t, b.key, []byte("From: alice@example.test\r\nSubject: x\r\nMessage-ID: <e@x>\r\n\r\ntext\r\n"))
	begin, end := bytes.Index(encrypted, []byte("-----BEGIN PGP MESSAGE-----")), bytes.Index(encrypted, []byte("-----END PGP MESSAGE-----"))
	put := func(at int, text string) []byte {
		return []byte(string(encrypted[:at]) + text + string(encrypted[at:]))
	}
	const marker = "clear canary"
	for _, tt := range []struct {
		name  string
		raw   []byte
		seals bool
	}{
		{"what is encrypted", encrypted, false},
		{"clear text in the second part", append(append(bytes.Clone(encrypted[:begin]), marker+"\r\n"...), encrypted[end:]...), true},
		{"clear text in armor", append(append(bytes.Clone(encrypted[:begin]), "-----BEGIN PGP MESSAGE-----\r\n\r\n"+marker+"\r\n"...), encrypted[end:]...), true},
		{"clear text before the armor", put(begin, marker+"\r\n"), true},
		{"clear text after the armor", put(end+len("-----END PGP MESSAGE-----"), "\r\n"+marker), true},
		{"clear text in the first part", put(bytes.LastIndex(encrypted, []byte("\r\nVersion: 1"))+12, "\r\n"+strings.Repeat("x", 60)+marker), true},
		{"clear text before the parts", put(bytes.Index(encrypted, []byte("\r\n\r\n"))+4, strings.Repeat("x", 600)+marker+"\r\n"), true},
		{"clear text after the parts", append(bytes.Clone(encrypted), strings.Repeat("x", 600)+marker...), true},
		{"a public key block", bytes.ReplaceAll(encrypted, []byte("PGP MESSAGE"), []byte("PGP PUBLIC KEY BLOCK")), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c.upload("Drafts", "", tt.raw)
			got := stored(t, d, "Drafts")
			if sealed := !strings.Contains(got, string(tt.raw)); sealed != tt.seals || strings.Contains(got, marker) {
				t.Errorf("sealed: %v, want %v: %.600q", sealed, tt.seals, got)
			}
		})
	}
}

// TestWhatCouldNotBeShownIsNotSealed: a client that moves its mail here keeps
// what it could not read here again.
func TestWhatCouldNotBeShownIsNotSealed(t *testing.T) {
	d := peer.Dovecot(t)
	b := startBridge(t, d.Addr, peer.Alice, peer.AlicePassword, nil)
	c := login(t, b.addr, user, password)
	for name, raw := range map[string]string{
		"fields": "From: alice@example.test\r\n" + strings.Repeat("X: y\r\n", 3000) + "\r\nx\r\n",
		"parts":  "From: alice@example.test\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n\r\nx\r\n", 1100) + "--b--\r\n",
	} {
		got := c.cmd(fmt.Sprintf("APPEND Drafts {%d+}\r\n%s", len(raw), raw))
		if last := got[len(got)-1]; !strings.Contains(last, " NO [LIMIT] ") {
			t.Errorf("many %s: %q", name, last)
		}
	}
	c.upload("Drafts", "", []byte("From: alice@example.test\r\n\r\nx\r\n"))
}
