package server

import "sync"

// pages hands out chunks of memory. Chunks that were given back are used again.
type pages struct {
	mu   sync.Mutex // guards free
	free [][]byte
}

func (p *pages) take() ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.free); n > 0 {
		c := p.free[n-1]
		p.free = p.free[:n-1]
		return c, nil
	}
	return mapMemory(chunkSize)
}

func (p *pages) give(chunks [][]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, chunks...)
}

// close frees what was given back.
func (p *pages) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.free {
		unmapMemory(c)
	}
	p.free = nil
}
