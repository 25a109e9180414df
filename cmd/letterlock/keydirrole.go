package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"letterlock.org/letterlock/internal/config"
	"letterlock.org/letterlock/keydir/server"
)

// web is a listener of the key directory.
type web struct {
	net.Listener
	scheme string
	acme   bool // it has TLS by ACME, which startKeydir adds
}

// listenWeb opens the key directory's listeners.
func listenWeb(ctx context.Context, c *config.Keydir) (out []web, err error) {
	if c == nil {
		return nil, nil
	}
	for _, at := range c.Addresses {
		l, err := at.Listen(ctx)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("keydir: %w", err), closeAll(out))
		}
		if at.TLS && c.ACME == nil {
			files := &certificateFiles{certificate: c.TLSCertificate, key: c.TLSKey}
			l = tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: files.get, NextProtos: []string{"http/1.1"}})
		}
		out = append(out, web{l, at.Scheme(), at.TLS && c.ACME != nil})
	}
	return out, nil
}

// certificateFiles is a certificate that is read again when its file changes, as
// it does every two months where ACME renews it.
type certificateFiles struct {
	certificate, key string

	mu      sync.Mutex // guards what follows
	have    *tls.Certificate
	changed time.Time
	looked  time.Time
}

// certificateLook is how often the files are looked at.
const certificateLook = time.Minute

func (f *certificateFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.have != nil && time.Since(f.looked) < certificateLook {
		return f.have, nil
	}
	f.looked = time.Now()
	st, err := os.Stat(f.certificate)
	if err == nil && f.have != nil && st.ModTime().Equal(f.changed) {
		return f.have, nil
	}
	var pair tls.Certificate
	if err == nil {
		pair, err = tls.LoadX509KeyPair(f.certificate, f.key)
	}
	if err != nil {
		if f.have != nil {
			return f.have, nil // what was good goes on until the files are in order
		}
		return nil, err
	}
	f.have, f.changed = &pair, st.ModTime()
	return f.have, nil
}

// keydirGrace is how long requests under way may take when the directory stops.
const keydirGrace = 5 * time.Second

// startKeydir serves look-ups, submissions, and the pages for people.
func (s *state) startKeydir(ctx context.Context, r *roles, webs []web, c *config.Keydir) error {
	if c == nil {
		return nil
	}
	h := server.New(server.Config{Directory: s.keydir, Domains: c.Domains, Logger: s.log, Now: s.now, Put: true})
	in := server.IntakeConfig{Directory: s.keydir, Domains: c.Domains, URL: c.URL, From: c.Sender, Next: h, Logger: s.log, Now: s.now}
	if c.Smarthost != "" {
		send, err := newKeydirMail(c)
		if err != nil {
			return errors.Join(fmt.Errorf("keydir: %w", err), closeAll(webs))
		}
		in.Post = server.NewPost(send, s.log)
		r.work.Go(func() { in.Post.Run(ctx) })
	}
	site := server.NewSite(h, server.NewIntake(in))
	r.work.Go(func() { site.Run(ctx) })
	for _, w := range webs {
		if w.acme {
			m := newACME(c, s.store, s.log, w.Addr().(*net.TCPAddr).Port)
			if err := m.manage(ctx); err != nil {
				return errors.Join(err, closeAll(webs))
			}
			r.last = append(r.last, func(context.Context) error { m.stop(); return nil })
			w.Listener = m.listener(w.Listener)
		}
		serving, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		r.run("keydir", func() error {
			defer close(done)
			return h.Serve(serving, w.Listener, site, keydirGrace)
		})
		r.stops = append(r.stops, func(ctx context.Context) error {
			cancel()
			select {
			case <-done:
			case <-ctx.Done():
			}
			return ctx.Err()
		})
		r.ready = append(r.ready, newReadyLine("keydir", w.scheme, strings.Join(c.Domains, ","), w.Addr()))
	}
	r.work.Go(func() { s.followKeydir(ctx) })
	return nil
}

// keydirPoll is how often a node looks for what others changed, where no hint came.
const keydirPoll = 5 * time.Second

// keydirTidy is how often what ran out is swept away.
const keydirTidy = 10 * time.Minute

// followKeydir keeps the answers up to date with what other nodes of a shared
// store publish, and tidies up.
func (s *state) followKeydir(ctx context.Context) {
	refresh := func() {
		if err := s.keydir.Refresh(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("what other nodes published is not known here yet", "error", err)
		}
	}
	var hints sync.WaitGroup
	defer hints.Wait()
	if s.store.Shared() {
		hints.Go(func() { _ = s.store.Listen(ctx, server.Channel, func(string) { refresh() }) }) // ends with ctx
	}
	poll, tidy := time.NewTicker(keydirPoll), time.NewTicker(keydirTidy)
	defer poll.Stop()
	defer tidy.Stop()
	refresh()
	for {
		select {
		case <-ctx.Done():
			return
		case <-poll.C:
			if s.store.Shared() {
				refresh()
			}
		case <-tidy.C:
			if err := s.keydir.Tidy(ctx); err != nil && ctx.Err() == nil {
				s.log.Warn("old submissions could not be swept away", "error", err)
			}
		}
	}
}
