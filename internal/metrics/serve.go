package metrics

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Check is one thing that must hold for the process to be of use.
type Check struct {
	Name string // such as "store"
	// Ok says what is wrong, for a person, without addresses; nil for nothing.
	Ok func(ctx context.Context) error
}

// Handler serves /metrics, /healthz (the process answers) and /readyz (every
// check holds; 503 and which doesn't, otherwise).
func (r *Registry) Handler(checks func() []Check) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(r.prom, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 2 * readTime}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, req *http.Request) { ready(w, req, checks()) })
	return mux
}

func ready(w http.ResponseWriter, req *http.Request, checks []Check) {
	ctx, cancel := context.WithTimeout(req.Context(), readTime)
	defer cancel()
	answer := struct {
		Ready  bool              `json:"ready"`
		Checks map[string]string `json:"checks"`
	}{true, map[string]string{}}
	for _, c := range checks {
		answer.Checks[c.Name] = "ok"
		if err := c.Ok(ctx); err != nil {
			answer.Ready, answer.Checks[c.Name] = false, err.Error()
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if !answer.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	json.NewEncoder(w).Encode(answer)
}

// Server is an HTTP server for the handler that a slow or greedy client can't
// hold up.
func (r *Registry) Server(checks func() []Check) *http.Server {
	return &http.Server{Handler: r.Handler(checks), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 8 << 10}
}
