package peer

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// PostgresServer is a running PostgreSQL with one database, "letterlock". It
// listens on 127.0.0.1 and on a socket, and syncs as it does by default.
type PostgresServer struct {
	Dir  string
	Port int
	URL  string // postgres://…@127.0.0.1:PORT/letterlock
	Log  string
	CA   string // PEM file that its certificate is to be verified with; TLS is offered

	t        testing.TB
	bin      string
	uid, gid int
	host     *Host // where it runs; nil for beside us
	cmd      *exec.Cmd
	done     chan struct{} // closed when cmd has ended
	fresh    atomic.Int64  // schemas made
}

const postgresPassword = "postgres-pw-3"

// Postgres starts a PostgreSQL for this test.
func Postgres(t testing.TB) *PostgresServer {
	t.Helper()
	return PostgresOn(t, nil)
}

// PostgresOn starts it on a host of its own, where it listens at every address.
func PostgresOn(t testing.TB, host *Host) *PostgresServer {
	t.Helper()
	bin := postgresPrograms(t)
	p := &PostgresServer{Dir: folder(t), host: host, Port: freePorts(t, 1)[0], t: t, bin: bin, uid: os.Getuid(), gid: os.Getgid()}
	if p.uid == 0 { // PostgreSQL refuses to be root
		p.uid, p.gid = ids(t, "postgres", "nobody")
	}
	p.Log = p.Dir + "/postgres.log"
	p.URL = fmt.Sprintf("postgres://letterlock:%s@127.0.0.1:%d/letterlock", postgresPassword, p.Port)
	for _, sub := range []string{"run", "log"} {
		mkdir(t, filepath.Join(p.Dir, sub), 0o700, p.uid, p.gid)
	}
	mkdir(t, p.Dir+"/data", 0o700, p.uid, p.gid)
	tls := makeCertificates(t, p.Dir+"/tls")
	p.CA = tls.ca
	if err := os.Chown(tls.key, p.uid, p.gid); err != nil {
		t.Fatal(err)
	}
	write(t, p.Dir+"/password", postgresPassword, 0o644)
	out, err := p.command("initdb", "-D", p.Dir+"/data", "-U", "letterlock", "-E", "UTF8", "--locale=C.UTF-8",
		"-A", "scram-sha-256", "--pwfile="+p.Dir+"/password", "--no-sync").CombinedOutput()
	if err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	if host != nil {
		p.welcome("10.77.0.0/16")
	}
	p.start()
	t.Cleanup(p.stop)
	c := p.command("createdb", "-h", p.Dir+"/run", "-p", strconv.Itoa(p.Port), "-U", "letterlock", "letterlock")
	c.Env = append(c.Env, "PGPASSWORD="+postgresPassword)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("createdb: %v\n%s", err, out)
	}
	return p
}

// postgresPrograms finds the folder of the newest PostgreSQL.
func postgresPrograms(t testing.TB) string {
	t.Helper()
	all, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb") // Debian's place
	if path, err := exec.LookPath("initdb"); err == nil && len(all) == 0 {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			all = append(all, path)
		}
	}
	if len(all) == 0 {
		missing(t, "peer postgresql is not installed")
	}
	sort.Strings(all)
	return filepath.Dir(all[len(all)-1])
}

// command is one of PostgreSQL's programs, run as its user.
func (p *PostgresServer) command(name string, args ...string) *exec.Cmd {
	c := exec.Command(filepath.Join(p.bin, name), args...)
	c.Dir = "/"
	c.Env = []string{"LC_ALL=C.UTF-8", "PATH=" + os.Getenv("PATH")}
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT}
	if os.Getuid() == 0 {
		c.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(p.uid), Gid: uint32(p.gid)}
	}
	return c
}

func (p *PostgresServer) start() {
	p.t.Helper()
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	at, start := "127.0.0.1", (*exec.Cmd).Start
	if p.host != nil {
		at, start = "*", p.host.Start
	}
	p.cmd = p.command("postgres", "-D", p.Dir+"/data", "-p", strconv.Itoa(p.Port), "-k", p.Dir+"/run",
		"-c", "listen_addresses="+at, "-c", "max_connections=200", "-c", "shared_buffers=32MB",
		"-c", "ssl=on", "-c", "ssl_cert_file="+p.Dir+"/tls/server.pem", "-c", "ssl_key_file="+p.Dir+"/tls/server.key")
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := start(p.cmd); err != nil {
		p.t.Fatalf("starting PostgreSQL: %v", err)
	}
	cmd, done := p.cmd, make(chan struct{})
	p.done = done
	go func() { cmd.Wait(); close(done) }()
	await(p.t, "PostgreSQL", []string{p.Log}, func() error {
		c := p.command("pg_isready", "-q", "-h", p.Dir+"/run", "-p", strconv.Itoa(p.Port))
		return c.Run()
	})
}

// welcome lets clients of a network log in.
func (p *PostgresServer) welcome(network string) {
	p.t.Helper()
	f, err := os.OpenFile(p.Dir+"/data/pg_hba.conf", os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		fmt.Fprintf(f, "hostssl all all %s scram-sha-256\n", network)
		err = f.Close()
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// stop ends it at once; its children notice.
func (p *PostgresServer) stop() {
	p.cmd.Process.Signal(syscall.SIGQUIT)
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		p.cmd.Process.Kill()
		<-p.done
	}
}

// Restart ends it as a crash would (SIGQUIT: no checkpoint, connections are
// dropped) and starts it again; it recovers from its log.
func (p *PostgresServer) Restart() { p.t.Helper(); p.Crash(); p.start() }

// Crash ends it without a checkpoint; Start starts it again.
func (p *PostgresServer) Crash() { p.t.Helper(); p.stop() }

// Start starts it again after Crash.
func (p *PostgresServer) Start() { p.t.Helper(); p.start() }

// KillBackend kills (SIGKILL) the process that serves one connection, by the
// number that pg_backend_pid() gives; PostgreSQL then drops every connection and
// recovers.
func (p *PostgresServer) KillBackend(pid int) {
	p.t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		p.t.Fatal(err)
	}
}

// Gateway listens on a port of its own and passes connections on, until it is
// cut.
func (p *PostgresServer) Gateway() *Cable {
	p.t.Helper()
	return newCable(p.t, net.JoinHostPort("127.0.0.1", strconv.Itoa(p.Port)))
}

// Fresh makes an empty schema in the database and gives a URL that stays within.
func (p *PostgresServer) Fresh() string {
	p.t.Helper()
	name := fmt.Sprintf("s%d", p.fresh.Add(1))
	p.SQL("CREATE SCHEMA " + name)
	return p.URL + "?search_path=" + name
}

// SQL runs statements and gives the first value of the last.
func (p *PostgresServer) SQL(sql string) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := pgconn.Connect(ctx, fmt.Sprintf("postgres://letterlock:%s@/letterlock?host=%s&port=%d", postgresPassword, p.Dir+"/run", p.Port))
	if err != nil {
		p.t.Fatal(err)
	}
	defer c.Close(ctx)
	all, err := c.Exec(ctx, sql).ReadAll()
	if err != nil {
		p.t.Fatal(err)
	}
	if last := all[len(all)-1]; len(last.Rows) > 0 {
		return string(last.Rows[0][0])
	}
	return ""
}
