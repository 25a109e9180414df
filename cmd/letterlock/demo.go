package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"letterlock.org/letterlock/internal/mailtest"
	"letterlock.org/letterlock/pgp"
)

type demoCmd struct {
	Once bool `help:"End after the exchange; exit status 0 only if all of it held."`
	JSON bool `name:"json" help:"For scripts."`
}

// demoJSON is what came of a demo.
type demoJSON struct {
	OK       bool          `json:"ok"`
	Steps    []stepJSON    `json:"steps"`
	Accounts []accountJSON `json:"accounts"`
	Upstream upstreamJSON  `json:"upstream"`
}

type stepJSON struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"`
	Millis int64  `json:"milliseconds"`
}

type upstreamJSON struct {
	IMAP string `json:"imap"`
	SMTP string `json:"smtp"`
}

func (c *demoCmd) runLocal(ctx context.Context, e *env, _ *cli) (err error) {
	dir, err := os.MkdirTemp("", "letterlock-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) // holds the CA certificates only
	d := &demo{env: e, quiet: c.JSON, dir: dir}
	defer func() { err = errors.Join(err, d.close()) }()
	if !c.JSON {
		e.printf("Letterlock demo: a mail server, a key directory, and Alice and Bob with a bridge each.\nEverything is on this computer and in memory.\n\n")
	}
	failed := d.exchange(ctx)
	if c.JSON {
		if err := e.json(d.result(failed == nil)); err != nil {
			return err
		}
	}
	if failed != nil || c.Once {
		return failed
	}
	if !c.JSON {
		d.settings()
	}
	<-ctx.Done()
	return nil
}

// demo is a running demo.
type demo struct {
	*env
	quiet bool
	dir   string

	upstream   *mailtest.Upstream
	directory  *demoNode
	alice, bob *demoNode
	steps      []stepJSON
}

// exchange runs every step; the first that fails ends it.
func (d *demo) exchange(ctx context.Context) error {
	var stored, sent, seen mailtest.Message
	for _, s := range []struct {
		name, doing string
		run         func(context.Context) (string, error)
	}{
		{"upstream", "starting a mail server (IMAP and SMTP)", d.startUpstream},
		{"directory", "starting a key directory (Web Key Directory)", d.startDirectory},
		{"bridges", "starting a bridge for Alice and one for Bob, and making their keys", d.startBridges},
		{"publish", "publishing their certificates", d.publish},
		{"submit", "Alice writes to Bob, with an attachment", d.submit},
		{"stored", "looking at what the mail server stores", func(ctx context.Context) (_ string, err error) {
			stored, err = d.awaitStored(ctx, d.bob, "INBOX")
			if err == nil {
				err = d.checkStored(stored.Raw)
			}
			return fmt.Sprintf("%d bytes, encrypted", len(stored.Raw)), err
		}},
		{"received", "Bob's mail program fetches the letter from his bridge", func(ctx context.Context) (detail string, err error) {
			if seen, err = d.received(); err != nil {
				return "", err
			}
			return d.checkReceived(seen)
		}},
		{"sent copy", "Alice's mail program files its copy in Sent", func(ctx context.Context) (_ string, err error) {
			sent, err = d.sentCopy(ctx)
			return fmt.Sprintf("%d bytes, sealed for Alice herself", len(sent.Raw)), err
		}},
	} {
		began := d.now()
		stop := d.progress(s.doing)
		detail, err := s.run(ctx)
		stop()
		step := stepJSON{Name: s.name, OK: err == nil, Detail: detail, Millis: d.now().Sub(began).Milliseconds()}
		if err != nil {
			step.Detail = err.Error()
		}
		d.steps = append(d.steps, step)
		if !d.quiet {
			d.tell(step, s.doing)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.doing, err)
		}
	}
	if !d.quiet {
		d.sideBySide(stored.Raw, seen)
	}
	return nil
}

func (d *demo) tell(s stepJSON, doing string) {
	mark := "ok "
	if !s.OK {
		mark = "NO "
	}
	d.printf("  %s %s", mark, doing)
	if s.Detail != "" {
		d.printf(": %s", s.Detail)
	}
	d.printf("\n")
}

// progress says on standard error what takes longer than a second, and goes on
// saying it.
func (d *demo) progress(doing string) (stop func()) {
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for n := 1; ; n++ {
			select {
			case <-done:
				return
			case <-tick.C:
				fmt.Fprintf(d.stderr, "  … still %s (%d s)\n", doing, n)
			}
		}
	}()
	return func() { close(done); <-ended }
}

func (d *demo) startUpstream(context.Context) (_ string, err error) {
	d.upstream, err = mailtest.Start(mailtest.Options{Users: map[string]string{demoAlice: demoPassword, demoBob: demoPassword}})
	if err != nil {
		return "", err
	}
	return "imap " + d.upstream.IMAPAddr + ", smtp " + d.upstream.SMTPAddr, nil
}

func (d *demo) startDirectory(ctx context.Context) (_ string, err error) {
	d.directory, err = startNode(ctx, d.env, filepath.Join(d.dir, "directory"), "[keydir]\nlisten = \"127.0.0.1:0\"\ndomains = [\"example.org\"]\n")
	if err != nil {
		return "", err
	}
	return "http://" + d.directory.roles.ready[0].Listen, nil
}

func (d *demo) startBridges(ctx context.Context) (_ string, err error) {
	if d.alice, err = d.startBridge(ctx, demoAlice); err != nil {
		return "", err
	}
	d.bob, err = d.startBridge(ctx, demoBob)
	return "", err
}

func (d *demo) startBridge(ctx context.Context, who string) (*demoNode, error) {
	n, err := startNode(ctx, d.env, filepath.Join(d.dir, who), fmt.Sprintf(`
[[bridge]]
address = %q
imap = { listen = "127.0.0.1:0", upstream = "imap+insecure://%s" }
smtp = { listen = "127.0.0.1:0", upstream = "smtp+insecure://%s" }
[discovery]
wkd_override = { "example.org" = "http://%s" }
`, who, d.upstream.IMAPAddr, d.upstream.SMTPAddr, d.directory.roles.ready[0].Listen))
	if err != nil {
		return nil, err
	}
	b := &n.state.cfg.Load().Bridges[0]
	if _, err := n.state.keys.Generate(ctx, b.Account, pgp.DefaultProfile); err != nil {
		return n, err
	}
	if err := n.state.login.SetUpstreamPassword(ctx, b.Account, demoPassword); err != nil {
		return n, err
	}
	n.account, err = n.state.account(ctx, b)
	return n, err
}

func (d *demo) publish(ctx context.Context) (string, error) {
	for _, n := range []*demoNode{d.alice, d.bob} {
		a := n.state.cfg.Load().Bridges[0].Account
		c, err := n.state.keys.Certificate(ctx, a)
		if err != nil {
			return "", err
		}
		if err := d.directory.state.keydir.Add(ctx, a, c); err != nil {
			return "", err
		}
	}
	return "", nil
}

func (d *demo) result(ok bool) demoJSON {
	j := demoJSON{OK: ok, Steps: d.steps, Accounts: []accountJSON{}}
	for _, n := range []*demoNode{d.alice, d.bob} {
		if n != nil {
			j.Accounts = append(j.Accounts, n.account)
		}
	}
	if d.upstream != nil {
		j.Upstream = upstreamJSON{d.upstream.IMAPAddr, d.upstream.SMTPAddr}
	}
	return j
}

func (d *demo) close() (err error) {
	for _, n := range []*demoNode{d.alice, d.bob, d.directory} {
		err = errors.Join(err, n.close())
	}
	if d.upstream != nil {
		err = errors.Join(err, d.upstream.Close())
	}
	return err
}

var demoLogLevel = slog.LevelError
