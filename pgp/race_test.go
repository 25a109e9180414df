//go:build race

package pgp_test

// bigMessage is how large the messages are that must not take memory; the race
// detector makes each byte ten times dearer.
const bigMessage = 16 << 20
