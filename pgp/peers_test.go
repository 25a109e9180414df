package pgp_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"letterlock.org/letterlock/pgp"
)

// peer is another OpenPGP implementation, driven through files in dir:
// alice.sec, alice.pub, bob.sec and bob.pub (armored).
type peer struct {
	name string
	// programs must all be installed.
	programs []string
	// decrypt opens message.asc as Bob and demands a valid signature by Alice.
	decrypt func(p *workshop) string
	// verify checks signature.asc, made by Alice, over signed.bin.
	verify func(p *workshop)
	// encrypt signs content.bin as Bob and encrypts it to Alice, armored.
	encrypt func(p *workshop) string
}

// workshop is one test's folder.
type workshop struct {
	*testing.T
	dir string
}

func (w *workshop) write(name, content string) {
	w.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(content), 0o600); err != nil {
		w.Fatal(err)
	}
}

// run gives what the program printed; a failure ends the test.
func (w *workshop) run(stdin string, args ...string) (stdout, stderr string) {
	w.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = w.dir
	cmd.Env = append(os.Environ(), "GNUPGHOME="+w.dir, "HOME="+w.dir)
	if stdin != "" {
		f, err := os.Open(filepath.Join(w.dir, stdin))
		if err != nil {
			w.Fatal(err)
		}
		defer f.Close()
		cmd.Stdin = f
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		w.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	return out.String(), errs.String()
}

func (w *workshop) want(text, in string) {
	w.Helper()
	if !strings.Contains(in, text) {
		w.Fatalf("no %q in:\n%s", text, in)
	}
}

// requirePeer skips where a program is missing, or fails where it must not be.
func requirePeer(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			if os.Getenv("LETTERLOCK_REQUIRE_PEERS") == "1" {
				t.Fatalf("%s is not installed, and LETTERLOCK_REQUIRE_PEERS=1", p)
			}
			t.Skipf("%s is not installed", p)
		}
	}
}

func sopPeer(name, decryptOut string) peer {
	return peer{
		name: name, programs: []string{name},
		decrypt: func(p *workshop) string {
			out, _ := p.run("message.asc", name, "decrypt", decryptOut+"=verified", "--verify-with=alice.pub", "bob.sec")
			v, _ := os.ReadFile(filepath.Join(p.dir, "verified"))
			if len(bytes.TrimSpace(v)) == 0 {
				p.Fatal("no signature verified")
			}
			return out
		},
		verify: func(p *workshop) {
			out, _ := p.run("signed.bin", name, "verify", "signature.asc", "alice.pub")
			if strings.TrimSpace(out) == "" {
				p.Fatal("no signature verified")
			}
		},
		encrypt: func(p *workshop) string {
			out, _ := p.run("content.bin", name, "encrypt", "--sign-with=bob.sec", "alice.pub")
			return out
		},
	}
}

func gpgPeer() peer {
	gpg := func(p *workshop, stdin string, args ...string) (string, string) {
		p.Cleanup(func() {
			// Ends the agent that gpg started for this folder.
			_ = exec.Command("gpgconf", "--homedir", p.dir, "--kill", "gpg-agent").Run()
		})
		return p.run(stdin, append([]string{"gpg", "--batch", "--no-tty", "--status-fd", "2", "--trust-model", "always"}, args...)...)
	}
	return peer{
		name: "gpg", programs: []string{"gpg", "gpgconf"},
		decrypt: func(p *workshop) string {
			gpg(p, "", "--import", "bob.sec", "alice.pub")
			out, status := gpg(p, "", "--decrypt", "message.asc")
			p.want("GOODSIG", status)
			p.want("DECRYPTION_OKAY", status)
			return out
		},
		verify: func(p *workshop) {
			gpg(p, "", "--import", "alice.pub")
			_, status := gpg(p, "", "--verify", "signature.asc", "signed.bin")
			p.want("GOODSIG", status)
		},
		encrypt: func(p *workshop) string {
			gpg(p, "", "--import", "bob.sec", "alice.pub")
			out, _ := gpg(p, "", "--armor", "--sign", "--encrypt", "-u", "bob@example.net", "-r", "alice@example.org",
				"--output", "-", "content.bin")
			return out
		},
	}
}

func rnpPeer() peer {
	home := func(p *workshop) string {
		d := filepath.Join(p.dir, "rnp")
		if err := os.MkdirAll(d, 0o700); err != nil {
			p.Fatal(err)
		}
		p.run("", "rnpkeys", "--homedir", d, "--import-keys", "alice.pub")
		p.run("", "rnpkeys", "--homedir", d, "--import-keys", "bob.sec")
		return d
	}
	read := func(p *workshop, name string) string {
		b, err := os.ReadFile(filepath.Join(p.dir, name))
		if err != nil {
			p.Fatal(err)
		}
		return string(b)
	}
	return peer{
		name: "rnp", programs: []string{"rnp", "rnpkeys"},
		decrypt: func(p *workshop) string {
			_, told := p.run("", "rnp", "--homedir", home(p), "--notty", "--password", "", "--decrypt", "message.asc", "--output", "out.bin")
			p.want("Good signature", told)
			return read(p, "out.bin")
		},
		verify: func(p *workshop) {
			_, told := p.run("", "rnp", "--homedir", home(p), "--verify", "signature.asc", "--source", "signed.bin")
			p.want("Good signature", told)
		},
		encrypt: func(p *workshop) string {
			p.run("", "rnp", "--homedir", home(p), "--notty", "--password", "", "--encrypt", "--sign", "--armor",
				"-u", "bob@example.net", "-r", "alice@example.org", "--output", "out.asc", "content.bin")
			return read(p, "out.asc")
		},
	}
}

// jsPeer is openpgp.js; LETTERLOCK_OPENPGPJS names a node_modules folder.
func jsPeer(modules string) peer {
	node := func(p *workshop, script string) string {
		p.write("peer.js", "const openpgp = require('"+modules+"/openpgp'); const fs = require('fs');\n"+
			"const text = f => fs.readFileSync(f, 'utf8');\n"+
			"const pub = f => openpgp.readKey({armoredKey: text(f)});\n"+
			"const sec = f => openpgp.readPrivateKey({armoredKey: text(f)});\n"+
			"(async () => {"+script+"})().catch(e => { console.error(e); process.exit(1) });\n")
		out, _ := p.run("", "node", "peer.js")
		return out
	}
	return peer{
		name: "openpgp.js", programs: []string{"node"},
		decrypt: func(p *workshop) string {
			return node(p, `const m = await openpgp.readMessage({armoredMessage: text('message.asc')});
				const r = await openpgp.decrypt({message: m, decryptionKeys: await sec('bob.sec'),
					verificationKeys: await pub('alice.pub'), expectSigned: true, format: 'binary'});
				await r.signatures[0].verified; process.stdout.write(Buffer.from(r.data));`)
		},
		verify: func(p *workshop) {
			node(p, `const m = await openpgp.createMessage({binary: fs.readFileSync('signed.bin')});
				const s = await openpgp.readSignature({armoredSignature: text('signature.asc')});
				const r = await openpgp.verify({message: m, signature: s, verificationKeys: await pub('alice.pub'), expectSigned: true});
				await r.signatures[0].verified;`)
		},
		encrypt: func(p *workshop) string {
			return node(p, `const m = await openpgp.createMessage({binary: fs.readFileSync('content.bin')});
				process.stdout.write(await openpgp.encrypt({message: m, encryptionKeys: await pub('alice.pub'), signingKeys: await sec('bob.sec')}));`)
		},
	}
}

// eachPeer runs f for every implementation that is here.
func eachPeer(t *testing.T, f func(t *testing.T, p peer, w *workshop, alice, bob *pgp.Key)) {
	t.Helper()
	peers := []peer{gpgPeer(), sopPeer("sqop", "--verifications-out"), rnpPeer(), sopPeer("pgpainless-cli", "--verify-out")}
	if modules := os.Getenv("LETTERLOCK_OPENPGPJS"); modules != "" {
		peers = append(peers, jsPeer(modules))
	}
	withPeers(t, peers, f)
}

func withPeers(t *testing.T, peers []peer, f func(t *testing.T, p peer, w *workshop, alice, bob *pgp.Key)) {
	t.Helper()
	alice, bob := makeKey(t, "alice@example.org"), makeKey(t, "bob@example.net")
	for _, p := range peers {
		t.Run(p.name, func(t *testing.T) {
			requirePeer(t, p.programs...)
			dir, err := os.MkdirTemp("", "ll") // short: gpg-agent's socket lies in it
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			w := &workshop{t, dir}
			for name, k := range map[string]*pgp.Key{"alice": alice, "bob": bob} {
				secret, err := k.ExportArmored(nil)
				if err != nil {
					t.Fatal(err)
				}
				w.write(name+".sec", secret)
				w.write(name+".pub", k.Certificate().Armored())
			}
			f(t, p, w, alice, bob)
		})
	}
}

// TestPeersReadWhatWeEncrypt: what Protect emits is decrypted and verified by
// others, byte for byte as by the engine.
func TestPeersReadWhatWeEncrypt(t *testing.T) {
	t.Parallel()
	eachPeer(t, func(t *testing.T, p peer, w *workshop, alice, bob *pgp.Key) {
		// Three lengths, so that base64 ends with each kind of padding.
		for n := range 3 {
			out := protect(t, crlf(letter)+"epilogue"[:n], pgp.Protection{Signer: alice,
				Recipients: []*pgp.Certificate{bob.Certificate()}, Autocrypt: alice.Certificate()})
			part := parseMail(t, out).Children[1]
			w.write("message.asc", out[part.Body:part.End])
			want, _ := decrypted(t, out, alice, bob)
			os.Remove(filepath.Join(w.dir, "out.bin"))
			os.Remove(filepath.Join(w.dir, "verified"))
			if got := p.decrypt(w); got != want {
				t.Errorf("%s read %q,\nwant %q", p.name, got, want)
			}
		}
	})
}

// TestPeersVerifyWhatWeSign: the part as it lies in the message is what is
// signed.
func TestPeersVerifyWhatWeSign(t *testing.T) {
	t.Parallel()
	eachPeer(t, func(t *testing.T, p peer, w *workshop, alice, bob *pgp.Key) {
		out := protect(t, crlf(letter), pgp.Protection{Signer: alice})
		root := parseMail(t, out)
		w.write("signed.bin", out[root.Children[0].Start:root.Children[0].End])
		w.write("signature.asc", out[root.Children[1].Body:root.Children[1].End])
		p.verify(w)
	})
}

// TestGPGTakesAndGivesKeys: gpg reads a key that we locked, and we read what it
// exports.
func TestGPGTakesAndGivesKeys(t *testing.T) {
	t.Parallel()
	withPeers(t, []peer{gpgPeer()}, func(t *testing.T, _ peer, w *workshop, alice, _ *pgp.Key) {
		locked, err := alice.ExportArmored([]byte("secret word"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = exec.Command("gpgconf", "--homedir", w.dir, "--kill", "gpg-agent").Run() })
		w.write("locked.asc", locked)
		w.run("", "gpg", "--batch", "--import", "locked.asc")
		for _, armor := range []string{"--armor", "--no-armor"} {
			out, _ := w.run("", "gpg", "--batch", "--pinentry-mode", "loopback", "--passphrase", "secret word", armor,
				"--export-secret-keys", "alice@example.org")
			keys, err := pgp.ParseKeys([]byte(out), passphrase("secret word"))
			if err != nil || len(keys) != 1 || keys[0].Fingerprint() != alice.Fingerprint() {
				t.Fatalf("ParseKeys of gpg's export: %v", err)
			}
			if err := keys[0].CheckSign(testNow); err != nil {
				t.Error(err)
			}
		}
		out, _ := w.run("", "gpg", "--batch", "--pinentry-mode", "loopback", "--passphrase", "secret word",
			"--export-secret-subkeys", "alice@example.org")
		keys, err := pgp.ParseKeys([]byte(out), passphrase("secret word"))
		if err != nil || len(keys) != 1 || !keys[0].Offline() {
			t.Fatalf("ParseKeys of gpg's subkey export: %v", err)
		}
	})
}
