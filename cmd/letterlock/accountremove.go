package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"letterlock.org/letterlock/internal/config"
	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/smtpd/queue"
)

type accountRemove struct {
	Address  addressArg `arg:""`
	JSON     bool       `name:"json" help:"For scripts."`
	TakenOut bool       `hidden:"" help:"Its [[bridge]] was there until now."`
}

// removedJSON is what became of an account, and what is left of it.
type removedJSON struct {
	Address   string            `json:"address"`
	Bridge    bool              `json:"bridge"`    // was in the configuration until now
	Passwords bool              `json:"passwords"` // there were some
	Keys      []pgp.Fingerprint `json:"keys"`
	Queue     int               `json:"queue"` // messages that were not sent
}

// runLocal takes the [[bridge]] out of the file, then has the rest done where the
// store is open. In this order what was cut off can be done again.
func (c *accountRemove) runLocal(ctx context.Context, e *env, root *cli) error {
	file, err := config.Find(root.Config)
	if err != nil {
		return err
	}
	if _, err := config.Load(file); err != nil { // nothing is made where there is none
		return err
	}
	told := *e
	if c.JSON {
		told.stdout = e.stderr
	}
	c.TakenOut, err = editConfig(&told, file, func(old []byte) (text, keyFile string, err error) {
		text, err = config.WithoutBridge(file, string(old), c.Address.Address)
		if errors.Is(err, config.ErrByHand) {
			err = fmt.Errorf("%w: %w; take it out, and run this again", errConfig, err)
		}
		return text, "", err
	})
	if err != nil {
		return err
	}
	args := []string{"account", "remove", c.Address.String(), "--config=" + file}
	if c.JSON {
		args = append(args, "--json")
	}
	if c.TakenOut {
		args = append(args, "--taken-out")
	}
	root.Config = file
	return runWithState(ctx, e, root, args, c)
}

// runState ends sessions by having serve read the configuration, and forgets the
// passwords.
func (c *accountRemove) runState(ctx context.Context, e *env, s *state) error {
	if s.reload != nil {
		if err := s.reload(); err != nil {
			return err
		}
	}
	cfg := s.cfg.Load()
	if _, err := s.find(c.Address.Address); err == nil {
		return fmt.Errorf("%w: %s has a [[bridge]] for %s still", errConfig, cfg.File, c.Address)
	}
	if of, ok := s.aliasOf(c.Address.Address); ok {
		return fmt.Errorf("%w: %s is an alias of %s in %s; take it out of aliases there", errConfig, c.Address, of, cfg.File)
	}
	if cfg.Relay != nil && slices.ContainsFunc(cfg.Relay.Logins, func(u config.RelayClient) bool { return u.Name.Equal(c.Address.Address) }) {
		return fmt.Errorf("%w: %s is a user of [relay] in %s; take it out of users there", errConfig, c.Address, cfg.File)
	}
	j := removedJSON{Address: c.Address.String(), Bridge: c.TakenOut, Keys: []pgp.Fingerprint{}}
	var err error
	if j.Passwords, err = s.login.Forget(ctx, c.Address.Address); err != nil {
		return err
	}
	if !j.Passwords && !j.Bridge {
		return fmt.Errorf("%w: there is no account %s: %s has no [[bridge]] for it, and no password of it is kept (see: letterlock status)", errConfig, c.Address, cfg.File)
	}
	if err := s.leftOf(ctx, &j, c.Address); err != nil {
		return err
	}
	if c.JSON {
		return e.json(j)
	}
	j.print(e, s.served)
	return nil
}

// leftOf notes what stays.
func (s *state) leftOf(ctx context.Context, j *removedJSON, a addressArg) error {
	keys, err := s.keys.List(ctx)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if k.Address == a.Key() {
			j.Keys = append(j.Keys, k.Certificate.Fingerprint())
		}
	}
	for _, state := range []queue.State{queue.Waiting, queue.Held} {
		err = errors.Join(err, s.queue.Each(ctx, state, func(q queue.Entry) error {
			if q.Account == a.Key() {
				j.Queue++
			}
			return nil
		}))
	}
	return err
}

func (j removedJSON) print(e *env, serving bool) {
	e.printf("%s is no account any more: its passwords are forgotten, and nobody is logged in to it.\n", j.Address)
	if len(j.Keys) > 0 {
		e.printf("Its keys stay (%d), since they open old mail, and so does what was published of them (letterlock key export --secret, key revoke).\n", len(j.Keys))
	}
	e.printf("So does, encrypted, what was noted of its mail, and all mail on the mail server.\n")
	if j.Queue > 0 {
		e.printf("In the queue %d of its messages stay, which can't be sent without the account (letterlock queue list, queue drop ID).\n", j.Queue)
	}
	if serving {
		e.printf("serve listens where it did until it is started again.\n")
	}
}
