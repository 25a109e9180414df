package server

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttpadaptor"
)

// Serve answers the connections of l until ctx ends, and then waits for the
// requests under way, not longer than grace. Look-ups go past net/http, which
// was measured to answer them at three fifths of this rate; everything else goes
// to other, or to h where that is nil. l may have TLS.
func (h *Handler) Serve(ctx context.Context, l net.Listener, other http.Handler, grace time.Duration) error {
	if other == nil {
		other = h
	}
	rest := fasthttpadaptor.NewFastHTTPHandler(other)
	s := &fasthttp.Server{
		Handler: func(c *fasthttp.RequestCtx) {
			if t := targetOf(c); isLookup(t.path) {
				h.serveFast(c, t)
			} else {
				rest(c)
			}
		},
		NoDefaultServerHeader: true,
		// Slow and large requests cost little: a whole request within ReadTimeout,
		// its header in one buffer.
		ReadTimeout:        h.patience,
		WriteTimeout:       2 * h.patience,
		IdleTimeout:        time.Minute,
		ReadBufferSize:     8 << 10,
		MaxRequestBodySize: maxUpload,
		Concurrency:        maxConnections,
		ConnState:          new(connections).state,
		ErrorHandler:       unread,
		// Nothing of what people upload goes to a file, as parsing it there would do.
		DisablePreParseMultipartForm: true,
		CloseOnShutdown:              true,
		Logger:                       httpLog{h.log},
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		limit, cancel := context.WithTimeout(context.Background(), grace)
		defer cancel()
		stopped <- s.ShutdownWithContext(limit)
	})
	err := s.Serve(l)
	if !stop() {
		<-stopped // Serve ends before its requests do
		return nil
	}
	return err
}

// isLookup tells a request for a certificate.
func isLookup(path []byte) bool {
	return bytes.HasPrefix(path, []byte(root)) || bytes.HasPrefix(path, []byte(vksRoot+"by-")) || string(path) == "/pks/lookup"
}

// maxUpload is the longest body of a request, in bytes: a certificate in armor,
// percent-encoded in a form.
const maxUpload = 4 * MaxCertificate

// target is what was asked for, the path as it was written. It is the request's.
type target struct{ host, path, query []byte }

// targetOf reads a request's target. In its usual form (RFC 9112, Section 3.2.1)
// nothing needs to be taken apart.
func targetOf(c *fasthttp.RequestCtx) (t target) {
	uri := c.Request.Header.RequestURI()
	if len(uri) == 0 || uri[0] != '/' || bytes.IndexByte(uri, '#') >= 0 {
		return target{c.Host(), c.URI().PathOriginal(), c.URI().QueryString()}
	}
	t.host = c.Request.Header.Host()
	t.path, t.query, _ = bytes.Cut(uri, []byte("?"))
	return t
}

// remote is who asks, "" on loopback, where there is no limit.
func remote(c *fasthttp.RequestCtx) string {
	a := c.RemoteAddr()
	if tcp, ok := a.(*net.TCPAddr); ok && tcp.IP.IsLoopback() {
		return ""
	}
	return a.String()
}

// method gives the two usual ones without an allocation.
func method(c *fasthttp.RequestCtx) string {
	switch {
	case c.IsGet():
		return http.MethodGet
	case c.IsHead():
		return http.MethodHead
	}
	return string(c.Method())
}

// serveFast answers a look-up with few allocations: the body's buffer is one that
// the connections share.
func (h *Handler) serveFast(c *fasthttp.RequestCtx, t target) {
	q := request{method: method(c), host: string(t.host), path: string(t.path), query: string(t.query), remote: remote(c)}
	if tag := c.Request.Header.Peek("If-None-Match"); len(tag) > 0 {
		for _, f := range c.Request.Header.PeekAll("If-None-Match") {
			q.ifNoneMatch = append(q.ifNoneMatch, string(f))
		}
	}
	a := h.answer(c, q, c.Response.SwapBody(nil)[:0])
	header := &c.Response.Header
	set := func(name, value string) {
		if value != "" {
			header.Set(name, value)
		}
	}
	header.Set("Access-Control-Allow-Origin", "*")
	header.Set("X-Content-Type-Options", "nosniff")
	set("Cache-Control", a.cache)
	set("ETag", a.etag)
	set("Allow", a.allow)
	set("Retry-After", a.retry)
	set("Content-Disposition", a.disposition)
	header.SetContentType(a.contentType)
	header.SetNoDefaultContentType(a.contentType == "")
	c.SetStatusCode(a.status)
	c.Response.SwapBody(a.body)
	if c.IsHead() {
		c.Response.SkipBody = true
		header.SetContentLength(len(a.body))
	}
}

// httpLog takes what the engine logs: only its first line, at debug level, since
// it tells of clients.
type httpLog struct{ log *slog.Logger }

// Printf implements fasthttp.Logger.
func (l httpLog) Printf(format string, args ...any) {
	l.log.Debug("keydir: connection", "err", strings.SplitN(strings.TrimSpace(fmt.Sprintf(format, args...)), "\n", 2)[0])
}
