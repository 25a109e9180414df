package processors_test

import (
	"runtime"
	"testing"

	"letterlock.org/letterlock/internal/processors"
)

func TestOversubscribeLeavesTheCountAsItWas(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	t.Setenv("GOMAXPROCS", "")
	processors.Oversubscribe()
	if n := processors.Count(); n != before {
		t.Errorf("%d processors after it, %d before", n, before)
	}
	if n := runtime.GOMAXPROCS(0); n <= before {
		t.Errorf("%d threads may run for %d processors", n, before)
	}
}

func TestOversubscribeLeavesTheLastWordToTheEnvironment(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	t.Setenv("GOMAXPROCS", "1")
	processors.Oversubscribe()
	if n := runtime.GOMAXPROCS(0); n != before {
		t.Errorf("%d threads may run, %d before", n, before)
	}
}
