package main_test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/mailtest/peer"
)

// BenchmarkBehindPostfix measures what leaves a Postfix per second, 10 KB at
// concurrency 16, in three set-ups beside each other: as it is; with a content
// filter that runs a Python and a gpg process per message and only encrypts, as
// the filters of today do; and with the relay as content filter, which encrypts
// and signs. Run it with -benchtime=15x: each iteration is one round of all.
// It also hands mail to the relay without a Postfix (direct).
func BenchmarkBehindPostfix(b *testing.B) {
	peer.Require(b, "gpg")
	sink := peer.StartSink(b)
	next := fmt.Sprintf("relayhost = [%s\nsmtp_destination_concurrency_limit = 20\n", strings.Replace(sink.Addr, ":", "]:", 1))
	plain := peer.StartMTA(b, next)
	port := peer.FreePort(b)
	before := peer.StartMTA(b, next+fmt.Sprintf("content_filter = smtp:[127.0.0.1]:%d\n", port))
	w, _ := newRelayWorld(b, before.After, "")
	serve := func(name, listen, smarthost string) string {
		r := w.configure(name, relayConfig(w, listen, smarthost, "trust_sender = true"))
		conf, err := os.ReadFile(filepath.Join(w.dir, name+".toml"))
		if err != nil {
			b.Fatal(err)
		}
		w.file(name+".toml", strings.Replace(string(conf), `"debug"`, `"warn"`, 1))
		r.command("key", "generate", "ann@example.org")
		r.serve(1)
		return r.ready[0].Listen
	}
	serve("filter", fmt.Sprintf("127.0.0.1:%d", port), before.After)
	direct := serve("direct", "127.0.0.1:0", sink.Addr)
	filter := startFilter(b, next, filepath.Join(w.dir, "cert-"+known))

	body := strings.Repeat(strings.Repeat("text ", 15)+"\r\n", 10240/77)
	rates := map[string][]float64{}
	targets := []struct {
		name, at string
		n        int
	}{{"plain", plain.Addr, 200}, {"process", filter.Addr, 40}, {"relay", before.Addr, 200}, {"direct", direct, 600}}
	for range b.N {
		for _, to := range targets {
			rates[to.name] = append(rates[to.name], delivered(b, sink, to.at, to.n, body))
		}
	}
	report := func(name, over string) {
		ratios := make([]float64, b.N)
		for i := range ratios {
			ratios[i] = rates[name][i] / rates[over][i]
		}
		slices.Sort(ratios)
		b.ReportMetric(ratios[len(ratios)/2], name+"/"+over)
		b.ReportMetric(ratios[len(ratios)/4], name+"/"+over+"_q1")
	}
	for name, r := range rates {
		slices.Sort(r)
		b.ReportMetric(r[len(r)/2], name+"_msg/s")
	}
	report("relay", "plain")
	report("relay", "process")
	report("direct", "process")
	b.ReportMetric(0, "ns/op")
}

// startFilter is a Postfix whose content filter runs two processes per message.
func startFilter(b *testing.B, next, cert string) *peer.MTA {
	b.Helper()
	dir, err := os.MkdirTemp("/tmp", "llfilter")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	home := filepath.Join(dir, "gnupg")
	script := filepath.Join(dir, "filter.py")
	if err := os.WriteFile(script, []byte(filterScript), 0o755); err != nil {
		b.Fatal(err)
	}
	for _, c := range [][]string{
		{"chmod", "755", dir}, {"mkdir", "-m", "700", home},
		{"gpg", "--homedir", home, "--batch", "-q", "--import", cert},
		{"chown", "-R", "nobody", home},
	} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			b.Fatalf("%v: %v\n%s", c, err, out)
		}
	}
	after := peer.FreePort(b)
	return peer.StartMTA(b, next+"content_filter = filter:dummy\n",
		fmt.Sprintf("filter unix - n n - 10 pipe flags=Rq user=nobody argv=/usr/bin/python3 %s %s %d ${sender} ${recipient}\n", script, home, after),
		fmt.Sprintf("127.0.0.1:%d inet n - n - - smtpd\n  -o content_filter=\n  -o receive_override_options=no_unknown_recipient_checks,no_header_body_checks,no_milters\n", after))
}

// filterScript is the least that a filter of one process per message does.
const filterScript = `import smtplib, subprocess, sys
home, port, sender, to = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
mail = sys.stdin.buffer.read()
head, _, body = mail.partition(b"\n\n")
sealed = subprocess.run(["gpg", "--homedir", home, "--batch", "-q", "--trust-model", "always", "-z", "0", "-a", "-e", "-r", to], input=body, stdout=subprocess.PIPE, check=True).stdout
s = smtplib.SMTP("127.0.0.1", port)
s.sendmail(sender, [to], head + b"\n\n" + sealed)
s.quit()
`

// delivered is how many of n messages reach the sink per second.
func delivered(b *testing.B, sink *peer.Sink, at string, n int, body string) float64 {
	b.Helper()
	before := len(sink.Received())
	began := time.Now()
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() { pour(b, at, i, n/16+1, body) })
	}
	all.Wait()
	n = 16 * (n/16 + 1)
	sink.Await(b, before+n)
	return float64(n) / time.Since(began).Seconds()
}

// pour hands n messages to a server over one connection.
func pour(b *testing.B, at string, who, n int, body string) {
	c, err := net.Dial("tcp", at)
	if err != nil {
		b.Error(err)
		return
	}
	defer c.Close()
	r := bufio.NewReader(c)
	say := func(s string) bool {
		if s != "" {
			fmt.Fprintf(c, "%s\r\n", s)
		}
		for {
			line, err := r.ReadString('\n')
			if err != nil || line[0] > '3' {
				b.Errorf("%.20s: %q %v", s, line, err)
				return false
			}
			if line[3] == ' ' {
				return true
			}
		}
	}
	ok := say("") && say("EHLO bench.example.org")
	for i := range n {
		ok = ok && say("MAIL FROM:<ann@example.org>") && say("RCPT TO:<"+known+">") && say("DATA") &&
			say(fmt.Sprintf("From: ann@example.org\r\nTo: %s\r\nSubject: %d\r\nMessage-ID: <%d.%d.%d@example.org>\r\n\r\n%s.", known, i, time.Now().UnixNano(), who, i, body))
	}
}
