package keydir

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/pgp"
)

// How long things hold.
const (
	freshFor    = 24 * time.Hour      // a directory's answer, at a send
	freshPinned = 7 * 24 * time.Hour  // what a person confirmed or imported
	staleFor    = 7 * 24 * time.Hour  // how old an answer may be where the directory can't be asked
	goneFor     = 30 * 24 * time.Hour // how long a certificate is used that its directory no longer has
	absentFor   = time.Hour           // remembered absence, give or take a quarter
	failedFor   = time.Minute         // remembered failure
	setBack     = time.Minute         // a look-up further ahead was made by a clock that was set back since, not a moment ago
	maxBindings = 8                   // pins and candidates each
	maxChanges  = 16
	historySpan = 24 * time.Hour // between two signed messages, to be a history
)

// Where a binding is from.
const (
	sourceWKD       = "wkd"
	sourceDANE      = "dane"
	sourceLDAP      = "ldap"
	sourceVKS       = "vks"
	sourceHKP       = "hkp"
	sourceGossip    = "gossip"
	sourceAutocrypt = "autocrypt"
	sourceImport    = "import"
	sourceAccepted  = "accepted" // a person said to go on with it
)

// Binding is what ties a certificate to an address.
type Binding struct {
	Fingerprint pgp.Fingerprint `json:"fpr"`
	Identity    pgp.Identity    `json:"identity"`
	Source      string          `json:"source"`
	First       time.Time       `json:"first"`     // when it was first seen
	Confirmed   time.Time       `json:"confirmed"` // when its source last said so
	// SignedFrom and Signed are the dates of the oldest and the newest message
	// that was seen with a valid signature of it.
	SignedFrom time.Time `json:"signed_from"`
	// Declined: a person who was asked chose another; its directory's saying it
	// again is no new conflict.
	Declined bool      `json:"declined,omitempty"`
	Signed   time.Time `json:"signed"`
	By       string    `json:"by,omitempty"` // of gossip, the key of the address that sent it along
	// ServedFrom and Served are, of a candidate, when its directory first and last
	// served it in place of what is pinned; zero where it gave another answer since.
	ServedFrom time.Time `json:"served_from,omitzero"`
	Served     time.Time `json:"served,omitzero"`
	heir
	voucher
}

// history tells whether contradicting this binding needs a person: it has been
// used for longer than a day by who holds the secret key, or somebody vouched.
func (b Binding) history() bool {
	return b.Signed.Sub(b.SignedFrom) >= historySpan || b.Identity.AtLeast(pgp.Organisation) || b.root() == sourceAccepted || b.Settled
}

// Change is a certificate that took another's place.
type Change struct {
	At   time.Time         `json:"at"`
	From []pgp.Fingerprint `json:"from"`
	To   []pgp.Fingerprint `json:"to"`
	Why  string            `json:"why"` // a sentence for a person
}

// Peer is everything stored of one address.
type Peer struct {
	Address    address.Address `json:"address"`
	Pins       []Binding       `json:"pins"`       // used
	Candidates []Binding       `json:"candidates"` // without effect until accepted
	Former     []Binding       `json:"former"`     // what pins have succeeded, by their own word
	Problem    string          `json:"problem"`    // ProblemConflict until settled, or ""
	Outcome    Outcome         `json:"outcome"`    // of the last look-up
	Detail     string          `json:"detail"`
	Checked    time.Time       `json:"checked"`   // when sources were last asked
	Gone       time.Time       `json:"gone"`      // since when its directory doesn't have what is pinned
	Autocrypt  time.Time       `json:"autocrypt"` // date of the newest message whose header was taken
	Used       time.Time       `json:"used"`      // when it was last looked up to send, to the day
	Changes    []Change        `json:"changes"`
	// Until is when a send asks again.
	Until time.Time `json:"until"`
}

// peer is a Peer with the certificates that it names. Immutable once it is read,
// but for the transaction that made a clone.
type peer struct {
	Peer
	certs map[pgp.Fingerprint]*pgp.Certificate
}

func newPeer(a address.Address) *peer {
	return &peer{Peer: Peer{Address: a}, certs: map[pgp.Fingerprint]*pgp.Certificate{}}
}

// known tells whether the address had a certificate, by more than hearsay.
func (p *peer) known() bool {
	return len(p.Pins) > 0 || slices.ContainsFunc(p.Candidates, func(b Binding) bool { return b.Source != sourceGossip })
}

// stored tells whether anything is kept of it that a person may want to see.
func (p *peer) stored() bool { return len(p.Pins)+len(p.Candidates) > 0 }

func (p *peer) pin(f pgp.Fingerprint) *Binding { return find(p.Pins, f) }

func find(l []Binding, f pgp.Fingerprint) *Binding {
	if i := slices.IndexFunc(l, func(b Binding) bool { return b.Fingerprint == f }); i >= 0 {
		return &l[i]
	}
	return nil
}

// settled tells whether any pin needs a person to be contradicted.
func (p *peer) settled() bool { return slices.ContainsFunc(p.Pins, Binding.history) }

// fromDirectory tells whether a pin stands only by the word of its directory.
func (p *peer) fromDirectory() bool {
	return slices.ContainsFunc(p.Pins, func(b Binding) bool { return b.fromDirectory() && !b.Identity.AtLeast(pgp.Confirmed) })
}

// fromDirectory tells whether a source of the domain said it.
func (b Binding) fromDirectory() bool {
	s := b.root()
	return s == sourceWKD || s == sourceDANE || s == sourceLDAP && b.Identity.AtLeast(pgp.Directory)
}

// byPerson tells whether a person brought it, or said to go on with it.
func (b Binding) byPerson() bool { return b.root() == sourceImport || b.root() == sourceAccepted }

func (p *peer) pinned() (certs []*pgp.Certificate) {
	for _, b := range p.Pins {
		certs = append(certs, p.certs[b.Fingerprint])
	}
	return certs
}

// finding is what is stored, at that time. lookup tells that a directory should
// be asked first; the finding is what holds if it can't be.
func (p *peer) finding(a address.Address, now time.Time) (f Finding, lookup bool) {
	f = Finding{Address: a, Known: p.known(), Detail: p.Detail, Outcome: Unavailable}
	lookup = !now.Before(p.Until) || p.Checked.Sub(now) > setBack
	if p.Problem != "" {
		f.Outcome, f.Problem, f.Identity, f.Successor = Found, p.Problem, pgp.Conflict, p.successor(now)
		return f, lookup
	}
	if len(p.Pins) == 0 {
		if !lookup && p.Outcome != "" {
			f.Outcome = p.Outcome
		}
		if lookup || p.Outcome == "" {
			f.Detail = "its directory has not been asked"
		}
		if f.Introduction = p.introduction(now); f.Introduction != nil {
			f.Detail += fmt.Sprintf("; somebody sent a certificate of it along (%s): `letterlock cert accept %s` takes it", f.Introduction.Certificate.Fingerprint(), a)
		}
		return f, lookup
	}
	f.Outcome, f.Source, f.Identity, f.Fetched = Found, p.Pins[0].Source, p.weakest(), p.oldest()
	certs, several := usable(p.pinned(), now)
	switch {
	case len(certs) == 0:
		f.Problem = problem(p.pinned(), now)
		f.Detail = p.newer()
		if p.Outcome == Unavailable {
			f.Outcome = Unavailable // a renewed one may be waiting there
		}
		// Look for it sooner than usual, but not for each message.
		lookup = lookup || !now.Before(p.Checked.Add(absentFor))
	case several:
		f.Problem, f.Identity = ProblemConflict, pgp.Conflict
	case p.fromDirectory() && !p.Gone.IsZero() && now.After(p.Gone.Add(goneFor)):
		f.Problem = ProblemGone
	case p.fromDirectory() && !p.Gone.IsZero():
		f.Certificates, f.Stale = certs, true
		f.Detail = fmt.Sprintf("its directory has not had the certificate since %s; it is used until %s",
			p.Gone.UTC().Format(time.DateOnly), p.Gone.Add(goneFor).UTC().Format(time.DateOnly))
	case p.fromDirectory() && now.After(f.Fetched.Add(staleFor)):
		f.Outcome = Unavailable
		f.Detail = fmt.Sprintf("what is stored is of %s, too long ago; %s", f.Fetched.UTC().Format(time.DateOnly), p.Detail)
	default:
		f.Detail = ""
		if n := len(p.Changes); n > 0 && now.Before(p.Changes[n-1].At.Add(goneFor)) {
			c := p.Changes[n-1]
			f.Detail = fmt.Sprintf("changed on %s: %s", c.At.UTC().Format(time.DateOnly), c.Why)
		}
		f.Certificates = certs
		if p.fromDirectory() && now.After(f.Fetched.Add(freshFor)) {
			f.Stale, f.Detail = true, fmt.Sprintf("kept from %s, since %s", f.Fetched.UTC().Format(time.DateOnly), p.Detail)
		}
	}
	return f, lookup
}

// newer tells of a candidate that may be what a person waits for.
func (p *peer) newer() string {
	if len(p.Candidates) == 0 {
		return ""
	}
	c := p.Candidates[len(p.Candidates)-1]
	return fmt.Sprintf("another certificate was seen (%s, %s); `letterlock cert accept %s` takes it", c.Fingerprint, c.Source, p.Address)
}

func (p *peer) weakest() pgp.Identity {
	w := p.Pins[0].Identity
	for _, b := range p.Pins {
		if !b.Identity.AtLeast(w) {
			w = b.Identity
		}
	}
	return w
}

func (p *peer) oldest() time.Time {
	t := p.Pins[0].Confirmed
	for _, b := range p.Pins {
		if b.Confirmed.Before(t) {
			t = b.Confirmed
		}
	}
	return t
}

// copy is a Peer of the caller's own.
func (p *peer) copy() Peer {
	out := p.Peer
	out.Pins, out.Candidates, out.Changes = slices.Clone(p.Pins), slices.Clone(p.Candidates), slices.Clone(p.Changes)
	out.Former = slices.Clone(p.Former)
	return out
}

func (p *peer) encode() ([]byte, error) { return json.Marshal(p.Peer) }
