package wholefile

import "time"

// Patience sets how long a folder's lock is waited for; call what it gives to undo that.
func Patience(d time.Duration) func() {
	old := patience
	patience = d
	return func() { patience = old }
}
