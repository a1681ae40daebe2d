package metrics

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-ha/holdfast/pkg/plan"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// state reads how the agent and its pool stand, at each scrape.
type state struct {
	cfg   Config
	descs map[string]*prometheus.Desc
}

// figures are what state exports: name, help, labels.
var figures = []struct {
	name, help string
	labels     []string
}{
	{"holdfast_build_info", "1; labels say which build of Holdfast runs.", []string{"version", "goversion"}},
	{"holdfast_leader", "1 if this agent leads the pool.", nil},
	{"holdfast_session", "1 if this server has a session: it may run protected VMs.", nil},
	{"holdfast_lease_margin_seconds", "Time left until this server stops its protected VMs, unless its session is renewed. Healthy: P - T/5 or more.", nil},
	{"holdfast_lease_ttl_seconds", "T, the life-time of sessions.", nil},
	{"holdfast_guard_up", "1 if this server's guard answered last.", nil},
	{"holdfast_etcd_reachable", "1 if etcd answered this agent lately.", nil},
	{"holdfast_revision", "etcd's revision that this agent has seen.", nil},
	{"holdfast_ha", "1 if the pool's HA is on and not frozen.", nil},
	{"holdfast_servers", "Servers of the pool, by state; one server may be in several.", []string{"state"}},
	{"holdfast_servers_registered", "Servers of the pool.", nil},
	{"holdfast_vms", "VMs of the pool, by state.", []string{"state"}},
	{"holdfast_vms_protected", "VMs with effective HA.", nil},
	{"holdfast_vms_here", "VMs that this server owns.", nil},
	{"holdfast_alerts", "Open alerts, by kind.", []string{"kind"}},
	{"holdfast_operations_running", "Operations under way, by kind.", []string{"kind"}},
	{"holdfast_incidents_open", "Outages in which a VM is not settled yet.", nil},
	{"holdfast_keys_unreadable", "Keys in etcd whose values cannot be read.", nil},
}

func newState(cfg Config) *state {
	s := &state{cfg: cfg, descs: map[string]*prometheus.Desc{}}
	for _, f := range figures {
		s.descs[f.name] = prometheus.NewDesc(f.name, f.help, f.labels, nil)
	}
	return s
}

// Describe implements prometheus.Collector.
func (s *state) Describe(ch chan<- *prometheus.Desc) {
	for _, f := range figures {
		ch <- s.descs[f.name]
	}
}

// Collect implements prometheus.Collector.
func (s *state) Collect(ch chan<- prometheus.Metric) {
	gauge := func(name string, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(s.descs[name], prometheus.GaugeValue, v, labels...)
	}
	gauge("holdfast_build_info", 1, s.cfg.Version, runtime.Version())
	src := s.cfg.Source()
	if src == nil {
		return
	}
	stop, session := src.StopTime()
	gauge("holdfast_leader", flag(src.Leads()))
	gauge("holdfast_session", flag(session))
	if session {
		gauge("holdfast_lease_margin_seconds", seconds(stop.Sub(s.cfg.Clock.Now())))
	}
	gauge("holdfast_guard_up", flag(src.GuardAnswers()))
	gauge("holdfast_etcd_reachable", flag(src.Reachable()))
	if snap := src.Snapshot(); snap != nil && snap.Revision != 0 {
		s.pool(snap, gauge)
	}
}

// pool exports what the snapshot says.
func (s *state) pool(snap *pool.Snapshot, gauge func(name string, v float64, labels ...string)) {
	gauge("holdfast_lease_ttl_seconds", seconds(snap.Config.LeaseTTL))
	gauge("holdfast_revision", float64(snap.Revision))
	gauge("holdfast_ha", flag(snap.Config.HA && !snap.Config.Frozen))
	gauge("holdfast_servers_registered", float64(snap.Servers.Len()))
	gauge("holdfast_keys_unreadable", float64(snap.Corrupt.Len()))
	view := plan.NewView(snap)
	servers, vms := map[string]int{}, map[string]int{}
	for id := range snap.Servers.All() {
		states, _ := view.Server(id)
		for _, st := range states {
			servers[st.String()]++
		}
	}
	protected, here := 0, 0
	for id, vm := range snap.VMs.All() {
		st, _ := view.VM(id)
		vms[st.String()]++
		if snap.Protected(vm) {
			protected++
		}
		if c, ok := snap.Claims.Get(id); ok && c.Server == s.cfg.Server {
			here++
		}
	}
	gauge("holdfast_vms_protected", float64(protected))
	gauge("holdfast_vms_here", float64(here))
	alerts, operations, open := map[string]int{}, map[string]int{}, 0
	for _, a := range snap.Alerts.All() {
		alerts[string(a.Kind)]++
	}
	for _, op := range snap.Operations.All() {
		if op.Outcome == pool.OutcomeRunning {
			operations[op.Kind.String()]++
		}
	}
	for _, i := range snap.Incidents.All() {
		if i.Open() {
			open++
		}
	}
	gauge("holdfast_incidents_open", float64(open))
	for name, by := range map[string]map[string]int{"holdfast_servers": servers, "holdfast_vms": vms, "holdfast_alerts": alerts, "holdfast_operations_running": operations} {
		for label, n := range by {
			gauge(name, float64(n), label)
		}
	}
}

func flag(on bool) float64 {
	if on {
		return 1
	}
	return 0
}
