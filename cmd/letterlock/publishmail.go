package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/config"
	"letterlock.org/letterlock/internal/endpoint"
	"letterlock.org/letterlock/internal/login"
	"letterlock.org/letterlock/keydir/server"
	"letterlock.org/letterlock/keydir/wks"
	"letterlock.org/letterlock/pgp"
)

// Bounds of looking for a directory's question.
const (
	keyMailTime  = time.Minute
	keyMailDays  = 3 * 24 * time.Hour
	keyMailCount = 20        // the newest that fit
	keyMailSize  = 256 << 10 // bytes of one
	keyMailEvery = time.Minute
	keepFreshFor = 20 * time.Hour
)

// answerKeyMail looks into the INBOX for the directory's question about a
// submission of ours, and answers it; done is true also where none waits.
func (s *state) answerKeyMail(ctx context.Context, a address.Address) (done bool, err error) {
	waiting, err := s.publications(ctx, publishPending)
	if err != nil {
		return false, err
	}
	for _, p := range waiting {
		if p.address.Equal(a) {
			return s.answerOne(ctx, p)
		}
	}
	return true, nil
}

func (s *state) answerOne(ctx context.Context, p publication) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, keyMailTime)
	defer cancel()
	br, err := s.ownBridge(p.address)
	if err != nil {
		return false, err
	}
	keys, err := s.keys.Decrypter(ctx, p.address)
	if err != nil {
		return false, err
	}
	var request *wks.Confirmation
	err = s.keyMails(ctx, br, p, func(raw []byte) {
		if c, ok := confirms(ctx, raw, keys, p); ok {
			request = c
		}
	})
	if err != nil || request == nil {
		return false, err
	}
	raw, err := wks.Response(ctx, wks.Head{From: p.address, To: p.service, Date: s.now()}, *request, p.serviceKey)
	if err != nil {
		return false, err
	}
	if err := s.sendOwn(ctx, server.Mail{From: p.address, To: p.service, Text: raw}); err != nil {
		return false, err
	}
	p.state = publishDone
	if err := s.keepPublication(ctx, p); err != nil {
		return false, err
	}
	s.log.Info("the key directory's question is answered", "fingerprint", p.fingerprint)
	return true, nil
}

// confirms tells whether a mail asks about exactly what we submitted. Whoever else
// wants an address of ours published gets no answer.
func confirms(ctx context.Context, raw []byte, keys pgp.Decrypter, p publication) (*wks.Confirmation, bool) {
	l, err := wks.Read(ctx, raw, keys)
	if err != nil || l.Kind != wks.ConfirmationRequest || !l.Sealed || !l.From.Equal(p.service) {
		return nil, false
	}
	c := l.Confirmation
	a, errA := address.Parse(c.Address)
	from, errFrom := address.Parse(c.Sender)
	ok := errA == nil && errFrom == nil && a.Equal(p.address) && from.Equal(p.service) && c.Fingerprint == p.fingerprint
	return &c, ok
}

// keyMails reads the newest mails of the submission address in an INBOX, without
// marking them.
func (s *state) keyMails(ctx context.Context, br *config.Bridge, p publication, each func(raw []byte)) error {
	c, err := s.upstreamIMAP(ctx, br)
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if _, err := c.Select("INBOX", &imap.SelectOptions{ReadOnly: true}).Wait(); err != nil {
		return fmt.Errorf("opening the INBOX of %s: %w", br.Account, err)
	}
	found, err := c.UIDSearch(&imap.SearchCriteria{
		Since:  p.made.Add(-24 * time.Hour),
		Header: []imap.SearchCriteriaHeaderField{{Key: "From", Value: p.service.String()}},
	}, nil).Wait()
	if err != nil {
		return fmt.Errorf("searching the INBOX of %s: %w", br.Account, err)
	}
	uids := found.AllUIDs()
	for _, uid := range uids[max(0, len(uids)-keyMailCount):] {
		raw, err := keyMail(c, uid)
		if err != nil {
			return fmt.Errorf("reading the INBOX of %s: %w", br.Account, err)
		}
		if raw != nil {
			each(raw)
		}
	}
	return nil
}

// keyMail reads one mail; nil if it is too large to be what is looked for, or gone.
func keyMail(c *imapclient.Client, uid imap.UID) ([]byte, error) {
	set := imap.UIDSetNum(uid)
	sizes, err := c.Fetch(set, &imap.FetchOptions{UID: true, RFC822Size: true}).Collect()
	if err != nil || len(sizes) == 0 || sizes[0].RFC822Size > keyMailSize {
		return nil, err
	}
	whole := &imap.FetchItemBodySection{Peek: true}
	got, err := c.Fetch(set, &imap.FetchOptions{UID: true, BodySection: []*imap.FetchItemBodySection{whole}}).Collect()
	if err != nil || len(got) == 0 {
		return nil, err
	}
	return got[0].FindBodySection(whole), nil
}

// upstreamIMAP logs in at a bridge's upstream.
func (s *state) upstreamIMAP(ctx context.Context, br *config.Bridge) (*imapclient.Client, error) {
	if br.IMAP == nil {
		return nil, fmt.Errorf("%w: %s has no imap, so that no question can come", errConfig, br.Account)
	}
	password, err := s.login.UpstreamPassword(ctx, br.Account)
	if err != nil {
		return nil, fmt.Errorf("logging in for %s: %w", br.Account, err)
	}
	up := br.IMAP.Server
	conn, err := up.Dial(ctx)
	if err != nil {
		return nil, err
	}
	if d, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(d) // AfterFunc closes it too
	}
	var c *imapclient.Client
	if up.Security == endpoint.STARTTLS {
		c, err = imapclient.NewStartTLS(conn, &imapclient.Options{TLSConfig: up.TLSConfig()})
	} else {
		c = imapclient.New(conn, nil)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	if err := c.Login(br.UpstreamUser, password).Wait(); err != nil {
		c.Close()
		return nil, fmt.Errorf("logging in for %s: %w", br.Account, err)
	}
	return c, nil
}

// keepPublished answers the questions of directories, and publishes again what
// was published once and has changed since, until ctx ends.
func (s *state) keepPublished(ctx context.Context) {
	every := time.NewTicker(keyMailEvery)
	defer every.Stop()
	var freshened time.Time
	for {
		s.answerAll(ctx)
		if time.Since(freshened) > keepFreshFor {
			freshened = time.Now()
			s.publishChanged(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
	}
}

func (s *state) answerAll(ctx context.Context) {
	waiting, err := s.publications(ctx, publishPending)
	for _, p := range waiting {
		if s.now().Sub(p.made) > keyMailDays {
			continue
		}
		if _, err = s.answerOne(ctx, p); err != nil && ctx.Err() == nil && !errors.Is(err, login.ErrNotReady) {
			s.log.Warn("a key directory's question can't be looked for", "error", err)
		}
	}
	if err != nil && len(waiting) == 0 && ctx.Err() == nil {
		s.log.Warn("a key directory's question can't be looked for", "error", err)
	}
}

// publishChanged publishes again where the active certificate is another, or
// another state of it, than the one that was published.
func (s *state) publishChanged(ctx context.Context) {
	done, err := s.publications(ctx, publishDone)
	for _, p := range done {
		cert, errCert := s.keys.Certificate(ctx, p.address)
		if errCert != nil || cert.Fingerprint() == p.fingerprint && cert.Expires().Equal(p.expires) {
			continue
		}
		if _, err = s.publishOwn(ctx, p.address, ""); err != nil && ctx.Err() == nil {
			s.log.Warn("an own certificate has changed and could not be published", "error", err)
		}
	}
	if err != nil && len(done) == 0 && ctx.Err() == nil {
		s.log.Warn("what is published can't be read", "error", err)
	}
}
