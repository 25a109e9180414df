package store

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
)

// keys are what a store key gives by HKDF-SHA-256 (RFC 5869). The key is uniform
// already, so extraction has no salt.
type keys struct {
	prk  []byte
	page [32]byte // for the file's pages
	log  [32]byte // for its log's frames
	mac  [32]byte // for rows that carry trust
}

func deriveKeys(key [32]byte) (*keys, error) {
	prk, err := hkdf.Extract(sha256.New, key[:], nil)
	if err != nil {
		return nil, err
	}
	k := &keys{prk: prk}
	k.page = k.expand("letterlock store page v1")
	k.log = k.expand("letterlock store log v1")
	k.mac = k.expand("letterlock store mac v1")
	return k, nil
}

func (k *keys) expand(info string) (out [32]byte) {
	b, err := hkdf.Expand(sha256.New, k.prk, info, len(out))
	if err != nil {
		panic("deriving a store key: " + err.Error()) // only where FIPS mode refuses SHA-256
	}
	copy(out[:], b)
	return out
}

// Key implements Store.
func (k *keys) Key(purpose string) [32]byte {
	return k.expand("letterlock store key v1\x00" + purpose)
}

// MAC implements Store: HMAC-SHA-256 over purpose and fields, each after its
// length, so that no two rows give the same bytes.
func (k *keys) MAC(purpose string, fields ...[]byte) []byte {
	h := hmac.New(sha256.New, k.mac[:])
	var n [8]byte
	add := func(b []byte) {
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	add([]byte(purpose))
	for _, f := range fields {
		add(f)
	}
	return h.Sum(nil)
}

func (k *keys) wipe() {
	clear(k.prk)
	clear(k.page[:])
	clear(k.log[:])
	clear(k.mac[:])
}
