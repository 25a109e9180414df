package form_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"letterlock.org/letterlock/form"
	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

// opened is what the decryptor of this test found in a page.
type opened struct {
	From, To, Cc, Date, Subject string
	Text, HTML                  int
	Links                       []string
	Files                       []struct {
		Name string
		Size int
	}
	text, html string
	data       [][]byte
}

var errPage = errors.New("the page does not open")

// openPage is written from the description of the format alone, beside page.js.
func openPage(page, password string) (o opened, err error) {
	attr := func(name string) string {
		m := regexp.MustCompile(`data-` + name + `="([^"]*)"`).FindStringSubmatch(page)
		if m == nil {
			return ""
		}
		return m[1]
	}
	_, body, _ := strings.Cut(page, `data-check="`+attr("check")+"\">\r\n")
	body, _, ok := strings.Cut(body, "</script>")
	if !ok {
		return o, errPage
	}
	sealed, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(body, "\r\n", ""))
	if err != nil {
		return o, err
	}
	salt, _ := base64.StdEncoding.DecodeString(attr("salt"))
	rounds, _ := strconv.Atoi(attr("rounds"))
	stretched := pbkdf2([]byte(password), salt, rounds)
	extracted := mac(salt, stretched) // RFC 5869, Section 2.2
	expand := func(info string) []byte { return mac(extracted, []byte(info+"\x01")) }
	check, _ := base64.StdEncoding.DecodeString(attr("check"))
	if !bytes.Equal(expand("letterlock form 1 check")[:16], check) {
		return o, errPage
	}
	plain, err := openChunks(expand("letterlock form 1 key"), sealed, fmt.Sprintf("letterlock form 1\nrounds=%d\nchunk=1048576\nsalt=%s\n", rounds, attr("salt")))
	if err != nil {
		return o, err
	}
	return o, o.split(plain)
}

// parted is content as a page gets it.
func parted(c *form.Content) (o opened, err error) {
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return o, err
	}
	return o, o.split(b.Bytes())
}

func (o *opened) split(plain []byte) error {
	n := binary.BigEndian.Uint32(plain)
	if err := json.Unmarshal(plain[4:4+n], o); err != nil {
		return err
	}
	plain = plain[4+n:]
	take := func(n int) []byte { b := plain[:n]; plain = plain[n:]; return b }
	o.text, o.html = string(take(o.Text)), string(take(o.HTML))
	for _, f := range o.Files {
		o.data = append(o.data, take(f.Size))
	}
	if len(plain) != 0 {
		return errPage
	}
	return nil
}

func openChunks(key, sealed []byte, bound string) (plain []byte, err error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	for n := 0; len(sealed) > 0; n++ {
		size := min(len(sealed), 1<<20+16)
		nonce := make([]byte, 12)
		nonce[9], nonce[10] = byte(n>>8), byte(n)
		if size == len(sealed) {
			nonce[11] = 1
		}
		if plain, err = gcm.Open(plain, nonce, sealed[:size], []byte(bound)); err != nil {
			return nil, err
		}
		sealed = sealed[size:]
	}
	return plain, nil
}

// resealed is a page with other HTML under the same password.
func resealed(t *testing.T, page, password, html string) string {
	t.Helper()
	salt64 := regexp.MustCompile(`data-salt="([^"]*)"`).FindStringSubmatch(page)[1]
	salt, err := base64.StdEncoding.DecodeString(salt64)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(mac(mac(salt, pbkdf2([]byte(password), salt, 600000)), []byte("letterlock form 1 key\x01")))
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	about := fmt.Sprintf(`{"from":"x","text":0,"html":%d,"files":[]}`, len(html))
	plain := append(binary.BigEndian.AppendUint32(nil, uint32(len(about))), about+html...)
	sealed := gcm.Seal(nil, []byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"), plain, []byte("letterlock form 1\nrounds=600000\nchunk=1048576\nsalt="+salt64+"\n"))
	start := strings.Index(page, "data-check=")
	start += strings.Index(page[start:], "\r\n") + 2
	end := start + strings.Index(page[start:], "</script>")
	return page[:start] + base64.StdEncoding.EncodeToString(sealed) + page[end:]
}

func mac(key, b []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write(b)
	return m.Sum(nil)
}

// pbkdf2 gives one block, RFC 8018, Section 5.2. What it gave once it keeps, as
// it takes seconds under the race detector.
func pbkdf2(password, salt []byte, rounds int) []byte {
	of := fmt.Sprintf("%q %q %d", password, salt, rounds)
	if known, ok := stretched.Load(of); ok {
		return known.([]byte)
	}
	out := pbkdf2Block(password, salt, rounds)
	stretched.Store(of, out)
	return out
}

var stretched sync.Map

func pbkdf2Block(password, salt []byte, rounds int) []byte {
	m := hmac.New(sha256.New, password)
	m.Write(salt)
	m.Write([]byte{0, 0, 0, 1})
	u := m.Sum(nil)
	out := bytes.Clone(u)
	for range rounds - 1 {
		m.Reset()
		m.Write(u)
		u = m.Sum(u[:0])
		for i := range out {
			out[i] ^= u[i]
		}
	}
	return out
}

// mail is what Write makes, cut into its parts.
type mail struct {
	raw, header, text, page, asc string
}

func makeMail(t testing.TB, src string, o form.Options) mail {
	t.Helper()
	var b bytes.Buffer
	if err := form.Write(context.Background(), &b, message.Bytes([]byte(src)), o); err != nil {
		t.Fatal(err)
	}
	root, err := message.Parse(message.Bytes(b.Bytes()), message.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	m := mail{raw: b.String(), header: string(root.Header.Raw)}
	part := func(i int) string {
		if i >= len(root.Children) {
			return ""
		}
		return m.raw[root.Children[i].Body:root.Children[i].End]
	}
	m.text, m.page, m.asc = part(0), part(1), part(2)
	return m
}

const simple = "From: Alice <alice@example.org>\r\nTo: Bob <bob@example.net>\r\nCc: carol@example.com\r\nBcc: dave@example.com\r\n" +
	"Subject: =?utf-8?q?CANARY-S=C3=BCbject?=\r\nDate: Mon, 23 Nov 2026 10:00:00 +0100\r\nMessage-ID: <m1@example.org>\r\n" +
	"Letterlock-Password: CANARY-given\r\nX-Note: CANARY-note\r\nMIME-Version: 1.0\r\n" +
	"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=iso-8859-1\r\n" +
	"Content-Transfer-Encoding: quoted-printable\r\n\r\nCANARY-t=E4xt\r\n--b\r\n" +
	"Content-Type: application/pdf\r\nContent-Disposition: attachment; filename=\"../CANARY:file.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
	"Q0FOQVJZLWRhdGE=\r\n--b--\r\n"

func TestAMailOpensWithItsPassword(t *testing.T) {
	password := form.NewPassword()
	m := makeMail(t, simple, form.Options{Password: password})
	o, err := openPage(m.page, password.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	if o.From != "Alice <alice@example.org>" || o.To != "Bob <bob@example.net>" || o.Cc != "carol@example.com" || o.Subject != "CANARY-Sübject" || o.Date != "2026-11-23T10:00:00+01:00" {
		t.Errorf("header: %+v", o)
	}
	if o.text != "CANARY-täxt" || o.html != "" {
		t.Errorf("text %q, HTML %q", o.text, o.html)
	}
	if len(o.Files) != 1 || o.Files[0].Name != "CANARY_file.pdf" || string(o.data[0]) != "CANARY-data" {
		t.Errorf("files %+v %q", o.Files, o.data)
	}
	if _, err := openPage(m.page, form.NewPassword().Reveal()); err == nil {
		t.Error("another password opens the page")
	}
	for _, want := range []string{"Subject: [...]\r\n", "From: Alice <alice@example.org>\r\n", "Message-ID: <m1@example.org>\r\n"} {
		if !strings.Contains(m.header, want) {
			t.Errorf("no %q in the header:\n%s", want, m.header)
		}
	}
	if !strings.Contains(m.asc, "-----BEGIN PGP MESSAGE-----") || !strings.Contains(m.text, "Alice (alice@example.org)") {
		t.Errorf("mail:\n%s", m.raw)
	}
}

func TestNothingInClearTellsContentOrPassword(t *testing.T) {
	password := form.NewPassword()
	alice, err := address.Parse("alice@example.org")
	if err != nil {
		t.Fatal(err)
	}
	key, err := pgp.GenerateKey(alice, pgp.DefaultProfile, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	m := makeMail(t, simple, form.Options{Password: password, Protection: pgp.Protection{Signer: key, Autocrypt: key.Certificate()}})
	for _, secret := range []string{"CANARY", "dave", password.Reveal(), strings.ReplaceAll(password.Reveal(), "-", ""), "Letterlock-"} {
		for name, in := range map[string]string{
			"mail": m.raw, "its base64": decoded(m.page) + decoded(m.asc), "log": fmt.Sprintf("%v %+v %#v %s", password, password, password, password),
		} {
			if strings.Contains(in, secret) {
				t.Errorf("the %s has %q", name, secret)
			}
		}
	}
	if j, _ := json.Marshal(struct{ P form.Password }{password}); !strings.Contains(string(j), "***") {
		t.Errorf("JSON has %s", j)
	}
	if o, err := openPage(m.page, password.Reveal()); err != nil || strings.Contains(fmt.Sprint(o), "dave") || strings.Contains(fmt.Sprint(o), "CANARY-given") {
		t.Errorf("the page tells the blind recipient or a password: %+v %v", o, err)
	}
}

// decoded is every line that is base64, decoded.
func decoded(s string) string {
	var b strings.Builder
	for l := range strings.SplitSeq(s, "\r\n") {
		if d, err := base64.StdEncoding.DecodeString(l); err == nil {
			b.Write(d)
		}
	}
	return b.String()
}

func TestAMailPassesEveryServer(t *testing.T) {
	src := strings.Replace(simple, "Alice", "=?utf-8?q?=C3=84lice?=", 1)
	m := makeMail(t, src, form.Options{Password: form.NewPassword()})
	for l := range strings.SplitAfterSeq(m.raw, "\n") {
		if len(l) > 1000 || strings.ContainsFunc(l, func(r rune) bool { return r > 0x7e }) || l != "" && !strings.HasSuffix(l, "\r\n") ||
			strings.HasPrefix(l, "From ") || strings.Contains(strings.TrimSuffix(l, "\r\n"), "\r") {
			t.Fatalf("line of %d bytes: %.80q", len(l), l)
		}
	}
}

func TestPageNotices(t *testing.T) {
	password := form.NewPassword()
	big := strings.Replace(simple, "Q0FOQVJZLWRhdGE=\r\n", strings.Repeat(strings.Repeat("QUJD", 19)+"\r\n", 45000), 1)
	page := makeMail(t, big, form.Options{Password: password, NoOpenPGP: true}).page
	if o, err := openPage(page, password.Reveal()); err != nil || len(o.data[0]) != 45000*57 {
		t.Fatalf("as it was made: %v", err)
	}
	start := strings.Index(page, "data-check=")
	start += strings.Index(page[start:], "\r\n") + 2
	end := start + strings.Index(page[start:], "</script>")
	sealed := func(f func([]byte) []byte) string {
		b, _ := base64.StdEncoding.DecodeString(strings.ReplaceAll(page[start:end], "\r\n", ""))
		return page[:start] + base64.StdEncoding.EncodeToString(f(b)) + "\r\n" + page[end:]
	}
	const chunk = 1<<20 + 16
	for name, changed := range map[string]string{
		"a changed byte":          sealed(func(b []byte) []byte { b[len(b)/2] ^= 1; return b }),
		"an end that is missing":  sealed(func(b []byte) []byte { return b[:2*chunk] }),
		"a chunk that is missing": sealed(func(b []byte) []byte { return b[chunk:] }),
		"chunks that are swapped": sealed(func(b []byte) []byte {
			return append(append(bytes.Clone(b[chunk:2*chunk]), b[:chunk]...), b[2*chunk:]...)
		}),
		"a chunk twice":            sealed(func(b []byte) []byte { return append(bytes.Clone(b[:chunk]), b...) }),
		"another number of rounds": strings.Replace(page, `data-rounds="600000"`, `data-rounds="600001"`, 1),
		"another salt":             strings.Replace(page, `data-salt="`, `data-salt="AAAA`, 1),
	} {
		if changed == page {
			t.Errorf("%s: nothing was changed", name)
		}
		if _, err := openPage(changed, password.Reveal()); err == nil {
			t.Errorf("%s is not noticed", name)
		}
	}
}

func TestEachMailHasItsOwnSalt(t *testing.T) {
	password := form.NewPassword()
	salt := regexp.MustCompile(`data-salt="([^"]*)"`)
	a := salt.FindString(makeMail(t, simple, form.Options{Password: password, NoOpenPGP: true}).page)
	b := salt.FindString(makeMail(t, simple, form.Options{Password: password, NoOpenPGP: true}).page)
	if a == "" || a == b {
		t.Errorf("salts %s and %s", a, b)
	}
}

func TestWriteRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		src  string
		o    form.Options
		want error
	}{
		"a message that is too long":       {simple, form.Options{Password: form.NewPassword(), Limit: 100}, form.ErrTooLarge},
		"a message without author":         {"To: bob@example.net\r\n\r\nhello\r\n", form.Options{Password: form.NewPassword()}, pgp.ErrUnfit},
		"a message without password":       {simple, form.Options{}, nil},
		"a message of more parts than fit": {"From: a@example.org\r\n" + strings.Repeat("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n", 1) + strings.Repeat("Content-Type: text/plain\r\n\r\nx\r\n--b\r\n", 2000), form.Options{Password: form.NewPassword()}, pgp.ErrUnfit},
	} {
		err := form.Write(context.Background(), &bytes.Buffer{}, message.Bytes([]byte(tt.src)), tt.o)
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: error %v, want %v", name, err, tt.want)
		}
	}
}

func TestPasswords(t *testing.T) {
	form1 := regexp.MustCompile(`^[0-9a-hjkmnp-tv-z]{5}(-[0-9a-hjkmnp-tv-z]{5}){3}$`)
	seen := map[string]bool{}
	for range 200 {
		p := form.NewPassword()
		if !form1.MatchString(p.Reveal()) || seen[p.Reveal()] || !p.Made() {
			t.Fatalf("made %q", p.Reveal())
		}
		seen[p.Reveal()] = true
	}
	for in, want := range map[string]string{
		"correct horse battery":           "correct horse battery",
		"  Mu\u0308nchen im Winter \n":    "M\u00fcnchen im Winter",
		"\ufeffcorrect horse battery\r\n": "correct horse battery", // a file of Notepad's; page.js leaves U+FEFF out too
		"short":                           "",
		"aaaaaaaaaaaaaaaaaaaa":            "",
		"with a\ttab in its middle":       "",
		strings.Repeat("long words ", 40): "",
	} {
		p, err := form.Agreed(in)
		if p.Reveal() != want || (err == nil) != (want != "") || p.Made() {
			t.Errorf("Agreed(%q) = %q, %v", in, p.Reveal(), err)
		}
	}
}
