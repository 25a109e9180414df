package pgp

import "errors"

// Errors that callers decide on.
var (
	ErrExpired   = errors.New("certificate expired")
	ErrRevoked   = errors.New("certificate revoked")
	ErrWeak      = errors.New("certificate uses an algorithm that is no longer safe")
	ErrUnusable  = errors.New("certificate has no usable encryption key")
	ErrSecretKey = errors.New("secret key where a certificate belongs")
	ErrMalformed = errors.New("malformed OpenPGP data")
	ErrLocked    = errors.New("secret key is locked")
)
