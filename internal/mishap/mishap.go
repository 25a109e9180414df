// Package mishap words what is said of a panic in logs and errors.
package mishap

import (
	"fmt"
	"runtime"
)

// Text tells of the value that was recovered without quoting it: what a library
// panics with may be a piece of the letter that it failed on. The runtime's own
// words have types and numbers in them, and no content.
func Text(recovered any) string {
	if r, ok := recovered.(runtime.Error); ok {
		return "panic: " + r.Error()
	}
	return fmt.Sprintf("panic with a %T", recovered)
}
