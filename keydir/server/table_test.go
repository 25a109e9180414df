package server_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"letterlock.org/letterlock/keydir/server"
)

func TestTableIsAMap(t *testing.T) {
	var table server.Table
	defer table.Close()
	model := map[[2]int][]byte{}
	rnd := rand.New(rand.NewPCG(1, 2))
	for step := range 60_000 {
		domain, n := rnd.IntN(3), rnd.IntN(4000)
		k := [2]int{domain, n}
		switch rnd.IntN(10) {
		case 0, 1, 2:
			table.Remove(uint32(domain), n)
			delete(model, k)
		default:
			body := bytes.Repeat([]byte(fmt.Sprint(step)), rnd.IntN(300))
			if err := table.Put(uint32(domain), n, body); err != nil {
				t.Fatal(err)
			}
			model[k] = body
		}
		got, ok := table.Get(uint32(domain), n)
		want, there := model[k]
		if ok != there || !bytes.Equal(got, want) {
			t.Fatalf("step %d: got %v %q, want %v %q", step, ok, got, there, want)
		}
	}
	if table.Len() != len(model) {
		t.Errorf("%d answers, want %d", table.Len(), len(model))
	}
	for k, want := range model {
		if got, ok := table.Get(uint32(k[0]), k[1]); !ok || !bytes.Equal(got, want) {
			t.Fatalf("%v: got %v %q, want %q", k, ok, got, want)
		}
	}
	n := 0
	table.Each(func([]byte) { n++ })
	if n != len(model) {
		t.Errorf("walked over %d, want %d", n, len(model))
	}
}

func TestReplacingTakesNoMemory(t *testing.T) {
	var table server.Table
	defer table.Close()
	body := make([]byte, 60_000)
	for i := range 20_000 {
		if err := table.Put(1, i%50, body); err != nil {
			t.Fatal(err)
		}
	}
	if n := table.Chunks(); n > 64<<20 {
		t.Errorf("3 MB of answers, replaced 400 times, hold %d MiB", n>>20)
	}
	if table.Len() != 50 {
		t.Errorf("%d answers", table.Len())
	}
}

func TestTableReadWhileItChanges(t *testing.T) {
	var table server.Table
	defer table.Close()
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Go(func() {
			for i := range 20_000 {
				n := i % 500
				if i%7 == 0 {
					table.Remove(1, n)
				} else if err := table.Put(1, n, bytes.Repeat([]byte{byte(w)}, 1000+i%100)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 2 {
		wg.Go(func() {
			for i := range 50_000 {
				body, ok := table.Get(1, i%500)
				if ok && !bytes.Equal(body, bytes.Repeat(body[:1], len(body))) {
					t.Error("a body of two writers")
					return
				}
			}
		})
	}
	wg.Wait()
}
