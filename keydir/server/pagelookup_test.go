package server_test

import (
	"errors"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
	"letterlock.org/letterlock/pgp"
	"rsc.io/qr"
)

func TestPagesOfAbsentAddressesAreAlike(t *testing.T) {
	d, _ := directory(t)
	o := newSite(t, d)
	add(t, d, "gone@example.org")
	if err := d.Remove(ctx, addr(t, "gone@example.org")); err != nil {
		t.Fatal(err)
	}
	o.give(string(cert(t, "soon@example.org").Bytes()), "")
	page := func(a string) string {
		status, page := o.do("GET", "/lookup?address="+a, "", "")
		return http.StatusText(status) + strings.ReplaceAll(page, a, "ADDRESS")
	}
	want := page("nobody@example.org")
	for _, a := range []string{"gone@example.org", "soon@example.org", "who@elsewhere.example", "who@example.com"} {
		if got := page(a); got != want {
			t.Errorf("%s:\n%s\nnot as of one that never was:\n%s", a, got, want)
		}
	}
}

func TestCertificatesThatNobodyShouldUseAreSaidSo(t *testing.T) {
	d, _ := directory(t)
	o := newSite(t, d)
	c := add(t, d, "old@example.org")
	if err := d.Add(ctx, addr(t, "revoked@example.org"), revoked(t, key(t, "revoked@example.org"))); err != nil {
		t.Fatal(err)
	}
	o.at.set(today.Add(time.Second))
	if status, page := o.do("GET", "/lookup?address=revoked@example.org", "", ""); status != 200 || !strings.Contains(page, "REVOKED") || strings.Contains(page, "In use") {
		t.Errorf("revoked: %d %s", status, page)
	}
	o.at.set(today.AddDate(3, 0, 0))
	if status, page := o.do("GET", "/lookup?address=old@example.org", "", ""); status != 200 || !strings.Contains(page, "EXPIRED") || !strings.Contains(page, grouped(c)) {
		t.Errorf("expired: %d %s", status, page)
	}
}

func TestTheQRCodeIsTheFingerprint(t *testing.T) {
	d, _ := directory(t)
	o := newSite(t, d)
	c := add(t, d, "joe.doe@example.org")
	page := second(o.do("GET", "/lookup?address=joe.doe@example.org", "", ""))
	want, err := qr.Encode("OPENPGP4FPR:"+string(c.Fingerprint()), qr.M)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(page, fmt.Sprintf(`viewBox="0 0 %[1]d %[1]d"`, want.Size+8)) {
		t.Error("no quiet zone of four")
	}
	black := map[[2]int]bool{}
	for _, run := range regexp.MustCompile(`M(\d+) (\d+)h(\d+)v1h-(\d+)z`).FindAllStringSubmatch(page, -1) {
		var n [4]int
		for i := range n {
			n[i], _ = strconv.Atoi(run[i+1])
		}
		for x := range n[2] {
			black[[2]int{n[0] + x, n[1]}] = n[2] == n[3]
		}
	}
	for y := -4; y < want.Size+4; y++ {
		for x := -4; x < want.Size+4; x++ {
			if got := black[[2]int{x + 4, y + 4}]; got != want.Black(x, y) {
				t.Fatalf("%d, %d is black: %v", x, y, got)
			}
		}
	}
}

func TestOddAddressesCanBeDownloaded(t *testing.T) {
	d, _ := directory(t)
	o := newSite(t, d)
	for _, a := range []string{"a+b/c%41@example.org", "jörg@example.org", `"a b?"@example.org`, "x&y=z@example.org", "'o'@example.org"} {
		add(t, d, a)
		page := second(o.do("GET", "/lookup?"+url.Values{"address": {a}}.Encode(), "", ""))
		links := regexp.MustCompile(`href="([^"]*)" download`).FindAllStringSubmatch(page, -1)
		if len(links) != 2 {
			t.Errorf("%s: %d links", a, len(links))
		}
		for _, l := range links {
			status, b := o.do("GET", html.UnescapeString(l[1]), "", "")
			if certs, err := pgp.ParseCertificates([]byte(b)); status != 200 || err != nil || !certs[0].Has(addr(t, a)) {
				t.Errorf("%s: %s: %d %v", a, l[1], status, err)
			}
		}
	}
}

var hostileIDs = []string{
	`&lt;script&gt;alert(1)&lt;/script&gt; <a@example.org>`,
	`" onmouseover="alert(2)" style="position:fixed;inset:0 <a@example.org>`,
	"\u202egro.elpmaxe@nimda\u202c \u2066\u200f <a@example.org>",
	"\u05d0\u05d1\u05d2 \u0627\u0644\u0633\u0644\u0627\u0645 (1) <a@example.org>",
	strings.Repeat("W", 1500) + " <a@example.org>",
	"Z" + strings.Repeat("\u0316\u0301", 300) + " <a@example.org>",
	"{{.Fingerprint}} ${1} }} */ <a@example.org>",
	"zero\u200b\u2060\ufeffwidth \U000e0041 <a@example.org>",
}

func TestHostileUserIDsAreHarmless(t *testing.T) {
	for _, id := range hostileIDs {
		d, _ := directory(t)
		o := newSite(t, d)
		c := named(t, id)
		if err := d.Add(ctx, addr(t, "a@example.org"), c); err != nil {
			t.Errorf("%.30q: %v", id, err)
			continue
		}
		for _, page := range []string{second(o.do("GET", "/lookup?address=a@example.org", "", "")), second(o.give(string(c.Bytes()), ""))} {
			if !strings.Contains(page, "&lt;a@example.org&gt;</bdi>") || len(page) > 40_000 {
				t.Errorf("%.30q: %d bytes, or the address is not to be seen", id, len(page))
			}
			for _, bad := range []string{"<script", "<img", "\u202e", "\u2066", "\u200b", "\u200f", "\ufeff", "\U000e0041", strings.Repeat("W", 200), `" onmouse`, "&lt;script"} {
				if strings.Contains(page, bad) {
					t.Errorf("%.30q is shown with %q", id, bad)
				}
			}
		}
	}
	d, _ := directory(t)
	o := newSite(t, d)
	for _, typed := range []string{`"><script>alert(1)</script>@example.org`, "\u202e@example.org", strings.Repeat("x", 900)} {
		page := second(o.do("GET", "/lookup?address="+url.QueryEscape(typed), "", ""))
		if strings.Contains(page, "<script") || strings.Contains(page, "\u202e") || strings.Contains(page, strings.Repeat("x", 200)) {
			t.Errorf("%.30q: %s", typed, page)
		}
	}
}

func named(t testing.TB, id string) *pgp.Certificate {
	t.Helper()
	return changed(t, key(t, "a@example.org"), func(e *openpgp.Entity, at *packet.Config) error {
		for _, was := range e.Identities {
			was.Name, was.UserId = id, &packet.UserId{Id: id}
			e.Identities = map[string]*openpgp.Identity{id: was}
			return was.SelfCertifications[0].Packet.SignUserId(id, e.PrimaryKey, e.PrivateKey, at)
		}
		return errors.New("no user ID")
	})
}

func second(_ int, page string) string { return page }
