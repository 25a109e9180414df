package main

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestAServeThatSaysNothing is inside the package for the sake of its patience: who
// asks a serve that hangs is told what it is that takes so long.
func TestAServeThatSaysNothing(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "llsilent")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, controlName))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	old := silence
	silence = time.Millisecond
	defer func() { silence = old }()
	r, w := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- runInServe(ctx, &env{stderr: w}, dir, []string{"status"}) }()
	told := make([]byte, 200)
	n, err := r.Read(told)
	if err != nil || !strings.Contains(string(told[:n]), "still waiting for the serve that runs on "+dir) {
		t.Errorf("%q, %v", told[:n], err)
	}
	go io.Copy(io.Discard, r)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
}
