//go:build !race

package pgp_test

// bigMessage is how large the messages are that must not take memory.
const bigMessage = 50 << 20
