package server

import (
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

// IntakeConfig configures what people submit certificates to.
type IntakeConfig struct {
	Directory *Directory // required
	// Domains are those whose addresses are published.
	Domains []string
	// URL is where people reach this server, such as https://openpgpkey.example.org:
	// the beginning of the links that are sent. Without it, From or Mail no links
	// are, and uploads change only what is published already.
	URL  string
	From address.Address
	// Post takes a mail on its way; required for links, and for this Intake alone.
	Post *Post
	// Next answers what is no submission; required.
	Next   http.Handler
	Logger *slog.Logger     // discards if nil
	Now    func() time.Time // time.Now if nil
	// Rate is how many submissions a second one client may make for long; 0 means
	// one in five seconds. Ten at once are let through; and of all clients of an IPv6
	// /48 ten times as many.
	Rate float64
}

// Intake takes submissions over HTTP: the writing half of VKS, HKP's /pks/add,
// the links in mails, and authenticated PUT. It may be used concurrently.
//
// It answers alike whether or not an address exists, has a certificate, or had
// its mails for today.
type Intake struct {
	c       IntakeConfig
	domains map[string]bool
	clients *clientsAndSites
	now     func() time.Time
	log     *slog.Logger
}

// clientsAndSites limits clients, and all of a site together.
type clientsAndSites struct{ clients, sites limiter }

func (l *clientsAndSites) allow(remote string) bool {
	return l.clients.allow(remote) && l.sites.allow(remote)
}

// NewIntake makes an Intake.
func NewIntake(c IntakeConfig) *Intake {
	i := &Intake{c: c, domains: map[string]bool{}, now: c.Now, log: c.Logger}
	if i.now == nil {
		i.now = time.Now
	}
	if i.log == nil {
		i.log = slog.New(slog.DiscardHandler)
	}
	if c.Rate <= 0 {
		c.Rate = 0.2
	}
	i.c.URL = strings.TrimSuffix(c.URL, "/")
	burst := max(10, 10*c.Rate)
	i.clients = &clientsAndSites{limiter{rate: c.Rate, burst: burst, now: i.now},
		limiter{rate: perSite * c.Rate, burst: perSite * burst, now: i.now, of: sitePrefix}}
	domains, _ := foldDomains(c.Domains) // New tells of those that are none
	for _, d := range domains {
		i.domains[d] = true
	}
	if i.mails() {
		c.Post.attach(i)
	}
	return i
}

func (i *Intake) ours(domain string) bool { return i.domains[domain] }

// mails tells whether links can be sent.
func (i *Intake) mails() bool { return i.c.URL != "" && i.c.Post != nil && !i.c.From.IsZero() }

// Paths of submissions.
const (
	uploadPath  = vksRoot + "upload"
	requestPath = vksRoot + "request-verify"
	addPath     = "/pks/add"
	linkRoot    = "/publish/"
)

// ServeHTTP implements http.Handler.
func (i *Intake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.EscapedPath()
	var serve func(http.ResponseWriter, *http.Request)
	if openly(path) {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		if r.Method == http.MethodOptions {
			preflight(w)
			return
		}
	}
	switch {
	case path == uploadPath && r.Method == http.MethodPost:
		serve = i.upload
	case path == requestPath && r.Method == http.MethodPost:
		serve = i.request
	case path == addPath && r.Method == http.MethodPost:
		serve = i.add
	case strings.HasPrefix(path, linkRoot):
		serve = i.link
	case strings.HasPrefix(path, keydir.PutRoot) && r.Method == http.MethodPut:
		serve = i.put
	default:
		i.c.Next.ServeHTTP(w, r)
		return
	}
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	if !i.clients.allow(clientOf(r)) {
		h.Set("Retry-After", "60")
		http.Error(w, "too many requests", http.StatusTooManyRequests)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxUpload)
	serve(w, r)
}

// clientOf is who made a request: the last of X-Forwarded-For where a reverse
// proxy on this machine passed it on, since that one the proxy added itself. All
// of whom it says what is no address are one client.
func clientOf(r *http.Request) string {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !ap.Addr().Unmap().IsLoopback() {
		return r.RemoteAddr
	}
	all := r.Header.Values("X-Forwarded-For")
	if len(all) == 0 {
		return r.RemoteAddr
	}
	last := all[len(all)-1]
	last = strings.TrimSpace(last[strings.LastIndexByte(last, ',')+1:])
	if ap, err := netip.ParseAddrPort(last); err == nil {
		return ap.String()
	}
	ip, err := netip.ParseAddr(last)
	if err != nil {
		ip = netip.IPv4Unspecified()
	}
	return netip.AddrPortFrom(ip, 1).String()
}

// reason is what the one who submits is told, and with which status. Only what
// is about their own bytes is told; everything else is a fault of ours.
func (i *Intake) reason(err error) (int, string) {
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large), errors.Is(err, ErrTooLarge):
		return http.StatusRequestEntityTooLarge, "this is too large to be published"
	case errors.Is(err, pgp.ErrSecretKey):
		return http.StatusBadRequest, "THIS IS A SECRET KEY. It was not kept, but it has left your device: revoke it, make another, and submit only what `gpg --export` gives"
	case errors.Is(err, pgp.ErrExpired):
		return http.StatusBadRequest, "this certificate has expired; extend it first"
	case errors.Is(err, pgp.ErrRevoked):
		return http.StatusBadRequest, "what this certificate has to encrypt to is revoked; add another encryption key to it first"
	case errors.Is(err, pgp.ErrWeak):
		return http.StatusBadRequest, "this certificate relies on an algorithm that is no longer safe (SHA-1, or a short key); make a new one"
	case errors.Is(err, ErrForeign), errors.Is(err, ErrUserID):
		return http.StatusBadRequest, "this certificate has no valid user ID with an address that is published here"
	case errors.Is(err, pgp.ErrUnusable):
		return http.StatusBadRequest, "nobody could encrypt to this certificate: it has no valid encryption key"
	case errors.Is(err, pgp.ErrMalformed):
		return http.StatusBadRequest, "this is no OpenPGP certificate"
	case errors.Is(err, errRequest):
		return http.StatusBadRequest, "this request cannot be read"
	case errors.Is(err, ErrToken):
		return http.StatusNotFound, ErrToken.Error()
	case errors.Is(err, ErrLimited):
		return http.StatusTooManyRequests, ErrLimited.Error()
	case errors.Is(err, errUnproven):
		return http.StatusForbidden, errUnproven.Error()
	}
	i.log.Error("keydir: a submission failed", "err", err)
	return http.StatusServiceUnavailable, "try again later"
}

// errRequest means that a request's form is wrong.
var errRequest = errors.New("malformed request")

// body is what a request carries, whole.
func requestBody(r *http.Request) (b []byte, mediaType string, err error) {
	if b, err = io.ReadAll(r.Body); err != nil {
		return nil, "", err
	}
	if ct := r.Header.Get("Content-Type"); ct != "" {
		if mediaType, _, err = mime.ParseMediaType(ct); err != nil {
			return nil, "", errRequest
		}
	}
	return b, mediaType, nil
}

// add takes what HKP sends: a form with the field keytext. Whoever sends by it
// takes no second step, so its addresses are asked at once.
func (i *Intake) add(w http.ResponseWriter, r *http.Request) {
	b, _, err := requestBody(r)
	if err != nil {
		i.refuse(w, err)
		return
	}
	v, err := url.ParseQuery(string(b))
	if err != nil || v.Get("keytext") == "" {
		i.refuse(w, errRequest)
		return
	}
	offers, err := i.c.Directory.Offers([]byte(v.Get("keytext")), i.ours)
	for _, o := range offers {
		if err == nil {
			err = i.takeAndAsk(r, o)
		}
	}
	if err != nil {
		i.refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	io.WriteString(w, "Taken. Each address in it that is new here gets a mail, whose link publishes it.\n")
}

func (i *Intake) takeAndAsk(r *http.Request, o Offer) error {
	done, err := i.c.Directory.Take(r.Context(), o)
	if err != nil {
		return err
	}
	for _, a := range o.Addresses {
		if !contains(done, a) {
			if err := i.ask(r, a, o.Certificate); err != nil {
				return err
			}
		}
	}
	return nil
}

// refuse answers in plain text.
func (i *Intake) refuse(w http.ResponseWriter, err error) {
	status, text := i.reason(err)
	http.Error(w, text, status)
}
