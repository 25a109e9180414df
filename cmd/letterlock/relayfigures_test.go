package main_test

import (
	"regexp"
	"strconv"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/mailtest/peer"
)

var oldestHeld = regexp.MustCompile(`(?m)^letterlock_queue_oldest_seconds\{state="held"\} ([0-9.e+-]+)$`)

// TestTheOldestOfTheQueueIsTold: how long the first of what is held has waited.
func TestTheOldestOfTheQueueIsTold(t *testing.T) {
	sink := peer.StartSink(t)
	_, relay := newRelayWorld(t, sink.Addr, "[policy]\ndefault = \"require\"\nmissing = \"hold\"\n[metrics]\nlisten = \"127.0.0.1:0\"\n")
	relay.serve(2)
	web := relay.ready[1].Listen
	if relay.ready[1].Role != "metrics" {
		t.Fatalf("ready lines %+v", relay.ready)
	}
	age := func() float64 {
		t.Helper()
		_, text := fetch(t, "http://"+web+"/metrics")
		m := oldestHeld.FindStringSubmatch(text)
		if m == nil {
			t.Fatal("the figures lack it")
		}
		n, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := age(); n != 0 {
		t.Errorf("of an empty queue: %v", n)
	}
	began := time.Now()
	if err := handOver(relay.ready[0].Listen, "ann@example.org", relayMail("ann@example.org", unknown, ""), unknown); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond) // it grows with the clock alone
	if n := age(); n < 0.02 || n > time.Since(began).Seconds()+0.001 {
		t.Errorf("after %v: %v seconds", time.Since(began), n)
	}
}
