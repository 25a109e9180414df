package smtpd

import "sync"

// buffers are 64 KiB each, for copying messages. What is given back holds
// pieces of mail until it is used again, as any freed memory does.
var buffers = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}
