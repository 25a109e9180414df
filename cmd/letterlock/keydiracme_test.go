package main_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/mailtest/peer"
)

// pebble starts Let's Encrypt's test server, which resolves every name to this
// machine and validates at port, and gives its directory and its root.
func pebble(t *testing.T, w *world, port int) (directory, ca string, issuer func() *x509.CertPool) {
	t.Helper()
	peer.Require(t, "pebble", "pebble-challtestsrv")
	chain, key, trust := peer.Certificate(t, w.dir)
	at := func() string { return fmt.Sprintf("127.0.0.1:%d", peer.FreePort(t)) }
	dns, management, listen := at(), at(), at()
	start := func(name string, args ...string) {
		log, err := os.Create(filepath.Join(w.dir, name+".log"))
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(name, args...)
		cmd.Stdout, cmd.Stderr = log, log
		cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait(); log.Close() })
	}
	start("pebble-challtestsrv", "-dns01", dns, "-http01", "", "-https01", "", "-tlsalpn01", "", "-management", at(), "-defaultIPv6", "")
	text, err := json.Marshal(map[string]any{"pebble": map[string]any{"listenAddress": listen, "managementListenAddress": management,
		"certificate": chain, "privateKey": key, "httpPort": 1, "tlsPort": port}})
	if err != nil {
		t.Fatal(err)
	}
	start("pebble", "-config", w.file("pebble.json", string(text)), "-dnsserver", dns)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trust}}, Timeout: patience}
	get := func(url string) []byte {
		t.Helper()
		for try := 0; ; try++ {
			r, err := client.Get(url)
			if err == nil {
				defer r.Body.Close()
				b, _ := io.ReadAll(r.Body)
				return b
			}
			if try == 1200 {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	get("https://" + listen + "/dir")
	return "https://" + listen + "/dir", filepath.Join(filepath.Dir(chain), "ca.pem"), func() *x509.CertPool {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(get("https://" + management + "/roots/0")) {
			t.Fatal("no root")
		}
		return pool
	}
}

func TestCertificateByACME(t *testing.T) {
	w := newWorldOf(t, world{domain: "example.org"})
	port := peer.FreePort(t)
	directory, ca, root := pebble(t, w, port)
	b := w.configure("office", fmt.Sprintf("[keydir]\nlisten = \"https://127.0.0.1:%d\"\ndomains = [\"example.org\"]\nacme = { directory = %q, ca = %q, email = \"ops@example.org\" }\n",
		port, directory, ca))
	b.serve(1)
	ask := func() error {
		c := &http.Client{Timeout: patience, Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: root(), ServerName: "openpgpkey.example.org"}, DisableKeepAlives: true}}
		r, err := c.Get("https://" + net.JoinHostPort("127.0.0.1", fmt.Sprint(port)) + "/.well-known/openpgpkey/example.org/policy")
		if err != nil {
			return err
		}
		r.Body.Close()
		if r.StatusCode != 200 {
			return fmt.Errorf("it answers %s", r.Status)
		}
		return nil
	}
	for try := 0; ; try++ {
		err := ask()
		if err == nil {
			break
		}
		if try == 1200 {
			log, _ := os.ReadFile(b.log)
			t.Fatalf("%v\n%s", err, log)
		}
		time.Sleep(200 * time.Millisecond)
	}
	// The certificate is kept: a restart asks nobody.
	b.kill()
	b.ready = nil
	b.serve(1)
	if err := ask(); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	filepath.WalkDir(w.dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && !strings.Contains(path, "/tls/") {
			if b, _ := os.ReadFile(path); strings.Contains(string(b), "PRIVATE KEY-----") {
				t.Errorf("a private key lies open in %s", path)
			}
		}
		return nil
	})
}
