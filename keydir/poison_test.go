package keydir_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

// unhurried has look-ups take what time they need: a busy machine's is no outcome.
func unhurried(c *keydir.Config) {
	c.Network.Timeout, c.Network.Refetch, c.Network.Grace = 5*time.Minute, 5*time.Minute, 5*time.Minute
}

// forged are n signatures that say they are a certificate's own revocation, no two
// alike from one series to the next.
func forged(t *testing.T, c *pgp.Certificate, series, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	for i := range n {
		s := []byte{4, byte(packet.SigTypeKeyRevocation), byte(packet.PubKeyAlgoEdDSA), 10, 0, 6, 5, 2}
		s = binary.BigEndian.AppendUint32(s, uint32(start.Add(-time.Hour).Unix()))
		s = binary.BigEndian.AppendUint64(append(s, 0, 10, 9, 16), c.KeyIDs()[0])
		s = append(s, 1, 2, 0, 16, 0x80|byte(series), byte(i), 0, 8, 0xff)
		if err := (&packet.OpaquePacket{Tag: 2, Contents: s}).Serialize(&b); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// Anybody can send copies of somebody's certificate to which they appended what
// they like, in mails in their name. It neither breaks what is pinned, nor hides
// that it is revoked.
func TestPoisonedCopiesChangeNothing(t *testing.T) {
	w := newWorld(t, unhurried)
	d := w.directory()
	k := key(t, bob)
	c := k.Certificate()
	d.set(200, k)
	w.find(bob)
	head := len(c.Bytes()) - len(cutPrimary(t, c))
	for series := range 8 {
		w.pass(time.Hour)
		copied := bytes.Join([][]byte{c.Bytes()[:head], forged(t, c, series, 120), c.Bytes()[head:]}, nil)
		value := "addr=" + bob.String() + "; keydata=" + base64.StdEncoding.EncodeToString(copied)
		w.must(w.Observe(ctx, keydir.Observation{From: bob, Autocrypt: []string{value}, Date: w.clock()}))
	}
	w.pass(day)
	w.finds("with what a stranger appended", bob, keydir.Found, "", pgp.Directory, k)
	d.setBody(revoked(t, k, w.clock()))
	w.pass(2 * day)
	w.finds("its revocation counts", bob, keydir.Found, keydir.ProblemRevoked, pgp.Directory)
}

// Nor do they fill it up, so that no room is left for a revocation.
func TestStuffedCopiesKeepNoRevocationOut(t *testing.T) {
	w := newWorld(t, unhurried)
	d := w.directory()
	k := key(t, bob)
	d.set(200, k)
	w.find(bob)
	for series, n := range []int{700, 700, 700, 700, 700, 256, 128, 64, 32, 16, 8, 4, 2, 1} { // whatever there is room for
		w.pass(time.Hour)
		copied := bytes.Clone(k.Certificate().Bytes())
		for i := range n {
			copied = append(copied, 0xc2, 6, 9, 0x18, byte(series), byte(i>>8), byte(i), 0)
		}
		value := "addr=" + bob.String() + "; keydata=" + base64.StdEncoding.EncodeToString(copied)
		w.must(w.Observe(ctx, keydir.Observation{From: bob, Autocrypt: []string{value}, Date: w.clock()}))
	}
	w.pass(day)
	w.finds("with what a stranger appended", bob, keydir.Found, "", pgp.Directory, k)
	d.setBody(revoked(t, k, w.clock()))
	w.pass(2 * day)
	w.finds("its revocation counts", bob, keydir.Found, keydir.ProblemRevoked, pgp.Directory)
}

// cutPrimary is a certificate's bytes behind its primary key.
func cutPrimary(t *testing.T, c *pgp.Certificate) []byte {
	t.Helper()
	r := bytes.NewReader(c.Bytes())
	if _, err := packet.NewOpaqueReader(r).Next(); err != nil {
		t.Fatal(err)
	}
	return c.Bytes()[len(c.Bytes())-r.Len():]
}
