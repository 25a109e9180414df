package keydir

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"letterlock.org/letterlock/internal/address"
)

// typeOPENPGPKEY is the record of RFC 7929.
const typeOPENPGPKEY dnsmessage.Type = 61

// daneClient asks DNS for OPENPGPKEY records. They count only where a resolver
// that can be trusted says that it validated them (Section 5), and their denial
// likewise.
type daneClient struct{ server *nameServer }

func (d *daneClient) name() string { return sourceDANE }

func (d *daneClient) speaksAs(a address.Address) word {
	if strings.HasPrefix(a.Domain, "[") || isIP(a.Domain) {
		return ofNobody
	}
	return ofDomain
}

// DANEName is where an address's certificate is in DNS: the SHA2-256 of the
// local part, as it is spelled, its first 28 octets in hexadecimal (RFC 7929,
// Section 3).
func DANEName(a address.Address) string {
	sum := sha256.Sum256([]byte(a.Local))
	return hex.EncodeToString(sum[:28]) + "._openpgpkey." + a.Domain
}

// lookup asks by the address as it is spelled, and where that doesn't exist with
// its ASCII letters in lower case, which is how most domains spell their own.
func (d *daneClient) lookup(ctx context.Context, q question) (answer, []Attempt) {
	a := q.address
	start := time.Now()
	ans := d.at(ctx, a, DANEName(a))
	if lower := (address.Address{Local: asciiLower(a.Local), Domain: a.Domain}); ans.outcome == Absent && lower.Local != a.Local {
		ans = d.at(ctx, a, DANEName(lower))
	}
	return ans, []Attempt{ans.attempt(sourceDANE, time.Since(start))}
}

func (d *daneClient) at(ctx context.Context, a address.Address, name string) answer {
	unavailable := func(detail string) answer { return answer{outcome: Unavailable, detail: detail} }
	got, err := d.server.ask(ctx, name, typeOPENPGPKEY)
	switch {
	case err != nil:
		return unavailable("the name server did not answer")
	case got.code != dnsmessage.RCodeSuccess && got.code != dnsmessage.RCodeNameError:
		return unavailable("the name server could not resolve or validate the domain's OPENPGPKEY record")
	case !got.authentic:
		return d.unsigned(ctx, len(got.records) > 0)
	case len(got.records) == 0:
		return answer{outcome: Absent, detail: "its zone denies that there is an OPENPGPKEY record"}
	}
	ans := answerOf(bytes.Join(got.records, nil), a, "its OPENPGPKEY record", maxCertificates)
	if ans.outcome == Found {
		ans.detail = fmt.Sprintf("%s by DNSSEC", ans.detail)
	}
	return ans
}

// unsigned is what an answer counts as that wasn't validated. A resolver that
// validates the root has seen its parent zone prove that this one isn't signed,
// or the zone that what is denied needn't be (opt-out: RFC 5155, Section 6), so
// that no record there counts; of another resolver nothing is known.
func (d *daneClient) unsigned(ctx context.Context, has bool) answer {
	root, err := d.server.ask(ctx, ".", dnsmessage.TypeSOA)
	switch {
	case err != nil || root.code != dnsmessage.RCodeSuccess:
		return answer{outcome: Unavailable, detail: "the name server did not answer"}
	case !root.authentic:
		return answer{outcome: Unavailable, detail: `the name server does not validate DNSSEC; give one that does as discovery.resolver, or take "dane" out of discovery.sources`}
	case has:
		return answer{outcome: NoDirectory, detail: "its OPENPGPKEY record is not signed (DNSSEC) and counts for nothing"}
	}
	return answer{outcome: NoDirectory, detail: "that it has no OPENPGPKEY record is not signed (DNSSEC) and counts for nothing"}
}

func asciiLower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
