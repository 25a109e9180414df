// Package metrics serves figures to Prometheus and says how healthy the process
// is.
//
// A [Registry] takes the figures that libraries tell by [meter.Meter], and reads
// others when it is asked. What it promises: labels are classes from a fixed
// list, whatever it is given; no address, no name from the network and no text of
// an error ever becomes one.
package metrics

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"letterlock.org/letterlock/internal/meter"
)

// Registry is a meter.Meter. It is safe for concurrent use.
type Registry struct {
	prom     *prometheus.Registry
	counters map[meter.Counter]*prometheus.CounterVec
	timers   map[meter.Timer]prometheus.Histogram
}

// label is a label of a counter and what it may be; anything else is "other".
type label struct {
	name    string
	classes []string
}

var outcome = []string{"sent", "queued", "held", "refused", "deferred", "unknown", "repeated", "upstream-refused", "failed", "dry-run"}

// counters are the counters with their labels in the order of Count's classes.
var counters = map[meter.Counter]struct {
	help   string
	labels []label
}{
	meter.Submissions:   {"Messages that a client handed us, by what came of them.", []label{{"outcome", outcome}}},
	meter.QueueAttempts: {"Attempts at entries of the queue, by their state after.", []label{{"outcome", []string{"sent", "waiting", "held", "failed", "unknown", "sending"}}}},
	meter.Lookups: {"Certificates looked for when sending.", []label{
		{"outcome", []string{"found", "absent", "no-directory", "unavailable", "conflict", "error"}},
		{"source", []string{"own", "pinned", "stored", "import", "accepted", "autocrypt", "wkd", "wkd-advanced", "wkd-direct", "wkd-override", "vks", "hkp", "dane", "ldap", "none"}}}},
	meter.UpstreamFaults: {"Mail servers that could not be used.", []label{{"kind", []string{"connect", "tls", "certificate", "auth", "timeout", "lost", "refused"}}}},
	meter.Logins:         {"Logins of mail programs.", []label{{"outcome", []string{"ok", "refused", "throttled", "failed"}}}},
}

var timers = map[meter.Timer]string{
	meter.Protect: "Time to encrypt and sign one copy.",
	meter.Open:    "Time to decrypt and verify one message.",
	meter.Accept:  "Time from the end of a message to our answer.",
}

// New makes a Registry with figures of the process and of the Go runtime.
func New(version string) *Registry {
	r := &Registry{prom: prometheus.NewRegistry(), counters: map[meter.Counter]*prometheus.CounterVec{},
		timers: map[meter.Timer]prometheus.Histogram{}}
	r.prom.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: "letterlock_info", Help: "The version that runs.", ConstLabels: prometheus.Labels{"version": version}})
	info.Set(1)
	r.prom.MustRegister(info)
	for name, c := range counters {
		var labels []string
		for _, l := range c.labels {
			labels = append(labels, l.name)
		}
		r.counters[name] = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "letterlock_" + string(name) + "_total", Help: c.help}, labels)
		r.prom.MustRegister(r.counters[name])
		if len(c.labels) == 1 { // a rate needs a zero to begin with
			for _, class := range c.labels[0].classes {
				r.counters[name].WithLabelValues(class)
			}
		}
	}
	for name, help := range timers {
		r.timers[name] = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "letterlock_" + string(name) + "_seconds", Help: help,
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}})
		r.prom.MustRegister(r.timers[name])
	}
	return r
}

// Count implements meter.Meter.
func (r *Registry) Count(c meter.Counter, classes ...string) {
	known := counters[c].labels
	values := make([]string, len(known))
	for i, l := range known {
		values[i] = "other"
		if i < len(classes) && slices.Contains(l.classes, classes[i]) {
			values[i] = classes[i]
		}
	}
	if v := r.counters[c]; v != nil {
		v.WithLabelValues(values...).Inc()
	}
}

// Took implements meter.Meter.
func (r *Registry) Took(t meter.Timer, d time.Duration) {
	if h := r.timers[t]; h != nil {
		h.Observe(d.Seconds())
	}
}
