package pgp_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

const (
	passwordLetter = "From: Alice <alice@example.org>\r\nTo: bob@example.net\r\nBcc: carol@example.com\r\nLetterlock-Password: CANARY-PASSWORD\r\n" +
		"Subject: CANARY-SUBJECT\r\nMessage-ID: <m1@example.org>\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\n\r\nCANARY-BODY\r\n"
	passwordWord = "k7qm2-x2vd9-9htaw-m4wc3"
)

// underPassword is the armored message and its outer header.
func underPassword(t *testing.T, signer pgp.Signer) (armored, outer string) {
	t.Helper()
	pc, err := pgp.ForPassword(context.Background(), message.Bytes([]byte(passwordLetter)), pgp.Protection{Signer: signer})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := pc.Write(context.Background(), &b, []byte(passwordWord)); err != nil {
		t.Fatal(err)
	}
	return b.String(), string(pc.Outer())
}

// keysAndData cuts a message into its packets: two of keys, and the rest.
func keysAndData(t *testing.T, armored string) (keys [2][]byte, data []byte) {
	t.Helper()
	block, err := armor.Decode(strings.NewReader(armored))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(block.Body)
	if err != nil {
		t.Fatal(err)
	}
	for i := range keys {
		if raw[0] != 0xc3 || raw[1] >= 192 {
			t.Fatalf("packet %d is no short session key packet: % x", i, raw[:2])
		}
		keys[i], raw = raw[:2+int(raw[1])], raw[2+int(raw[1]):]
	}
	return keys, raw
}

func decryptPassword(raw []byte, password string) (string, error) {
	asked := false
	md, err := openpgp.ReadMessage(bytes.NewReader(raw), openpgp.EntityList{}, func([]openpgp.Key, bool) ([]byte, error) {
		if asked {
			return nil, io.ErrUnexpectedEOF
		}
		asked = true
		return []byte(password), nil
	}, &packet.Config{})
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(md.UnverifiedBody)
	return string(b), err
}

func TestEitherSessionKeyPacketOpensTheMessage(t *testing.T) {
	armored, _ := underPassword(t, nil)
	keys, data := keysAndData(t, armored)
	// RFC 9580, Section 5.3.1: version, cipher, S2K type.
	for i, want := range []string{"\x04\x09\x04", "\x04\x09\x03"} {
		if got := string(keys[i][2:5]); got != want {
			t.Errorf("packet %d begins % x, want % x", i, got, want)
		}
		text, err := decryptPassword(append(bytes.Clone(keys[i]), data...), passwordWord)
		if err != nil || !strings.Contains(text, "CANARY-BODY") {
			t.Errorf("packet %d alone: %v\n%s", i, err, text)
		}
		if text, err := decryptPassword(append(bytes.Clone(keys[i]), data...), passwordWord+"x"); err == nil || strings.Contains(text, "CANARY") {
			t.Errorf("packet %d opens with a wrong password", i)
		}
	}
	// Three passes, four threads, 2^16 KiB (RFC 9106, Section 4), and a salt
	// that isn't the other's.
	if got := keys[0][5+16 : 5+19]; !bytes.Equal(got, []byte{3, 4, 16}) {
		t.Errorf("Argon2 parameters % x", got)
	}
	if got := keys[1][5+1+8]; got != 0xff {
		t.Errorf("iterated S2K count %#x", got)
	}
}

func TestNothingOfAMessageUnderAPasswordIsSeen(t *testing.T) {
	armored, outer := underPassword(t, makeKey(t, "alice@example.org"))
	keys, data := keysAndData(t, armored)
	for name, where := range map[string]string{"armor": armored, "header": outer, "packets": string(keys[0]) + string(keys[1]) + string(data)} {
		for _, secret := range []string{"CANARY", passwordWord, "carol"} {
			if strings.Contains(where, secret) {
				t.Errorf("%s has %q", name, secret)
			}
		}
	}
	if !strings.Contains(outer, "Subject: [...]\r\n") || !strings.Contains(outer, "Message-ID: <m1@example.org>\r\n") {
		t.Errorf("header outside:\n%s", outer)
	}
	inside, err := decryptPassword(append(append(bytes.Clone(keys[0]), keys[1]...), data...), passwordWord)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"CANARY-PASSWORD", "carol"} {
		if strings.Contains(inside, secret) {
			t.Errorf("the copy inside has %q", secret)
		}
	}
	if !strings.Contains(inside, "Subject: CANARY-SUBJECT\r\n") {
		t.Errorf("header inside:\n%s", inside)
	}
}

func TestNoPasswordNoMessage(t *testing.T) {
	pc, err := pgp.ForPassword(context.Background(), message.Bytes([]byte(passwordLetter)), pgp.Protection{})
	if err != nil {
		t.Fatal(err)
	}
	if err := pc.Write(context.Background(), io.Discard, nil); err == nil {
		t.Error("encrypted under an empty password")
	}
	c := makeKey(t, "bob@example.net").Certificate()
	if _, err := pgp.ForPassword(context.Background(), message.Bytes([]byte(passwordLetter)), pgp.Protection{Recipients: []*pgp.Certificate{c}}); err == nil {
		t.Error("certificates were ignored")
	}
}

// TestPeersReadAMessageUnderAPassword: GnuPG 2.2, RNP 0.16, sqop 0.27 and
// PGPainless 1.3 read the second session key packet only; GnuPG complains of the
// first, and so ends with 2 having written the text.
func TestPeersReadAMessageUnderAPassword(t *testing.T) {
	for _, p := range []struct {
		name     string
		programs []string
		read     func(w *workshop) string
	}{
		{"gpg", []string{"gpg", "gpgconf"}, gpgReadsPassword},
		{"sqop", []string{"sqop"}, func(w *workshop) string {
			out, _ := w.run("message.asc", "sqop", "decrypt", "--with-password=word")
			return out
		}},
		{"pgpainless-cli", []string{"pgpainless-cli"}, func(w *workshop) string {
			out, _ := w.run("message.asc", "pgpainless-cli", "decrypt", "--with-password=word")
			return out
		}},
		{"rnp", []string{"rnp"}, func(w *workshop) string {
			out, _ := w.run("", "rnp", "--homedir", w.dir, "--notty", "--password", passwordWord, "--decrypt", "message.asc", "--output", "-")
			return out
		}},
	} {
		t.Run(p.name, func(t *testing.T) {
			requirePeer(t, p.programs...)
			w := passwordWorkshop(t)
			w.want("Subject: CANARY-SUBJECT", p.read(w))
		})
	}
}

// TestOpenPGPjsReadsArgon2 has the first session key packet alone.
func TestOpenPGPjsReadsArgon2(t *testing.T) {
	modules := os.Getenv("LETTERLOCK_OPENPGPJS")
	if modules == "" {
		t.Skip("LETTERLOCK_OPENPGPJS is not set")
	}
	requirePeer(t, "node")
	w := passwordWorkshop(t)
	armored, _ := underPassword(t, nil)
	keys, data := keysAndData(t, armored)
	w.write("message.pgp", string(keys[0])+string(data))
	w.write("peer.js", "const openpgp = require('"+modules+`/openpgp'); const fs = require('fs');
		(async () => {
			const m = await openpgp.readMessage({binaryMessage: new Uint8Array(fs.readFileSync('message.pgp'))});
			const r = await openpgp.decrypt({message: m, passwords: ['`+passwordWord+`'], format: 'binary'});
			process.stdout.write(Buffer.from(r.data));
		})().catch(e => { console.error(e); process.exit(1) });`)
	out, _ := w.run("", "node", "peer.js")
	w.want("Subject: CANARY-SUBJECT", out)
}

func passwordWorkshop(t *testing.T) *workshop {
	t.Helper()
	dir, err := os.MkdirTemp("", "ll") // short: gpg-agent's socket lies in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	w := &workshop{t, dir}
	armored, _ := underPassword(t, nil)
	w.write("message.asc", armored)
	w.write("word", passwordWord)
	return w
}

func gpgReadsPassword(w *workshop) string {
	w.Cleanup(func() {
		// Ends the agent that gpg started for this folder.
		_ = exec.Command("gpgconf", "--homedir", w.dir, "--kill", "gpg-agent").Run()
	})
	cmd := exec.Command("gpg", "--batch", "--no-tty", "--status-fd", "2", "--pinentry-mode", "loopback", "--passphrase-file", "word", "--decrypt", "message.asc")
	cmd.Dir, cmd.Env = w.dir, append(os.Environ(), "GNUPGHOME="+w.dir)
	var status bytes.Buffer
	cmd.Stderr = &status
	out, err := cmd.Output()
	if code := cmd.ProcessState.ExitCode(); err != nil && code != 2 {
		w.Fatalf("gpg: %v\n%s", err, status.String())
	}
	w.want("DECRYPTION_OKAY", status.String())
	return string(out)
}
