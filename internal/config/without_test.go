package config_test

import (
	"errors"
	"testing"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/config"
)

func TestWithoutBridge(t *testing.T) {
	const (
		head  = "# mine\nstate_dir = \"/s\"\nunlock = \"key-file:/k\"\n"
		alice = "[[bridge]]   # Alice's\naddress = \"alice@example.org\"\nimap = { listen = \"127.0.0.1:0\", upstream = \"imaps://a\" } # here\n"
		bob   = "[[bridge]]\naddress = \"bob@example.org\"\n[bridge.imap]\nlisten = [\n  \"127.0.0.1:0\",\n]\nupstream = \"imaps://b\"\n"
		tail  = "# The rest.\n[policy]\ndefault = \"require\"\n"
	)
	for _, tt := range []struct{ name, text, account, want string }{
		{"the only one", head + "\n" + alice, "alice@example.org", head + "\n"},
		{"the first of two", head + "\n" + alice + "\n" + bob, "alice@example.org", head + "\n" + bob},
		{"one whose service is a table, and what is commented stays with the next", head + bob + "\n" + tail + alice, "bob@example.org", head + "\n" + tail + alice},
		{"the last one, without a line end", head + alice + "\n[log]\nlevel = \"warn\"\n" + bob[:len(bob)-1], "bob@example.org", head + alice + "\n[log]\nlevel = \"warn\"\n"},
		{"an address that is written otherwise", head + alice, "Alice@EXAMPLE.org", head},
		{"all that there is", alice, "alice@example.org", "\n"},
		{"one that isn't there", head + alice, "carol@example.org", ""},
		{"only what another's text looks like", head + "[[bridge]]\naddress = \"carol@example.org\"\nupstream_user = '''\n[[bridge]]\naddress = \"bob@example.org\"\n'''\nimap = { listen = \"127.0.0.1:0\", upstream = \"imaps://a\" }\n" + bob, "bob@example.org", "by hand"},
		{"tables of another one in between", head + "[[bridge]]\naddress = \"bob@example.org\"\n" + tail + "[bridge.imap]\nlisten = \"127.0.0.1:0\"\nupstream = \"imaps://b\"\n", "bob@example.org", "by hand"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			account, err := address.Parse(tt.account)
			if err != nil {
				t.Fatal(err)
			}
			got, err := config.WithoutBridge("l.toml", tt.text, account)
			if tt.want == "by hand" {
				if !errors.Is(err, config.ErrByHand) || got != "" {
					t.Errorf("got %q, %v; want ErrByHand", got, err)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
	if _, err := config.WithoutBridge("l.toml", head+"unlok = 1\n"+alice, address.Address{Local: "alice", Domain: "example.org"}); !errors.As(err, new(config.Problems)) {
		t.Errorf("a file with problems: %v", err)
	}
}
