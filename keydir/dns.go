package keydir

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Limits of one answer.
const (
	maxUDP        = 1232 // bytes, which no path fragments
	maxDNSRecords = 64
	dnsPatience   = 2 * time.Second // for an answer by UDP, which may be lost
)

var errDNS = errors.New("not an answer to what was asked")

// nameServer is a resolver that validates (RFC 4033, Section 4.9.3: a stub may
// believe its AD bit where the path to it can be trusted).
type nameServer struct{ addr netip.AddrPort }

// dnsReply is what it answered.
type dnsReply struct {
	code      dnsmessage.RCode
	authentic bool // it validated the answer, or the denial
	truncated bool
	records   [][]byte // of the type that was asked for
}

// newNameServer reads discovery.resolver; where it is empty the system's name
// server, which must be on loopback: elsewhere anybody between it and us could
// set a bit.
func newNameServer(configured string, resolvConf string) (*nameServer, error) {
	if configured != "" {
		addr, err := netip.ParseAddrPort(configured)
		if err != nil {
			return nil, errors.New(`discovery.resolver: is no IP address and port; write "127.0.0.1:53"`)
		}
		return &nameServer{addr}, nil
	}
	f, err := os.Open(resolvConf)
	if err == nil {
		defer f.Close()
		lines := bufio.NewScanner(io.LimitReader(f, 64<<10))
		for lines.Scan() {
			words := strings.Fields(lines.Text())
			if len(words) < 2 || words[0] != "nameserver" {
				continue
			}
			if addr, err := netip.ParseAddr(words[1]); err == nil && addr.Unmap().IsLoopback() {
				return &nameServer{netip.AddrPortFrom(addr, 53)}, nil
			}
			break
		}
	}
	return nil, errors.New(`discovery.sources: "dane" needs a name server that validates DNSSEC, and the system's is not on this machine; write discovery.resolver, to which nobody must come between`)
}

// ask asks for the records of one type at a name, by UDP and where that is not
// enough by TCP; only by TCP where the server isn't on loopback, since anybody
// can forge a datagram.
func (s *nameServer) ask(ctx context.Context, name string, kind dnsmessage.Type) (dnsReply, error) {
	rooted, err := dnsmessage.NewName(strings.TrimSuffix(name, ".") + ".")
	if err != nil {
		return dnsReply{}, err
	}
	q := dnsmessage.Question{Name: rooted, Type: kind, Class: dnsmessage.ClassINET}
	if s.addr.Addr().Unmap().IsLoopback() {
		short, cancel := context.WithTimeout(ctx, dnsPatience)
		got, err := s.exchange(short, "udp", q)
		cancel()
		if err == nil && !got.truncated || ctx.Err() != nil {
			return got, err
		}
	}
	got, err := s.exchange(ctx, "tcp", q)
	if err == nil && got.truncated {
		err = fmt.Errorf("truncated: %w", errDNS)
	}
	return got, err
}

func (s *nameServer) exchange(ctx context.Context, network string, q dnsmessage.Question) (dnsReply, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, s.addr.String())
	if err != nil {
		return dnsReply{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	var id [2]byte
	rand.Read(id[:])
	query, err := dnsQuery(binary.BigEndian.Uint16(id[:]), q)
	if err != nil {
		return dnsReply{}, err
	}
	if network == "tcp" { // RFC 1035, Section 4.2.2: two octets of length
		query = append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)
	}
	if _, err := conn.Write(query); err != nil {
		return dnsReply{}, err
	}
	for range 16 { // what is no answer may be somebody's who guesses
		answer, err := readDNS(conn, network)
		if err != nil {
			return dnsReply{}, err
		}
		got, err := parseDNS(answer, binary.BigEndian.Uint16(id[:]), q)
		if err == nil || network == "tcp" {
			return got, err
		}
	}
	return dnsReply{}, errDNS
}

// dnsQuery asks with the AD bit, by which the resolver knows that we want to be
// told whether it validated (RFC 6840, Section 5.7), and says how long a datagram
// may be (RFC 6891).
func dnsQuery(id uint16, q dnsmessage.Question) ([]byte, error) {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: id, RecursionDesired: true, AuthenticData: true})
	var h dnsmessage.ResourceHeader
	if err := errors.Join(b.StartQuestions(), b.Question(q), b.StartAdditionals(), h.SetEDNS0(maxUDP, 0, false), b.OPTResource(h, dnsmessage.OPTResource{})); err != nil {
		return nil, err
	}
	return b.Finish()
}

func readDNS(conn net.Conn, network string) ([]byte, error) {
	if network == "udp" {
		b := make([]byte, maxUDP)
		n, err := conn.Read(b)
		return b[:n], err
	}
	var n [2]byte
	if _, err := io.ReadFull(conn, n[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(n[:]))
	_, err := io.ReadFull(conn, b)
	return b, err
}

// parseDNS reads an answer: records count that stand at the name that was asked
// for, or where aliases lead from it.
func parseDNS(b []byte, id uint16, q dnsmessage.Question) (dnsReply, error) {
	var p dnsmessage.Parser
	h, err := p.Start(b)
	if err != nil || h.ID != id || !h.Response || h.OpCode != 0 {
		return dnsReply{}, errDNS
	}
	asked, err := p.AllQuestions()
	if err != nil || len(asked) != 1 || asked[0].Type != q.Type || asked[0].Class != q.Class || !strings.EqualFold(asked[0].Name.String(), q.Name.String()) {
		return dnsReply{}, errDNS
	}
	out := dnsReply{code: h.RCode, authentic: h.AuthenticData, truncated: h.Truncated}
	at := q.Name.String()
	for range maxDNSRecords {
		rh, err := p.AnswerHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) || out.truncated {
			return out, nil
		}
		if err != nil {
			return dnsReply{}, errDNS
		}
		here := rh.Class == dnsmessage.ClassINET && strings.EqualFold(rh.Name.String(), at)
		switch {
		case here && rh.Type == dnsmessage.TypeCNAME:
			alias, err := p.CNAMEResource()
			if err != nil {
				return dnsReply{}, errDNS
			}
			at = alias.CNAME.String()
		case here && rh.Type == q.Type:
			r, err := p.UnknownResource()
			if err != nil {
				return dnsReply{}, errDNS
			}
			out.records = append(out.records, r.Data)
		default:
			if p.SkipAnswer() != nil {
				return dnsReply{}, errDNS
			}
		}
	}
	return dnsReply{}, fmt.Errorf("more than %d records: %w", maxDNSRecords, errDNS)
}
