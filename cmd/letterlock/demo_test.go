package main_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"letterlock.org/letterlock/internal/mailtest"
	"letterlock.org/letterlock/internal/mailtest/peer"
)

// What a newcomer types into a mail program at the demo arrives: from Bob to
// Alice, with the settings that the demo prints.
func TestDemoStaysUp(t *testing.T) {
	cmd := exec.Command("letterlock", "demo", "--json")
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Errorf("after Ctrl-C: %v", err)
		}
	}()
	type server struct {
		Host string
		Port int
	}
	var said struct {
		OK       bool
		Accounts []struct {
			User, Password, CA string
			IMAP, SMTP         []server
		}
	}
	if err := json.NewDecoder(out).Decode(&said); err != nil || !said.OK || len(said.Accounts) != 2 {
		t.Fatalf("the demo says %+v, %v", said, err)
	}
	login := func(i int, s server) mailtest.Login {
		a := said.Accounts[i]
		return mailtest.Login{Addr: fmt.Sprintf("%s:%d", s.Host, s.Port), User: a.User, Password: a.Password,
			TLS: &tls.Config{ServerName: "127.0.0.1", RootCAs: peer.Pool(t, a.CA)}}
	}
	c := newCanary("answer")
	raw := "From: " + bob + "\r\nTo: " + alice + "\r\nSubject: " + c.text + "\r\n\r\nI bring the umbrella.\r\n"
	if err := mailtest.Submit(login(1, said.Accounts[1].SMTP[0]), bob, []string{alice}, []byte(raw)); err != nil {
		t.Fatal(err)
	}
	got, err := mailtest.Fetch(login(0, said.Accounts[0].IMAP[0]), "INBOX")
	if err != nil || len(got) != 1 || !c.in(got[0].Raw) || !bytes.Contains(got[0].Raw, []byte("signature=valid")) {
		t.Errorf("Alice has %d messages, %v", len(got), err)
	}
}
