package peer

import (
	"crypto/ecdsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// islandMark says, in the environment, which test's island the process is on.
const islandMark = "LETTERLOCK_TEST_ISLAND"

// Island is a machine of its own, on which other people's programs meet ours by
// the names and ports that they have in the world: its network is loopback alone,
// every port of it is free, and its name server and certification authority are
// the test's.
type Island struct {
	Dir string // gone when the test ends; a short path that every user may walk

	t      testing.TB
	ca     *x509.Certificate
	caKey  *ecdsa.PrivateKey
	issued int
}

// OnIsland runs f, the whole rest of the test, on an island: in a process of its
// own with network, mount and process namespaces, so that nothing that is started
// there outlives it. Its loopback has the given addresses too, which may be public
// ones. It trusts nobody but its own authority, and no name resolves before
// [Island.Resolve]. t must be no subtest; it runs beside others that are
// parallel. Only root can make one.
func OnIsland(t *testing.T, f func(i *Island), addresses ...string) {
	t.Helper()
	if os.Getenv(islandMark) != t.Name() {
		sail(t)
		return
	}
	i := &Island{t: t, Dir: folder(t)}
	i.mount("proc", "/proc", "proc", 0)
	i.mount("certificates", "/etc/ssl/certs", "tmpfs", 0)
	i.must("ip", "link", "set", "lo", "up")
	for _, a := range addresses {
		i.must("ip", "address", "add", a, "dev", "lo")
	}
	i.caKey, i.ca = issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "letterlock island CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, nil, nil)
	write(t, i.CA(), encode("CERTIFICATE", i.ca.Raw), 0o644)
	// What doesn't read that file of its own accord is told.
	for _, name := range []string{"SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE"} {
		os.Setenv(name, i.CA())
	}
	os.Setenv("HOME", i.Dir)
	i.ResolvConf("")
	f(i)
}

// sail runs the test on its island, and has its outcome.
func sail(t *testing.T) {
	t.Helper()
	t.Parallel() // it mostly waits, and meets nobody's files and ports
	Require(t, "ip")
	if os.Getuid() != 0 {
		missing(t, "namespaces have to be made by root")
	}
	end := time.Now().Add(5 * time.Minute)
	if d, ok := t.Deadline(); ok {
		end = d
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout="+time.Until(end.Add(-2*time.Second)).String())
	cmd.Env = append(os.Environ(), islandMark+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNET, Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	switch {
	case cmd.ProcessState == nil:
		missing(t, "no namespaces can be made: %v", err)
	case err != nil:
		t.Fatalf("on the island: %v\n%s", err, out)
	case strings.Contains(string(out), "--- SKIP: "+t.Name()):
		t.Skipf("on the island: %s", out)
	case !strings.Contains(string(out), "--- PASS: "+t.Name()):
		t.Fatalf("the test did not run on the island:\n%s", out)
	}
	t.Logf("%s", out)
}

func (i *Island) mount(source, target, kind string, flags uintptr) {
	i.t.Helper()
	if err := syscall.Mount(source, target, kind, flags, ""); err != nil {
		i.t.Fatalf("mounting %s: %v", target, err)
	}
}

func (i *Island) must(name string, args ...string) []byte {
	i.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = i.Dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		i.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return out
}

// CA is the file of the authority that everything on the island trusts.
func (i *Island) CA() string { return "/etc/ssl/certs/ca-certificates.crt" }

// Certificate makes a TLS certificate for names, by the island's authority.
func (i *Island) Certificate(names ...string) (cert, key string) {
	i.t.Helper()
	k, c := issue(i.t, &x509.Certificate{
		Subject: pkix.Name{CommonName: names[0]}, BasicConstraintsValid: true, DNSNames: names,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, i.ca, i.caKey)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		i.t.Fatal(err)
	}
	i.issued++
	cert, key = filepath.Join(i.Dir, fmt.Sprintf("tls-%d.pem", i.issued)), filepath.Join(i.Dir, fmt.Sprintf("tls-%d.key", i.issued))
	write(i.t, cert, encode("CERTIFICATE", c.Raw), 0o644)
	write(i.t, key, encode("PRIVATE KEY", pkcs8), 0o600)
	return cert, key
}

// File writes a file that ends with the island.
func (i *Island) File(name, text string) string {
	i.t.Helper()
	name = filepath.Join(i.Dir, name)
	write(i.t, name, text, 0o600)
	return name
}

// ResolvConf makes text the island's /etc/resolv.conf; its /etc/hosts knows
// localhost only.
func (i *Island) ResolvConf(text string) {
	i.t.Helper()
	for name, text := range map[string]string{"resolv.conf": text, "hosts": "127.0.0.1 localhost\n"} {
		file, first := filepath.Join(i.Dir, name), false
		if _, err := os.Stat(file); err != nil {
			first = true
		}
		write(i.t, file, text, 0o644)
		if first {
			i.mount(file, "/etc/"+name, "", syscall.MS_BIND)
		}
	}
}

// Resolve starts the island's name server, which knows these names, each with an
// address, and that no other exists.
func (i *Island) Resolve(names map[string]string) {
	i.t.Helper()
	var text strings.Builder
	text.WriteString("module-config: \"iterator\"\nlocal-zone: \".\" static\nlocal-data: \". 60 SOA ns. nobody. 1 60 60 60 60\"\n")
	for name, address := range names {
		fmt.Fprintf(&text, "local-data: \"%s. 60 A %s\"\n", name, address)
	}
	i.Unbound("127.0.0.1", text.String(), "")
	i.ResolvConf("nameserver 127.0.0.1\n")
}

// Unbound starts a resolver on port 53 of an address. server is what its section
// of that name says further, more the sections after it.
func (i *Island) Unbound(address, server, more string) {
	i.t.Helper()
	Require(i.t, "unbound")
	file := filepath.Join(i.Dir, "unbound-"+address)
	write(i.t, file+".conf", fmt.Sprintf(`server:
interface: %s
access-control: 0.0.0.0/0 allow
use-syslog: no
verbosity: 1
num-threads: 1
username: ""
chroot: ""
directory: %q
pidfile: ""
do-not-query-localhost: no
do-ip6: no
%s
remote-control:
control-enable: no
%s`, address, i.Dir, server, more), 0o644)
	i.Start("unbound", address+":53", "unbound", "-d", "-p", "-c", file+".conf")
}

// Nginx starts nginx with these server blocks, until it listens on at.
func (i *Island) Nginx(at, servers string) {
	i.t.Helper()
	Require(i.t, "nginx")
	conf := filepath.Join(i.Dir, "nginx.conf")
	write(i.t, conf, fmt.Sprintf(`user root;
worker_processes 1;
daemon off;
pid %[1]s/nginx.pid;
error_log %[1]s/nginx.err warn;
events { worker_connections 64; }
http {
access_log off;
client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fast; uwsgi_temp_path %[1]s/uw; scgi_temp_path %[1]s/sc;
default_type application/octet-stream;
%[2]s
}
`, i.Dir, servers), 0o644)
	i.Start("nginx", at, "nginx", "-c", conf, "-e", filepath.Join(i.Dir, "nginx.err"))
}

// Start starts a server that stays in the foreground, and waits until it listens
// at a TCP address.
func (i *Island) Start(what, at, name string, args ...string) {
	i.t.Helper()
	log := filepath.Join(i.Dir, strings.ReplaceAll(what+"-"+at, ":", "-")+".log")
	run(i.t, log, name, args...)
	await(i.t, what, []string{log}, func() error {
		c, err := net.Dial("tcp", at)
		if err == nil {
			c.Close()
		}
		return err
	})
}
