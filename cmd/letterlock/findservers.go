package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/mailservers"
)

// findServers looks for the servers of an address. Tests reach no network.
var findServers = func(ctx context.Context, a address.Address, proxy string) (mailservers.Found, error) {
	f, err := mailservers.New(proxy)
	if err != nil {
		return mailservers.Found{}, err
	}
	return f.Find(ctx, a)
}

// find fills in the servers that the command line doesn't name.
func (c *setupCmd) find(ctx context.Context, e *env, proxy string) error {
	fmt.Fprintf(e.stderr, "Looking for the mail servers of %s …\n", c.Address.Domain)
	found, err := findServers(ctx, c.Address.Address, proxy)
	if err != nil {
		return usageError{fmt.Errorf("%w\nIf the address is right and this computer online, say where its mail servers are (the help pages of the provider tell): letterlock setup %s --imap HOST --smtp HOST", err, c.Address)}
	}
	given := c.IMAP != "" || c.SMTP != ""
	if c.IMAP == "" {
		c.IMAP = found.IMAP.String()
	}
	if c.SMTP == "" {
		c.SMTP = found.SMTP.String()
	}
	if c.UpstreamUser == "" && !given && !strings.EqualFold(found.User, c.Address.String()) {
		c.UpstreamUser = found.User
	}
	e.printf("Mail is fetched from %s and sent by %s (%s).\n", c.IMAP, c.SMTP, found.Source)
	if found.Sure || c.agreed(e) {
		return nil
	}
	return usageError{fmt.Errorf("DNS alone says so, which can be forged, and not both servers are of %s; if they are where your mail is, name them: --imap %s --smtp %s", c.Address.Domain, c.IMAP, c.SMTP)}
}

// agreed asks the person, where there is one, whether their password may go to
// servers that only DNS names.
func (c *setupCmd) agreed(e *env) bool {
	local := e.files.(*localFiles)
	if f, ok := local.stdin.(*os.File); !ok || c.PasswordFile == "-" || !isTerminal(f) {
		return false
	}
	fmt.Fprintf(e.stderr, "DNS alone says so, which can be forged, and not both are servers of %s.\nIs that where your mail is, and may your password go there? [y/N] ", c.Address.Domain)
	line, err := local.input().ReadString('\n')
	answer := strings.ToLower(strings.TrimSpace(line))
	return err == nil && (answer == "y" || answer == "yes")
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), getTermios)
	return err == nil
}
