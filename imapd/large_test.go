package imapd_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/mailtest/peer"
)

// TestLargeInPieces reads an encrypted message of some megabytes as Thunderbird
// does, in pieces of 64 KiB: it is decrypted once, and the pieces are the whole.
func TestLargeInPieces(t *testing.T) {
	d := peer.Dovecot(t)
	b := startBridge(t, d.Addr, peer.Alice, peer.AlicePassword, nil)
	var lines strings.Builder
	for i := range 120_000 {
		fmt.Fprintf(&lines, "%s\r\n", base64.StdEncoding.EncodeToString([]byte(fmt.Sprintf("some bytes of attachment, line %8d", i))))
	}
	raw := letter(5, "Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"+lines.String())
	sealed := encrypt(t, b.key, raw)
	d.Append(t, peer.Alice, "INBOX", sealed)
	c := login(t, b.addr, user, password)
	c.ok("SELECT INBOX")
	start := time.Now()
	size, _ := strconv.Atoi(c.fetch("UID FETCH 1 (UID RFC822.SIZE)")["1"]["RFC822.SIZE"])
	opened := time.Since(start)
	var got bytes.Buffer
	start = time.Now()
	for off := 0; off < size; off += 65536 {
		m := c.fetch(fmt.Sprintf("UID FETCH 1 (UID RFC822.SIZE BODY[]<%d.65536>)", off))["1"]
		got.WriteString(m[fmt.Sprintf("BODY[]<%d>", off)])
		if m["RFC822.SIZE"] != strconv.Itoa(size) {
			t.Fatalf("RFC822.SIZE is %s, was %d", m["RFC822.SIZE"], size)
		}
	}
	t.Logf("%d bytes: opened in %v, read in %v", size, opened, time.Since(start))
	if got.Len() != size || !bytes.HasSuffix(got.Bytes(), []byte(lines.String()[:lines.Len()-2])) && !bytes.HasSuffix(got.Bytes(), []byte(lines.String())) {
		t.Errorf("pieces have %d bytes of %d", got.Len(), size)
	}
	if whole := c.fetch("UID FETCH 1 (BODY.PEEK[])")["1"]["BODY[]"]; whole != got.String() {
		t.Error("the pieces are not the whole")
	}
}
