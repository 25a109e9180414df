package server

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"letterlock.org/letterlock/internal/address"
)

// Site is the pages for people: look up an address, publish, confirm, remove. It
// may be used concurrently.
//
//	GET  /                    what this is; ?domain= where Host names none
//	GET  /lookup?address=     a certificate
//	GET  /upload, POST        a certificate to publish, as a file or as text
//	GET  /publish/TOKEN, POST from the mail that asks (Intake's)
//	GET  /remove, POST        an address whose certificate shall go
//	GET  /withdraw/TOKEN, POST from the mail that asks
//
// A GET changes nothing. There is no session and no cookie: what authorises is the
// token in a mail. Everything else goes to the Intake.
type Site struct {
	lookups *Handler
	intake  *Intake
	asked   chan removalAsked
}

// removalAsked is an address whose certificate shall be removed, and who says so.
type removalAsked struct {
	address address.Address
	by      asker
}

// maxAsked is how many removals wait for Run.
const maxAsked = 64

// NewSite makes a Site in front of an Intake; lookups answers what is asked.
func NewSite(lookups *Handler, intake *Intake) *Site {
	return &Site{lookups: lookups, intake: intake, asked: make(chan removalAsked, maxAsked)}
}

// Paths of pages.
const (
	homePath     = "/"
	findPath     = "/lookup"
	givePath     = "/upload"
	removePath   = "/remove"
	withdrawRoot = "/withdraw/"
)

// ServeHTTP implements http.Handler.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.EscapedPath()
	var get, post http.HandlerFunc
	switch {
	case path == homePath:
		get = s.home
	case path == findPath:
		get = s.find
	case path == givePath:
		get, post = s.uploadForm, s.give
	case path == removePath:
		get, post = s.removeForm, s.removal
	case strings.HasPrefix(path, withdrawRoot):
		get, post = s.withdrawForm, s.withdraw
	default:
		s.intake.ServeHTTP(w, r)
		return
	}
	switch {
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		s.serve(w, r, s.lookups.clients, get)
	case r.Method == http.MethodPost && post != nil:
		s.serve(w, r, s.intake.clients, post)
	default:
		w.Header().Set("Allow", "GET, HEAD"+map[bool]string{true: ", POST"}[post != nil])
		s.faulty(w, r, http.StatusMethodNotAllowed, fault{Title: "That can't be done here", Text: "This page can be read, and its forms can be sent; nothing else."})
	}
}

func (s *Site) serve(w http.ResponseWriter, r *http.Request, clients interface{ allow(remote string) bool }, serve http.HandlerFunc) {
	switch {
	case !clients.allow(clientOf(r)):
		w.Header().Set("Retry-After", "60")
		s.faulty(w, r, http.StatusTooManyRequests, fault{Title: "Too many requests", Text: "More was asked from where you are than is answered at once. Wait a minute, then try again."})
	case len(r.URL.RawQuery) > maxQuery:
		s.faulty(w, r, http.StatusRequestURITooLong, fault{Title: "This is no mail address", Text: "What was asked is too long."})
	case r.Method == http.MethodPost && !sameSite(r):
		s.faulty(w, r, http.StatusForbidden, fault{Title: "Nothing was done", Text: "This form was sent by another website. If you want what it asked for, use the form here."})
	default:
		r.Body = http.MaxBytesReader(w, r.Body, maxUpload)
		serve(w, r)
	}
}

// faulty shows that something failed, where there is no page to show it on.
func (s *Site) faulty(w http.ResponseWriter, r *http.Request, status int, f fault) {
	p := s.intake.newPage(r, "", f.Title)
	p.Fault = &f
	show(w, r, status, "fault", p)
}

func (s *Site) home(w http.ResponseWriter, r *http.Request) {
	show(w, r, http.StatusOK, "home", s.intake.newPage(r, "home", "Key directory"))
}

// formField is the one field of a short form.
func formField(r *http.Request, name string) (string, error) {
	b, _, err := requestBody(r)
	if err != nil {
		return "", err
	}
	v, err := url.ParseQuery(string(b))
	if err != nil {
		return "", errRequest
	}
	return strings.TrimSpace(v.Get(name)), nil
}

// Run has the mails sent that removals ask for, until ctx ends; then it does what
// was asked before. They are made beside the requests, so that nobody learns from
// an answer's time who is here.
func (s *Site) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			s.finish(context.WithoutCancel(ctx))
			return
		case a := <-s.asked:
			s.askRemoval(context.WithoutCancel(ctx), a)
		}
	}
}

// finish bounds what Run does after its end.
const finish = 2 * time.Second

func (s *Site) finish(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, finish)
	defer cancel()
	for ctx.Err() == nil {
		select {
		case a := <-s.asked:
			s.askRemoval(ctx, a)
		default:
			return
		}
	}
}
