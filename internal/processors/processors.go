// Package processors says how many processors the program has, and lets more of
// its threads run Go code than that.
package processors

import (
	"os"
	"runtime"
)

// beside is how many threads may run Go code beside one for each processor.
const beside = 3

// count is taken before anybody changes it: the runtime looks at the affinity
// mask and at the limits of a container.
var count = runtime.GOMAXPROCS(0)

// Count is how many processors the program had when it began, at least 1: how
// much that only computes is worth doing at a time.
func Count() int { return count }

// Oversubscribe lets some more threads run Go code than there are processors. A
// thread that waits within the kernel, for a disk's sync or while a write to a
// socket on the same machine runs the other side's half of TCP, keeps its place in
// the runtime until the runtime notices; with a place for each processor, as the
// runtime has it, a processor stands still meanwhile although work is there.
//
// It is for programs that serve, once at the start: from then on the runtime
// doesn't follow changes of a container's limits. Whoever sets GOMAXPROCS has the
// last word.
func Oversubscribe() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(count + beside)
	}
}
