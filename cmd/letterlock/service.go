package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"letterlock.org/letterlock/internal/wholefile"
)

type serviceCmd struct {
	Install serviceInstall `cmd:"" help:"Have serve run from now on, whenever you are logged in (a systemd user service)."`
	Remove  serviceRemove  `cmd:"" help:"End that."`
}

// unitName is the user's service. A system's is packaging/letterlock.service.
const unitName = "letterlock.service"

type serviceInstall struct{}

func (*serviceInstall) runLocal(ctx context.Context, e *env, root *cli) error {
	cfg, err := root.load()
	if err != nil {
		return err
	}
	file, err := filepath.Abs(cfg.File)
	if err != nil {
		return err
	}
	program, err := installedProgram()
	if err != nil {
		return err
	}
	text, err := unit(program, file, os.Getenv("XDG_STATE_HOME"))
	if err != nil {
		return err
	}
	at, err := unitFile()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return err
	}
	_, err = os.Stat(at)
	fresh := errors.Is(err, os.ErrNotExist)
	if err := wholefile.Replace(at, []byte(text), 0o600); err != nil {
		return err
	}
	err = systemctl(ctx, "daemon-reload")
	if err == nil {
		err = systemctl(ctx, "enable", unitName)
	}
	if err != nil {
		if fresh { // who has no systemd of his own is left as he was
			err = errors.Join(err, os.Remove(at))
		}
		return err
	}
	e.printf("Wrote %s.\n", at)
	if err := systemctl(ctx, "restart", unitName); err != nil { // a newer program or file counts at once
		return fmt.Errorf("%w (why: journalctl --user --unit %s)", err, unitName)
	}
	e.printf("letterlock serve runs, and will whenever you are logged in (loginctl enable-linger: also when you aren't).\nWhat it says: journalctl --user --unit %s. How it stands: letterlock status. To end it: letterlock service remove.\n", unitName)
	return nil
}

type serviceRemove struct{}

func (*serviceRemove) runLocal(ctx context.Context, e *env, _ *cli) error {
	at, err := unitFile()
	if err != nil {
		return err
	}
	if _, err := os.Stat(at); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("there is no %s, so letterlock isn't a service of yours", at)
	}
	if err := systemctl(ctx, "disable", "--now", unitName); err != nil {
		return err
	}
	if err := os.Remove(at); err != nil {
		return err
	}
	e.printf("Removed %s. Keys, mail and the configuration stay.\n", at)
	return systemctl(ctx, "daemon-reload")
}

// unitFile is where systemd looks for a user's own units (systemd.unit(5)).
func unitFile() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "systemd", "user", unitName), nil
}

// installedProgram is this program's file, if that will still be there tomorrow.
func installedProgram() (string, error) {
	program, err := os.Executable()
	if err != nil {
		return "", err
	}
	if strings.Contains(program, string(filepath.Separator)+"go-build") {
		return "", errors.New("this program was built for one run (go run); build it, and put it where it can stay: go build -o ~/.local/bin/letterlock ./cmd/letterlock")
	}
	return program, nil
}

// unit is the service. What can't get better by trying again (a command line, a
// configuration) isn't tried again; a keyring that is still locked may open. A
// stateHome that isn't "" is this session's, which that of the service need not be:
// another would be another state directory, without keys.
func unit(program, file, stateHome string) (string, error) {
	p, err := unitQuoted(program)
	if err != nil {
		return "", err
	}
	f, err := unitQuoted(file)
	if err != nil {
		return "", err
	}
	environment := ""
	if stateHome != "" {
		v, err := unitQuoted("XDG_STATE_HOME=" + stateHome)
		if err != nil {
			return "", err
		}
		environment = "Environment=" + v + "\n"
	}
	return `# Written by letterlock service install.
[Unit]
Description=Letterlock, OpenPGP between mail programs and their servers

[Service]
Type=notify
NotifyAccess=main
` + environment + `ExecStart=` + p + ` serve --config ` + f + `
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
RestartSec=10
` + fmt.Sprintf("RestartPreventExitStatus=%d %d", exitUsage, exitConfig) + `
# It drains for up to 20 seconds.
TimeoutStopSec=45
LimitCORE=0
NoNewPrivileges=yes
UMask=0077

[Install]
WantedBy=default.target
`, nil
}

// unitQuoted is a word of ExecStart (systemd.service(5), "Command lines"). What a
// dollar means there depends on the place.
func unitQuoted(word string) (string, error) {
	if strings.ContainsFunc(word, func(r rune) bool { return r < ' ' || r == 0x7f || r == '$' }) {
		return "", fmt.Errorf("%w: %q can't be named in a systemd unit", errConfig, word)
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `%`, `%%`).Replace(word) + `"`, nil
}

// systemctl speaks to the user's systemd.
func systemctl(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "systemctl", append([]string{"--user"}, args...)...).CombinedOutput()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return errors.New("there is no systemd here; have whatever starts your programs run: letterlock serve")
	case err != nil:
		hint := ""
		if strings.Contains(string(out), "connect to bus") {
			hint = " (it takes a session that you logged in to, which su and sudo don't make; for a machine that serves others see packaging/letterlock.service)"
		}
		return fmt.Errorf("systemctl --user %s: %s%s", strings.Join(args, " "), strings.TrimSpace(string(out)), hint)
	}
	return nil
}
