package metrics_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/meter"
	"letterlock.org/letterlock/internal/metrics"
)

func get(t *testing.T, r *metrics.Registry, path string, checks ...metrics.Check) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	r.Handler(func() []metrics.Check { return checks }).ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w.Code, w.Body.String()
}

func TestFiguresAreServed(t *testing.T) {
	r := metrics.New("v1")
	r.Count(meter.Submissions, "sent")
	r.Count(meter.Submissions, "sent")
	r.Count(meter.Lookups, "found", "wkd-direct")
	r.Took(meter.Protect, 3*time.Millisecond)
	r.Figures(metrics.Figure{Name: "audit_lag_seconds", Help: "x", Read: func() float64 { return 7 }})
	r.Queue([]string{"waiting", "held"}, func(context.Context) (metrics.States, error) {
		return metrics.States{"waiting": {Entries: 3, Age: time.Minute}, "strange@example.org": {Entries: 1}}, nil
	})
	code, text := get(t, r, "/metrics")
	if code != 200 {
		t.Fatal(code)
	}
	for _, want := range []string{`letterlock_submissions_total{outcome="sent"} 2`, `letterlock_submissions_total{outcome="queued"} 0`,
		`letterlock_lookups_total{outcome="found",source="wkd-direct"} 1`, `letterlock_protect_seconds_bucket{le="0.005"} 1`, `letterlock_protect_seconds_bucket{le="0.0025"} 0`,
		`letterlock_audit_lag_seconds 7`, `letterlock_queue_entries{state="waiting"} 3`, `letterlock_queue_oldest_seconds{state="waiting"} 60`,
		`letterlock_queue_entries{state="held"} 0`, `letterlock_info{version="v1"} 1`, "go_gc_duration_seconds", "process_resident_memory_bytes"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(text, "@") {
		t.Error("an address is in the figures")
	}
}

func TestLabelsAreClasses(t *testing.T) {
	r := metrics.New("v1")
	r.Count(meter.Submissions, "550 no such user bob@example.org")
	r.Count(meter.Lookups, "found", "https://bob.example.org")
	r.Count(meter.Lookups)
	r.Count("no-such-counter", "bob")
	_, text := get(t, r, "/metrics")
	if strings.Contains(text, "bob") {
		t.Error("what a stranger wrote became a label")
	}
	for _, want := range []string{`letterlock_submissions_total{outcome="other"} 1`, `letterlock_lookups_total{outcome="found",source="other"} 1`, `letterlock_lookups_total{outcome="other",source="other"} 1`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
}

func TestQueueThatCannotBeReadIsMissing(t *testing.T) {
	r := metrics.New("v1")
	r.Queue([]string{"waiting"}, func(context.Context) (metrics.States, error) { return nil, errors.New("locked") })
	if code, text := get(t, r, "/metrics"); code != 200 || strings.Contains(text, "letterlock_queue_entries{") {
		t.Errorf("%d, or a depth that nobody knows", code)
	}
}

func TestHealth(t *testing.T) {
	r := metrics.New("v1")
	good := metrics.Check{Name: "store", Ok: func(context.Context) error { return nil }}
	bad := metrics.Check{Name: "upstream", Ok: func(context.Context) error { return errors.New("no server answered") }}
	for name, tt := range map[string]struct {
		path   string
		checks []metrics.Check
		code   int
		text   string
	}{
		"alive though not ready": {"/healthz", []metrics.Check{bad}, 200, "ok"},
		"ready":                  {"/readyz", []metrics.Check{good}, 200, `{"ready":true,"checks":{"store":"ok"}}`},
		"one failing check":      {"/readyz", []metrics.Check{good, bad}, 503, `{"ready":false,"checks":{"store":"ok","upstream":"no server answered"}}`},
		"nothing else is served": {"/debug/pprof/", nil, 404, ""},
		"the root tells nothing": {"/", nil, 404, ""},
	} {
		t.Run(name, func(t *testing.T) {
			code, text := get(t, r, tt.path, tt.checks...)
			if code != tt.code || !strings.Contains(text, tt.text) {
				t.Errorf("got %d %s", code, text)
			}
		})
	}
}
