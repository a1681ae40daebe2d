package metrics

import (
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// failovers turns the pool's records of incidents into histograms, at each scrape.
type failovers struct {
	cfg Config
	// since is when the agent started: what ended before is not counted.
	since time.Time

	mu     sync.Mutex
	seen   map[pool.IncidentID]bool
	total  prometheus.Counter
	phases map[string]prometheus.Histogram
}

// failoverBuckets are in seconds, around what a pool is set up for: one second to a minute.
var failoverBuckets = []float64{.1, .25, .5, 1, 2, 3, 4, 5, 6, 8, 10, 15, 30, 60, 300}

// phases of a failover: name and help.
var phases = [][2]string{
	{"holdfast_failover_detection_seconds", "From the last sign of a server until it was suspect or lost; for each server."},
	{"holdfast_failover_proof_seconds", "From there until it was proven harmless; for each server."},
	{"holdfast_failover_assignment_seconds", "From the proof, or the end of a VM that failed alone, until another server was told to start it; for each VM."},
	{"holdfast_failover_start_seconds", "From there until the VM ran; for each VM."},
	{"holdfast_failover_total_seconds", "For how long a VM was away, at most; for each VM."},
}

func newFailovers(cfg Config) *failovers {
	f := &failovers{cfg: cfg, since: cfg.Clock.Wall(), seen: map[pool.IncidentID]bool{}, phases: map[string]prometheus.Histogram{},
		total: prometheus.NewCounter(prometheus.CounterOpts{Name: "holdfast_incidents_total", Help: "Outages whose record this agent ended as the leader."})}
	for _, p := range phases {
		f.phases[p[0]] = prometheus.NewHistogram(prometheus.HistogramOpts{Name: p[0], Help: p[1], Buckets: failoverBuckets})
	}
	return f
}

// Describe implements prometheus.Collector.
func (f *failovers) Describe(ch chan<- *prometheus.Desc) {
	f.total.Describe(ch)
	for _, p := range phases {
		f.phases[p[0]].Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (f *failovers) Collect(ch chan<- prometheus.Metric) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if src := f.cfg.Source(); src != nil {
		f.count(src.Snapshot())
	}
	f.total.Collect(ch)
	for _, p := range phases {
		f.phases[p[0]].Collect(ch)
	}
}

// count observes the records that are new and ended by this agent.
func (f *failovers) count(snap *pool.Snapshot) {
	if snap == nil {
		return
	}
	for id := range f.seen {
		if !snap.Incidents.Has(id) {
			delete(f.seen, id)
		}
	}
	for _, i := range snap.Incidents.All() {
		if i.Open() || f.seen[i.ID] || i.Updated.Before(f.since) || strings.TrimPrefix(i.By, "leader ") != string(f.cfg.Server) {
			continue
		}
		f.seen[i.ID] = true
		f.total.Inc()
		f.observe(i)
	}
}

func (f *failovers) observe(i pool.Incident) {
	span := func(name string, from, to time.Time) {
		if !from.IsZero() && !to.IsZero() {
			f.phases[name].Observe(max(0, seconds(to.Sub(from))))
		}
	}
	fenced := map[pool.ServerID]time.Time{}
	for _, s := range i.Servers {
		noticed := s.Lost
		if noticed.IsZero() || !s.Suspected.IsZero() && s.Proof == pool.ProofPower && s.Suspected.Before(noticed) {
			noticed = s.Suspected
		}
		span(phases[0][0], s.LastSign, noticed)
		span(phases[1][0], noticed, s.Fenced)
		fenced[s.Server] = s.Fenced
	}
	for _, v := range i.VMs {
		if v.Recovery != pool.RecoveryRestarted {
			continue
		}
		from, ok := fenced[v.From]
		if !ok {
			from = v.Down
		}
		span(phases[2][0], from, v.Assigned)
		span(phases[3][0], v.Assigned, v.Started)
		f.phases[phases[4][0]].Observe(seconds(v.Downtime))
	}
}
