package ui

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/muesli/termenv"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/holdfast-ha/holdfast/console/cli/fakepool"
	"github.com/holdfast-ha/holdfast/console/feed"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// bench is a Model with a pool that answers from canned replies, in virtual time.
type bench struct {
	t       testing.TB
	m       *Model
	merger  feed.Merger
	rev     int64
	link    feed.Link
	now     time.Time
	sent    []Send
	copied  []string
	others  []Effect
	replies map[string]func(proto.Message) (proto.Message, error)
	held    bool // answers are held back
	ids     int
}

func newBench(t testing.TB, snap *pb.Snapshot, w, h int) *bench {
	b := &bench{t: t, now: fakepool.Now, rev: snap.GetPool().GetRevision(), replies: cannedReplies()}
	b.m = New(Options{
		Ports: Ports{RequestID: func() string { b.ids++; return fmt.Sprintf("r%d", b.ids) }, Contexts: func() []string { return []string{"prod-a", "prod-b"} }},
		Look:  Look{Theme: "default", Profile: termenv.Ascii, ASCII: true}, Pool: Pool{Name: "prod-a", Label: "PROD"}, Width: w, Height: h, Start: b.now,
	})
	b.snapshot(snap)
	b.figures(snap, 40)
	return b
}

// figures tells n measurements, the last of them just now.
func (b *bench) figures(snap *pb.Snapshot, n int) {
	var all []feed.Figures
	for i := range n {
		all = append(all, feed.Figures{At: b.now.Add(-time.Duration(n-1-i) * figuresEvery), Message: fakepool.Figures(snap, i)})
	}
	b.news(feed.Update{View: b.merger.View(), Link: b.link, Figures: all})
}

// cannedReplies answer the questions of previews.
func cannedReplies() map[string]func(proto.Message) (proto.Message, error) {
	return map[string]func(proto.Message) (proto.Message, error){
		"WhoAmI": func(proto.Message) (proto.Message, error) {
			return &pb.WhoAmIResponse{Name: "kim", Role: "admin", Permitted: rpc.Permitted("admin")}, nil
		},
		"GetCapacity": func(proto.Message) (proto.Message, error) {
			return &pb.GetCapacityResponse{Capacity: cannedCapacity()}, nil
		},
		"PlanMigration": func(req proto.Message) (proto.Message, error) {
			r, _ := req.(*pb.PlanMigrationRequest)
			out := &pb.PlanMigrationResponse{Revision: 8812, N1Before: "OK"}
			for _, id := range r.GetVms() {
				out.Vms = append(out.Vms, &pb.PlannedMigration{Vm: id, Source: "hv-02", Candidates: []*pb.MoveCandidate{
					{Server: "hv-05", Ok: true, Recommended: true, MemoryFreeAfter: 33 << 30, N1After: "OK"},
					{Server: "hv-04", Ok: true, MemoryFreeAfter: 4 << 30, N1After: "AT_RISK"},
					{Server: "hv-01", Reasons: []*pb.ServerReason{{Code: "INBOUND_LOCK", Text: "inbound lock by kim, 2h ago: SAN work"}}},
					{Server: "hv-03", Reasons: []*pb.ServerReason{{Code: "CPU", Text: "CPU lacks avx512f"}, {Code: "MEMORY", Text: "4 GiB short"}, {Code: "BRIDGE", Text: "no bridge br7"}}},
				}})
			}
			return out, nil
		},
		"GetVM": func(req proto.Message) (proto.Message, error) {
			r, _ := req.(*pb.GetVMRequest)
			return &pb.GetVMResponse{Vm: &pb.VMView{Vm: &pb.VM{Id: r.GetVm(), Xml: cannedXML}}}, nil
		},
		"ListIncidents": func(proto.Message) (proto.Message, error) {
			return &pb.ListIncidentsResponse{Incidents: []*pb.Incident{fakepool.Incident()}}, nil
		},
		"GetIncident": func(proto.Message) (proto.Message, error) {
			return &pb.GetIncidentResponse{Incident: fakepool.Incident(), Timeline: fakepool.Timeline()}, nil
		},
		"PlanMaintenance": func(proto.Message) (proto.Message, error) { return cannedPlan(), nil },
		"PlanMaintenanceExit": func(proto.Message) (proto.Message, error) {
			return &pb.PlanMaintenanceExitResponse{
				PlanRevision: 78, Revision: 8812, Expected: durationpb.New(90 * time.Second), CapacityBefore: cannedCapacity(),
				CapacityAfter: &pb.Capacity{Verdict: pb.CapacityVerdict_CAPACITY_VERDICT_OK}, MemoryPercentBefore: 91, MemoryPercentAfter: 79, Staying: []string{"gpu-1"},
				Returns: []*pb.PlannedReturn{
					{Vm: "web-01", From: "hv-05", Comes: true, Reason: "web-01 goes home to hv-02", MemoryBytes: 8 << 30},
					{Vm: "web-03", From: "hv-04", Comes: true, Reason: "web-03 prefers hv-02", MemoryBytes: 4 << 30},
					{Vm: "db-main", From: "hv-01", Reason: "it cannot migrate live; with a restart: relocate db-main hv-02", MemoryBytes: 64 << 30},
				},
			}, nil
		},
		"PlanLoss": func(proto.Message) (proto.Message, error) {
			return &pb.PlanLossResponse{Revision: 8812, CapacityNow: cannedCapacity(), CapacityAfter: cannedCapacity(), Vms: []*pb.PlannedLoss{
				{Vm: "db-main", From: "hv-01", To: "hv-05", Outcome: "RESTARTS", Reason: "most free memory", After: durationpb.New(7 * time.Second), Priority: "high", MemoryBytes: 64 << 30},
				{Vm: "batch-3", From: "hv-01", Outcome: "WAITS", Reason: "no server has 32 GiB free", Priority: "low", MemoryBytes: 32 << 30},
			}}, nil
		},
	}
}

const cannedXML = `<domain type='kvm'><name>web-01</name><devices><disk type='file' device='disk'><source file='/pool/web-01.qcow2'/><target dev='vda' bus='virtio'/></disk><disk type='network' device='cdrom'><source protocol='rbd' name='iso/debian'/><target dev='sda' bus='sata'/></disk><interface type='bridge'><mac address='52:54:00:12:34:56'/><source bridge='br0'/></interface></devices></domain>`

func cannedPlan() *pb.PlanMaintenanceResponse {
	return &pb.PlanMaintenanceResponse{
		PlanRevision: 77, Revision: 8812, Expected: durationpb.New(5 * time.Minute), CapacityBefore: cannedCapacity(), CapacityAfter: cannedCapacity(),
		MemoryPercentBefore: 79, MemoryPercentAfter: 91,
		Moves: []*pb.PlannedMove{
			{Vm: "web-01", How: pb.LeaveBy_LEAVE_BY_LIVE, Target: "hv-05", MemoryBytes: 8 << 30},
			{Vm: "web-02", How: pb.LeaveBy_LEAVE_BY_LIVE, Target: "hv-05", MemoryBytes: 8 << 30, Reason: "keeps apart from web-03 on hv-04"},
			{Vm: "gpu-1", How: pb.LeaveBy_LEAVE_BY_STAYS, MemoryBytes: 32 << 30, Reason: "host device attached", Refusals: []*pb.ServerVerdict{{Server: "hv-01", Reasons: []*pb.ServerReason{{Code: "DEVICE", Text: "no free GPU"}}}}},
		},
	}
}

func cannedCapacity() *pb.Capacity {
	return &pb.Capacity{
		Verdict: pb.CapacityVerdict_CAPACITY_VERDICT_AT_RISK, ServersAtRisk: []string{"hv-04"}, Tolerate: 1, LookedAt: 1,
		Text: "if hv-04 were lost, there would be no place for db-r2 and batch-3",
		Rows: []*pb.CapacityRow{
			{Server: "hv-01", HaVms: 38, NeededBytes: 412 << 30, Fits: true, LeftBytes: 38 << 30},
			{Server: "hv-04", HaVms: 44, NeededBytes: 508 << 30, LeftBytes: 96 << 30, NoPlace: []string{"db-r2", "batch-3"}},
		},
	}
}

// take carries out the model's effects until there are none.
func (b *bench) take() {
	for range 20 {
		effects := b.m.Take()
		if len(effects) == 0 {
			return
		}
		for _, e := range effects {
			switch e := e.(type) {
			case Send:
				b.sent = append(b.sent, e)
			case Copy:
				b.copied = append(b.copied, e.Text)
			case Ask:
				if b.held {
					continue
				}
				method := feed.Method(e.Request)
				name := method[strings.LastIndexByte(method, '/')+1:]
				f, ok := b.replies[name]
				if !ok {
					b.t.Fatalf("no answer for %s", name)
				}
				r, err := f(e.Request)
				b.m.Reduce(Answer{Session: b.m.sessionNo, At: b.now, Topic: e.Topic, Message: r, Err: err})
			default:
				b.others = append(b.others, e)
			}
		}
	}
}

func (b *bench) reduce(msg any) {
	b.m.Reduce(msg)
	b.take()
}

// hear passes a message of the pool on.
func (b *bench) hear(r *pb.WatchPoolResponse) {
	b.rev++
	r.Revision, r.ServedBy = b.rev, "hv-01"
	b.merger.Fold(r)
	b.link.Heard, b.link.Open, b.link.Synced = b.now, true, true
	b.news(feed.Update{View: b.merger.View(), Link: b.link})
}

func (b *bench) news(u feed.Update) { b.reduce(News{Session: b.m.sessionNo, At: b.now, Update: u}) }

func (b *bench) snapshot(s *pb.Snapshot) {
	b.hear(&pb.WatchPoolResponse{Change: &pb.WatchPoolResponse_Snapshot{Snapshot: s}})
}

func (b *bench) delta(d *pb.Delta) {
	b.hear(&pb.WatchPoolResponse{Change: &pb.WatchPoolResponse_Delta{Delta: d}})
}

// pass lets time go by; heard says that the agent kept talking.
func (b *bench) pass(d time.Duration, heard bool) {
	for ; d > 0; d -= time.Second {
		b.now = b.now.Add(min(d, time.Second))
		if heard {
			b.link.Heard = b.now
		}
		b.reduce(Tick{Session: b.m.sessionNo, At: b.now, Link: b.link})
	}
}

// press presses keys by name.
func (b *bench) press(keys ...string) {
	for _, k := range keys {
		text := ""
		if len(k) == 1 {
			text = k
		}
		b.reduce(Key{Name: k, Text: text, At: b.now})
	}
}

// write types text.
func (b *bench) write(s string) {
	for _, c := range s {
		b.press(string(c))
	}
}

// line types a command of the palette and presses Enter.
func (b *bench) line(s string) {
	b.press(":")
	b.write(s)
	b.press("enter")
}

func (b *bench) screen() string { return b.m.Text() }

func (b *bench) sees(want ...string) {
	b.t.Helper()
	text := b.screen()
	for _, w := range want {
		if !strings.Contains(text, w) {
			b.t.Errorf("the screen does not show %q:\n%s", w, text)
		}
	}
}

func (b *bench) seesNot(unwanted ...string) {
	b.t.Helper()
	text := b.screen()
	for _, w := range unwanted {
		if strings.Contains(text, w) {
			b.t.Errorf("the screen shows %q:\n%s", w, text)
		}
	}
}

// one is the only request that was sent.
func (b *bench) one() Send {
	b.t.Helper()
	if len(b.sent) != 1 {
		b.t.Fatalf("%d requests were sent, want 1: %v\n%s", len(b.sent), b.sent, b.screen())
	}
	return b.sent[0]
}

func troubled(t testing.TB) *bench { return newBench(t, fakepool.Troubled(), 120, 40) }
