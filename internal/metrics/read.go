package metrics

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// readTime bounds reading figures for one scrape.
const readTime = 5 * time.Second

// States is how much there is in each state of something, and how old the
// oldest is.
type States map[string]struct {
	Entries int
	Age     time.Duration
}

// Figure is one number that is read when it is asked for.
type Figure struct {
	Name, Help string // Name without the prefix "letterlock_"
	Counter    bool   // it only grows
	Read       func() float64
}

// Figures registers figures that are read at each scrape.
func (r *Registry) Figures(fs ...Figure) {
	for _, f := range fs {
		name := "letterlock_" + f.Name
		if f.Counter {
			r.prom.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: f.Help}, f.Read))
		} else {
			r.prom.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: f.Help}, f.Read))
		}
	}
}

// Queue registers the depth of the queue. read is called at each scrape, by one
// at a time; states other than the known ones are left out. What can't be read
// is missing from the scrape, not zero.
func (r *Registry) Queue(known []string, read func(context.Context) (States, error)) {
	r.prom.MustRegister(&queueCollector{known: known, read: read,
		entries: prometheus.NewDesc("letterlock_queue_entries", "Entries of the queue, by state.", []string{"state"}, nil),
		age:     prometheus.NewDesc("letterlock_queue_oldest_seconds", "Age of the oldest entry, by state.", []string{"state"}, nil)})
}

type queueCollector struct {
	mu           sync.Mutex // one read at a time
	known        []string
	read         func(context.Context) (States, error)
	entries, age *prometheus.Desc
}

func (q *queueCollector) Describe(ch chan<- *prometheus.Desc) { ch <- q.entries; ch <- q.age }

func (q *queueCollector) Collect(ch chan<- prometheus.Metric) {
	q.mu.Lock()
	defer q.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), readTime)
	defer cancel()
	states, err := q.read(ctx)
	if err != nil {
		return
	}
	for _, s := range slices.Sorted(slices.Values(q.known)) {
		d := states[s]
		ch <- prometheus.MustNewConstMetric(q.entries, prometheus.GaugeValue, float64(d.Entries), s)
		ch <- prometheus.MustNewConstMetric(q.age, prometheus.GaugeValue, d.Age.Seconds(), s)
	}
}
