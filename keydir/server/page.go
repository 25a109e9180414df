package server

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"html/template"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
	"letterlock.org/letterlock/internal/address"
)

//go:embed page/*.html page/style.css
var pageFiles embed.FS

// pageStyle is the one style sheet, in each page; the policy lets only it through.
var pageStyle = func() string {
	b, err := pageFiles.ReadFile("page/style.css")
	if err != nil {
		panic(err) // it is built in
	}
	return string(b)
}()

// pagePolicy lets a page show itself and send its forms to us, and nothing else.
// An image as data: is the icon, so that browsers ask for none.
var pagePolicy = func() string {
	sum := sha256.Sum256([]byte(pageStyle))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; img-src data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
}()

// pageTemplates are the pages, each with the shell around it.
var pageTemplates = func() map[string]*template.Template {
	shell := template.Must(template.New("shell.html").Funcs(template.FuncMap{
		"style":    func() template.CSS { return template.CSS(pageStyle) },
		"readable": readable,
	}).ParseFS(pageFiles, "page/shell.html", "page/find.html"))
	all := map[string]*template.Template{}
	for _, name := range []string{"home", "lookup", "upload", "uploaded", "confirm", "remove", "withdraw", "fault"} {
		all[name] = template.Must(template.Must(shell.Clone()).ParseFS(pageFiles, "page/"+name+".html"))
	}
	return all
}()

// readable is a domain in its own letters.
func readable(domain string) string {
	if u, err := idna.Display.ToUnicode(domain); err == nil {
		return shown(u)
	}
	return domain
}

// shownAddress is an address as people read it.
func shownAddress(a address.Address) string {
	s := a.String()
	at := strings.LastIndexByte(s, '@') + 1
	return shown(s[:at] + readable(s[at:]))
}

// page is what every page has.
type page struct {
	At         string // of the links at the top, where we are
	Title      string
	Domain     string   // that the page speaks of; empty where there are several
	Domains    []string // to choose from
	Submission string   // where a Web Key Service takes mail; may be empty
	Mails      bool     // whether addresses can be asked
	Fault      *fault
	// Asked is the address that was typed, as it may be shown.
	Asked string
}

// Example is an address for commands to copy, a safe one.
func (p page) Example() string {
	if p.Domain == "" {
		return "name@example.org"
	}
	return "name@" + p.Domain
}

// newPage is a page of the domain that Host, or ?domain=, names.
func (i *Intake) newPage(r *http.Request, at, title string) page {
	p := page{At: at, Title: title, Mails: i.mails()}
	if d, err := address.Domain(r.URL.Query().Get("domain")); err == nil && i.ours(d) {
		p.Domain = d
	} else if d, ok := i.domainAt(r.Host); ok {
		p.Domain = d
	} else if len(i.domains) == 1 {
		for d := range i.domains {
			p.Domain = d
		}
	} else if len(i.domains) <= maxChooser {
		for d := range i.domains {
			p.Domains = append(p.Domains, d)
		}
		slices.Sort(p.Domains)
	}
	p.Submission = strings.TrimSpace(i.c.Directory.wellKnown(r.Context())["submission-address"])
	return p
}

// maxChooser is how many domains are shown to choose from. Who hosts more
// doesn't want them in one list.
const maxChooser = 30

// domainAt is the domain that a host belongs to: itself, or the next above it,
// as openpgpkey.example.org belongs to example.org.
func (i *Intake) domainAt(host string) (string, bool) {
	d, err := address.Domain(hostname(host))
	for err == nil && d != "" {
		if i.ours(d) {
			return d, true
		}
		_, d, _ = strings.Cut(d, ".")
	}
	return "", false
}

// show answers with a page. HEAD gets its length.
func show(w http.ResponseWriter, r *http.Request, status int, name string, data any) {
	var b bytes.Buffer
	if err := pageTemplates[name].Execute(&b, data); err != nil {
		http.Error(w, "this page can't be shown", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	pageHeader(h.Set)
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(b.Bytes()) // the client is gone if this fails
	}
}

// pageHeader sets what every page has: it is kept nowhere, framed nowhere, and
// tells nobody where its reader comes from (tokens are in addresses).
func pageHeader(set func(name, value string)) {
	set("Content-Type", "text/html; charset=utf-8")
	set("Content-Security-Policy", pagePolicy)
	set("Referrer-Policy", "no-referrer")
	set("X-Content-Type-Options", "nosniff")
	set("X-Frame-Options", "DENY")
	set("X-Robots-Tag", "noindex")
	set("Cross-Origin-Opener-Policy", "same-origin")
	set("Cross-Origin-Resource-Policy", "same-origin")
	set("Cache-Control", "no-store")
}
