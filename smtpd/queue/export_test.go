package queue

import "context"

// Pack writes entries as the daybook does, and Unpack reads them.
func Pack(es ...Entry) []byte {
	c := compact{words: map[string]int{}}
	for i := range es {
		c.entry(&es[i])
	}
	return c.b
}

// Unpack reads n entries.
func Unpack(b []byte, n int) (es []Entry, left int, err error) {
	u := uncompact{b: b}
	for range n {
		es = append(es, u.entry())
	}
	return es, len(u.b), u.err
}

// Tidy is the chore that forgets what is old.
func (q *Queue) Tidy(ctx context.Context) error {
	_, err := q.tidy(ctx)
	return err
}
