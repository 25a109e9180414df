package server

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/valyala/fasthttp"
)

// What is read and thrown away of a request that is too large, so that its sender
// gets to read the answer: a browser that is still sending when the connection
// closes shows nothing but that.
const (
	drainMost = 16 << 20 // bytes
	drainLong = 10 * time.Second
	drainIdle = 500 * time.Millisecond
)

// unread answers what could not be read as a request.
func unread(c *fasthttp.RequestCtx, err error) {
	var header *fasthttp.ErrSmallBuffer
	var network *net.OpError
	switch {
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		drain(c.Conn())
		c.SetStatusCode(http.StatusRequestEntityTooLarge)
		pageHeader(c.Response.Header.Set)
		var b bytes.Buffer
		_ = pageTemplates["fault"].Execute(&b, page{Title: tooLarge.Title, Fault: &tooLarge}) // it writes to memory
		c.SetBody(b.Bytes())
	case errors.As(err, &header):
		c.Error("the header of the request is too large\n", http.StatusRequestHeaderFieldsTooLarge)
	case errors.As(err, &network) && network.Timeout():
		c.Error("the request took too long\n", http.StatusRequestTimeout)
	default:
		c.Error("the request can't be read\n", http.StatusBadRequest)
	}
}

// drain reads until the other side pauses, waiting for an answer.
func drain(c net.Conn) {
	end := time.Now().Add(drainLong)
	b := make([]byte, 32<<10)
	for n := 0; n < drainMost && time.Now().Before(end); {
		_ = c.SetReadDeadline(time.Now().Add(drainIdle)) // a failure shows at once in Read
		k, err := c.Read(b)
		if n += k; err != nil {
			return
		}
	}
}
