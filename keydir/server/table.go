package server

import (
	"bytes"
	"encoding/binary"
	"sync"
)

// table is everything that look-ups are answered from: in memory, by domain and
// hash, changed in place. Bodies lie outside of Go's heap, packed one behind the
// other, since a heap of a million certificates would need as much again for the
// garbage collector. It may be used concurrently.
type table struct {
	pages  pages
	shards [64]shard // by the hash's first byte
}

// shard is a part of the table.
type shard struct {
	mu     sync.RWMutex // guards what follows, and the records
	slots  []uint64     // open addressing: slot of a record, 0 if free
	used   int          // slots that are not free, removed ones too
	live   int          // records that are answered
	chunks [][]byte     // the records
	tail   int          // bytes used of the last chunk
	dead   int          // bytes of records that were removed or replaced
}

// A slot has the record's chunk in its upper 32 bits, counted from 1, and the
// offset in it in the lower ones. gone is that of a removed record.
const gone = ^uint64(0)

// chunkSize is how much memory a shard takes at a time; a record is shorter.
const chunkSize = 256 << 10

// A record is the domain's number (4 bytes), the hash (20), the length of the
// body (4), the body's tag (16), the body.
const (
	atHash   = 4
	atLength = 24
	atTag    = 28
	atBody   = 44
)

// entryKey names one answer.
type entryKey struct {
	domain uint32
	hash   hash
}

func (k entryKey) shard(t *table) *shard { return &t.shards[k.hash[0]&63] }

// place is where probing for the key begins. SHA-1 is random enough, and who
// chooses local parts to collide must be let in by the operator first.
func (k entryKey) place() uint64 {
	return binary.LittleEndian.Uint64(k.hash[1:9]) ^ uint64(k.domain)*0x9e3779b97f4a7c15
}

// get appends the body to dst; ok tells whether there is one.
func (t *table) get(k entryKey, dst []byte) (body []byte, tag [16]byte, ok bool) {
	s := k.shard(t)
	s.mu.RLock()
	defer s.mu.RUnlock()
	r, _ := s.find(k)
	if r == nil {
		return dst, tag, false
	}
	copy(tag[:], r[atTag:])
	return append(dst, r[atBody:]...), tag, true
}

// has tells whether there is a body, without copying it.
func (t *table) has(k entryKey) bool {
	s := k.shard(t)
	s.mu.RLock()
	defer s.mu.RUnlock()
	r, _ := s.find(k)
	return r != nil
}

// put makes body, at most MaxCertificate bytes, the answer.
func (t *table) put(k entryKey, body []byte, tag [16]byte) error {
	s := k.shard(t)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.makeRoom(t, atBody+len(body)); err != nil {
		return err
	}
	old, slot := s.find(k)
	if old != nil {
		s.dead += len(old)
		s.live--
	} else {
		slot = s.free(k)
		s.used++
	}
	s.slots[slot] = s.append(k, body, tag)
	s.live++
	return nil
}

// remove takes the answer away, if there is one.
func (t *table) remove(k entryKey) {
	s := k.shard(t)
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, slot := s.find(k); old != nil {
		s.slots[slot] = gone
		s.dead += len(old)
		s.live--
	}
}

// len is how many answers there are.
func (t *table) len() (n int) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.RLock()
		n += s.live
		s.mu.RUnlock()
	}
	return n
}

// each calls f for every answer, whose body it must not keep, until f fails.
// Changes wait while a shard is walked.
func (t *table) each(f func(k entryKey, body []byte) error) error {
	for i := range t.shards {
		if err := t.shards[i].each(f); err != nil {
			return err
		}
	}
	return nil
}

func (s *shard) each(f func(k entryKey, body []byte) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, v := range s.slots {
		if v == 0 || v == gone {
			continue
		}
		r := s.record(v)
		if err := f(keyOf(r), r[atBody:]); err != nil {
			return err
		}
	}
	return nil
}

// find is the record of a key and its slot, or nil.
func (s *shard) find(k entryKey) (record []byte, slot int) {
	if len(s.slots) == 0 {
		return nil, 0
	}
	mask := uint64(len(s.slots) - 1)
	for i := k.place() & mask; s.slots[i] != 0; i = (i + 1) & mask {
		if s.slots[i] == gone {
			continue
		}
		r := s.record(s.slots[i])
		if binary.LittleEndian.Uint32(r) == k.domain && bytes.Equal(r[atHash:atLength], k.hash[:]) {
			return r, int(i)
		}
	}
	return nil, 0
}

// free is a free slot for a key that isn't there.
func (s *shard) free(k entryKey) int {
	mask := uint64(len(s.slots) - 1)
	i := k.place() & mask
	for s.slots[i] != 0 {
		i = (i + 1) & mask
	}
	return int(i)
}

func (s *shard) record(slot uint64) []byte {
	r := s.chunks[slot>>32-1][uint32(slot):]
	return r[:atBody+int(binary.LittleEndian.Uint32(r[atLength:]))]
}

func keyOf(record []byte) entryKey {
	return entryKey{binary.LittleEndian.Uint32(record), hash(record[atHash:atLength])}
}

// append writes a record, for which there is room, and returns its slot.
func (s *shard) append(k entryKey, body []byte, tag [16]byte) uint64 {
	at := s.tail
	r := s.chunks[len(s.chunks)-1][at:]
	binary.LittleEndian.PutUint32(r, k.domain)
	copy(r[atHash:], k.hash[:])
	binary.LittleEndian.PutUint32(r[atLength:], uint32(len(body)))
	copy(r[atTag:], tag[:])
	copy(r[atBody:], body)
	s.tail += atBody + len(body)
	return uint64(len(s.chunks))<<32 | uint64(at)
}

// makeRoom sees to a free slot and n bytes in the last chunk. Where much is dead
// it writes the shard anew.
func (s *shard) makeRoom(t *table, n int) error {
	if s.dead > chunkSize && s.dead > len(s.chunks)*chunkSize/4 {
		if err := s.compact(t); err != nil {
			return err
		}
	}
	if 4*(s.used+1) > 3*len(s.slots) {
		s.rehash(max(16, 2*len(s.slots)))
	}
	if len(s.chunks) > 0 && s.tail+n <= chunkSize {
		return nil
	}
	c, err := t.pages.take()
	if err != nil {
		return err
	}
	s.chunks, s.tail = append(s.chunks, c), 0
	return nil
}

// rehash makes n slots, a power of two, of those that are used.
func (s *shard) rehash(n int) {
	old := s.slots
	if 2*s.live < len(old)/2 {
		n = max(16, len(old)) // most of it is gone
	}
	s.slots, s.used = make([]uint64, n), 0
	for _, v := range old {
		if v != 0 && v != gone {
			s.slots[s.free(keyOf(s.record(v)))] = v
			s.used++
		}
	}
}

// compact writes the live records into chunks of their own. After an error the
// shard is as it was.
func (s *shard) compact(t *table) error {
	next := &shard{slots: make([]uint64, len(s.slots))}
	for _, v := range s.slots {
		if v == 0 || v == gone {
			continue
		}
		r := s.record(v)
		if err := next.makeRoom(t, len(r)); err != nil {
			t.pages.give(next.chunks)
			return err
		}
		k := keyOf(r)
		next.slots[next.free(k)] = next.append(k, r[atBody:], [16]byte(r[atTag:atBody]))
		next.used++
		next.live++
	}
	t.pages.give(s.chunks)
	s.slots, s.used, s.live, s.chunks, s.tail, s.dead = next.slots, next.used, next.live, next.chunks, next.tail, 0
	return nil
}

// close gives the memory back. The table is empty then.
func (t *table) close() {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		t.pages.give(s.chunks)
		s.slots, s.used, s.live, s.chunks, s.tail, s.dead = nil, 0, 0, nil, 0, 0
		s.mu.Unlock()
	}
	t.pages.close()
}
