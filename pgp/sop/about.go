package sop

import (
	"context"
	"fmt"
)

func version(_ context.Context, k *call) error {
	name := "letterlock " + k.Version
	switch {
	case k.has("sop-spec"):
		name = "~draft-dkg-openpgp-stateless-cli-15\n\nMessages for a password and session keys are not supported."
	case k.has("sopv"):
		name = "1.0"
	case k.has("backend"):
		name = "ProtonMail/go-crypto openpgp/v2"
	case k.has("extended"):
		name += "\nProtonMail/go-crypto openpgp/v2"
	}
	_, err := fmt.Fprintln(k.Stdout, name)
	return err
}

func listProfiles(_ context.Context, k *call) error {
	if k.needs(len(k.operands) == 1, missingArg, "list-profiles needs a subcommand"); k.err != nil {
		return k.err
	}
	if n := k.operands[0]; n != "generate-key" && n != "encrypt" {
		return failure(unsupportedProfile, "%s has no profiles", n)
	}
	_, err := fmt.Fprintln(k.Stdout, "default: what Letterlock writes (RFC 4880 keys on Curve25519; SEIPDv2 where every recipient has it)")
	return err
}

// profile checks --profile.
func (k *call) profile() {
	p := k.one("profile", "default")
	k.needs(p == "default", unsupportedProfile, "no profile %s", p)
}
