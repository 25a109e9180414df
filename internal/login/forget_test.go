package login_test

import (
	"errors"
	"testing"

	"letterlock.org/letterlock/internal/login"
)

func TestForgottenPasswordsOpenNothing(t *testing.T) {
	for _, mode := range []login.Mode{login.Local, login.Passthrough} {
		t.Run(string(mode), func(t *testing.T) {
			c, _, alice := checker(t, mode)
			ctx, password := t.Context(), "wonderland"
			var err error
			if mode == login.Local {
				err = c.SetUpstreamPassword(ctx, alice, "upstream")
				if err == nil {
					password, err = c.LocalPassword(ctx, alice)
				}
			} else {
				err = c.SetVerifier(ctx, alice, password)
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := c.Check(ctx, remote("127.0.0.1"), alice.String(), password); err != nil {
				t.Fatal(err)
			}
			for _, want := range []bool{true, false} {
				if some, err := c.Forget(ctx, alice); some != want || err != nil {
					t.Errorf("Forget gives %v, %v; want %v", some, err, want)
				}
			}
			if _, _, err := c.Check(ctx, remote("127.0.0.1"), alice.String(), password); !errors.Is(err, login.ErrRefused) && !errors.Is(err, login.ErrNotReady) {
				t.Errorf("a forgotten password gives %v", err)
			}
			if _, err := c.UpstreamPassword(ctx, alice); !errors.Is(err, login.ErrNotReady) {
				t.Errorf("the upstream's is known still: %v", err)
			}
		})
	}
}
