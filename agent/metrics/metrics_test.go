package metrics

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

type agent struct {
	snap *pool.Snapshot
	stop pool.Instant
}

func (a *agent) Snapshot() *pool.Snapshot       { return a.snap }
func (a *agent) StopTime() (pool.Instant, bool) { return a.stop, a.stop != 0 }
func (a *agent) GuardAnswers() bool             { return true }
func (a *agent) Leads() bool                    { return true }
func (a *agent) Reachable() bool                { return true }

func of(a *agent) *Metrics {
	return New(Config{Server: "s1", Version: "v1.2.3", Clock: clock.Real(), Source: func() Source { return a }})
}

// scrape returns what Prometheus would get.
func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- m.serveOn(ctx, listener, nil, slog.New(slog.DiscardHandler)) }()
	defer func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}()
	resp, err := http.Get("http://" + listener.Addr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status, err)
	}
	return string(body)
}

func want(t *testing.T, got string, lines ...string) {
	t.Helper()
	for _, l := range lines {
		if !strings.Contains(got, "\n"+l) {
			t.Errorf("no line %q in\n%s", l, got)
		}
	}
}

// troubled is a pool of three, of which s2 was fenced; the record of that was ended by s1.
func troubled(now time.Time) *pool.Snapshot {
	cfg := pool.DefaultConfig("p", "life")
	cfg.HA = true
	vm := func(id pool.VMID, ha bool) pool.VM {
		v := pool.DefaultVM(id)
		v.MemoryBytes, v.CPUs, v.HA, v.Desired = 1<<30, 1, ha, pool.DesiredRunning
		return v
	}
	lost := now.Add(time.Minute)
	return &pool.Snapshot{
		Revision: 77, Config: cfg,
		Servers: pool.NewTable(map[pool.ServerID]pool.Server{"s1": {ID: "s1"}, "s2": {ID: "s2"}, "s3": {ID: "s3"}}),
		Members: pool.NewTable(map[pool.ServerID]pool.Member{"s1": {Server: "s1", Session: 3, MemoryBytes: 8 << 30, CPUs: 4}, "s3": {Server: "s3", Session: 4}}),
		VMs:     pool.NewTable(map[pool.VMID]pool.VM{"a": vm("a", true), "b": vm("b", false)}),
		Claims: pool.NewTable(map[pool.VMID]pool.Claim{"a": {VM: "a", Server: "s1", Session: 3, Epoch: 2, Phase: pool.PhaseHeld},
			"b": {VM: "b", Server: "s2", Session: 2, Epoch: 1, Phase: pool.PhaseHeld}}),
		States:     pool.NewTable(map[pool.VMID]pool.VMState{"a": {VM: "a", Server: "s1", Epoch: 2, State: pool.RunRunning}}),
		Alerts:     pool.NewTable(map[pool.AlertID]pool.Alert{"x": {ID: "x", Kind: "SERVER_LOST", Server: "s2"}}),
		Operations: pool.NewTable(map[pool.OperationID]pool.Operation{"o": {ID: "o", Kind: pool.OperationStart, Outcome: pool.OutcomeRunning}}),
		Incidents: pool.NewTable(map[pool.IncidentID]pool.Incident{
			"1": {ID: "1", Began: lost, Ended: lost.Add(9 * time.Second), Updated: lost.Add(10 * time.Second), By: "leader s1",
				Servers: []pool.IncidentServer{{Server: "s2", LastSign: lost.Add(-5 * time.Second), Lost: lost, Fenced: lost.Add(600 * time.Millisecond), Proof: pool.ProofGuard}},
				VMs: []pool.IncidentVM{{VM: "a", From: "s2", To: "s1", Recovery: pool.RecoveryRestarted, Assigned: lost.Add(time.Second), Started: lost.Add(1500 * time.Millisecond), Downtime: 6500 * time.Millisecond},
					{VM: "b", From: "s2", Recovery: pool.RecoveryLeft}}},
			"2": {ID: "2", Began: lost, Ended: lost, Updated: lost, By: "leader s3", VMs: []pool.IncidentVM{{VM: "a", Recovery: pool.RecoveryRestarted, Downtime: time.Hour}}},
			"3": {ID: "3", Began: lost, Updated: lost, By: "leader s1"},
		}),
	}
}

func TestAScrapeShowsHowAgentAndPoolStand(t *testing.T) {
	a := &agent{snap: troubled(clock.Real().Wall()), stop: clock.Real().Now().Add(time.Hour)}
	got := scrape(t, of(a))
	want(t, got, `holdfast_build_info{goversion="`, "holdfast_leader 1", "holdfast_session 1", "holdfast_lease_margin_seconds 3", "holdfast_lease_ttl_seconds 5",
		"holdfast_guard_up 1", "holdfast_etcd_reachable 1", "holdfast_revision 77", "holdfast_ha 1", "holdfast_servers_registered 3", "holdfast_vms_protected 1",
		"holdfast_vms_here 1", `holdfast_vms{state="running"} 1`, `holdfast_vms{state="lost"} 1`, `holdfast_alerts{kind="SERVER_LOST"} 1`,
		`holdfast_operations_running{kind="start"} 1`, "holdfast_incidents_open 1", "holdfast_keys_unreadable 0")
}

func TestAFailoversPhasesAreCountedOnceByTheLeaderThatEndedIt(t *testing.T) {
	a := &agent{snap: troubled(clock.Real().Wall())}
	m := of(a)
	scrape(t, m)
	want(t, scrape(t, m), "holdfast_incidents_total 1",
		"holdfast_failover_detection_seconds_sum 5", "holdfast_failover_detection_seconds_count 1", "holdfast_failover_proof_seconds_sum 0.6",
		"holdfast_failover_assignment_seconds_sum 0.4", "holdfast_failover_start_seconds_sum 0.5", "holdfast_failover_total_seconds_sum 6.5", "holdfast_failover_total_seconds_count 1")
}

func TestWhatEndedBeforeTheAgentStartedIsNotCountedAgain(t *testing.T) {
	want(t, scrape(t, of(&agent{snap: troubled(clock.Real().Wall().Add(-time.Hour))})), "holdfast_incidents_total 0", "holdfast_failover_total_seconds_count 0")
}

func TestAnAgentThatKnowsNothingYetIsScrapedAllTheSame(t *testing.T) {
	want(t, scrape(t, of(&agent{snap: &pool.Snapshot{}})), "holdfast_session 0", "holdfast_incidents_total 0")
	m := New(Config{Server: "s1", Clock: clock.Real(), Source: func() Source { return nil }})
	want(t, scrape(t, m), "holdfast_build_info{")
}

func TestCallsAreCountedWithTheirFinalCode(t *testing.T) {
	m := of(&agent{snap: &pool.Snapshot{}})
	info := &grpc.UnaryServerInfo{FullMethod: "/holdfast.v1.VMService/StartVM"}
	for _, err := range []error{nil, status.Error(codes.NotFound, "no such VM"), nil} {
		if _, got := m.unary(t.Context(), nil, info, func(context.Context, any) (any, error) { return nil, err }); !errors.Is(got, err) {
			t.Error(got)
		}
	}
	if err := m.stream(nil, nil, &grpc.StreamServerInfo{FullMethod: "/holdfast.v1.PoolService/WatchPool"}, func(any, grpc.ServerStream) error { return context.Canceled }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	want(t, scrape(t, m), `holdfast_grpc_requests_total{code="OK",method="/holdfast.v1.VMService/StartVM"} 2`,
		`holdfast_grpc_requests_total{code="NotFound",method="/holdfast.v1.VMService/StartVM"} 1`, `holdfast_grpc_request_seconds_count{method="/holdfast.v1.VMService/StartVM"} 3`,
		`holdfast_grpc_requests_total{code="Unknown",method="/holdfast.v1.PoolService/WatchPool"} 1`, "holdfast_grpc_in_flight 0")
}

type deadEtcd struct {
	kv.Store
	kv.Leases
}

func (deadEtcd) Get(context.Context, string) (kv.KeyValue, bool, error) {
	return kv.KeyValue{}, false, pool.ErrUnavailable
}
func (deadEtcd) KeepAlive(context.Context, kv.LeaseID, int) error { return nil }

func TestRequestsToEtcdAreMeasuredAndTheirErrorsCounted(t *testing.T) {
	m := of(&agent{snap: &pool.Snapshot{}})
	if _, _, err := m.Store(deadEtcd{}).Get(t.Context(), "k"); !errors.Is(err, pool.ErrUnavailable) {
		t.Error(err)
	}
	if err := m.Leases(deadEtcd{}).KeepAlive(t.Context(), 1, 0); err != nil {
		t.Error(err)
	}
	want(t, scrape(t, m), `holdfast_etcd_request_seconds_count{request="get"} 1`, `holdfast_etcd_errors_total{request="get"} 1`,
		`holdfast_etcd_request_seconds_count{request="keepalive"} 1`, `holdfast_etcd_errors_total{request="keepalive"} 0`)
}

func TestNamesAndHelpFollowPrometheusHabits(t *testing.T) {
	problems, err := testutil.GatherAndLint(of(&agent{snap: troubled(clock.Real().Wall())}).registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "holdfast_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// exported lists the names of Holdfast's own metrics in a scrape.
func exported(t *testing.T) []string {
	t.Helper()
	m := of(&agent{snap: troubled(clock.Real().Wall()), stop: 1})
	_, _ = m.unary(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: "/x/Y"}, func(context.Context, any) (any, error) { return nil, nil })
	_, _, _ = m.Store(deadEtcd{}).Get(t.Context(), "k")
	var names []string
	for _, found := range regexp.MustCompile(`(?m)^# TYPE (holdfast_\w+)`).FindAllStringSubmatch(scrape(t, m), -1) {
		names = append(names, found[1])
	}
	slices.Sort(names)
	return names
}

func TestTheManualListsExactlyWhatIsExported(t *testing.T) {
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, row := range regexp.MustCompile("(?m)^\\| `(holdfast_\\w+)").FindAllStringSubmatch(string(text), -1) {
		listed = append(listed, row[1])
	}
	slices.Sort(listed)
	if names := exported(t); !slices.Equal(listed, names) {
		t.Errorf("docs/operations.md lists\n%v\nexported are\n%v", listed, names)
	}
}
