package api

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// paper is an authority that only writes down.
type paper struct{}

func (paper) CreateLogin(context.Context, string, string, time.Duration, pool.Mark, string) (string, time.Time, error) {
	return "token", time.Time{}, nil
}

func (paper) Certify([]byte, string, string, time.Time) (cert, ca []byte, serial string, err error) {
	return nil, nil, "4f", nil
}

// changes makes each call of the API that changes something do so; nil: its event is written elsewhere, where a test
// looks for it.
var changes = map[string]func(ctx context.Context, b *bench) error{
	"UpdatePool": func(ctx context.Context, b *bench) error {
		_, err := b.UpdatePool(ctx, &pb.UpdatePoolRequest{Set: map[string]string{"stop-limit": "45s"}})
		return err
	},
	"SetPoolHA": func(ctx context.Context, b *bench) error {
		_, err := b.SetPoolHA(ctx, &pb.SetPoolHARequest{On: true})
		return err
	},
	"SetFreeze": func(ctx context.Context, b *bench) error {
		_, err := b.SetFreeze(ctx, &pb.SetFreezeRequest{Frozen: true})
		return err
	},
	"SetInboundLock": func(ctx context.Context, b *bench) error {
		_, err := b.SetInboundLock(ctx, &pb.SetInboundLockRequest{Server: "srv-2", On: true})
		return err
	},
	"ConfirmFenced": func(ctx context.Context, b *bench) error {
		b.pool.change(func(s *pool.Snapshot) { s.Members = s.Members.Without("srv-2") })
		_, err := b.ConfirmFenced(ctx, &pb.ConfirmFencedRequest{Server: "srv-2", TypedName: "srv-2"})
		return err
	},
	"UpdateServer": func(ctx context.Context, b *bench) error {
		_, err := b.UpdateServer(ctx, &pb.UpdateServerRequest{Server: "srv-2", Labels: map[string]string{"rack": "b"}})
		return err
	},
	"RemoveServer": func(ctx context.Context, b *bench) error {
		b.pool.change(func(s *pool.Snapshot) { s.Members = s.Members.Without("srv-3") })
		_, err := b.RemoveServer(ctx, &pb.RemoveServerRequest{Server: "srv-3"})
		return err
	},
	"EnterMaintenance": func(ctx context.Context, b *bench) error {
		_, err := b.EnterMaintenance(ctx, &pb.EnterMaintenanceRequest{Server: "srv-2"})
		return err
	},
	"ExitMaintenance": func(ctx context.Context, b *bench) error {
		if _, err := b.EnterMaintenance(context.Background(), &pb.EnterMaintenanceRequest{Server: "srv-2"}); err != nil {
			return err
		}
		_, err := b.ExitMaintenance(ctx, &pb.ExitMaintenanceRequest{Server: "srv-2"})
		return err
	},
	"ShutdownServer": func(ctx context.Context, b *bench) error {
		_, err := b.ShutdownServer(ctx, &pb.ShutdownServerRequest{Server: "srv-2"})
		return err
	},
	"RegisterVM": func(ctx context.Context, b *bench) error {
		_, err := b.RegisterVM(ctx, &pb.RegisterVMRequest{Xml: "new:hidden"})
		return err
	},
	"UpdateVM": func(ctx context.Context, b *bench) error {
		_, err := b.UpdateVM(ctx, &pb.UpdateVMRequest{Vm: "web", Set: map[string]string{"priority": "high"}})
		return err
	},
	"RemoveVM": func(ctx context.Context, b *bench) error {
		_, err := b.RemoveVM(ctx, &pb.RemoveVMRequest{Vm: "web"})
		return err
	},
	"SetVMHA": func(ctx context.Context, b *bench) error {
		_, err := b.SetVMHA(ctx, &pb.SetVMHARequest{Vms: []string{"web"}, On: true})
		return err
	},
	"StartVM": func(ctx context.Context, b *bench) error {
		_, err := b.StartVM(ctx, &pb.StartVMRequest{Vm: "web"})
		return err
	},
	"StopVM": func(ctx context.Context, b *bench) error {
		b.hold("web", "srv-1")
		_, err := b.StopVM(ctx, &pb.StopVMRequest{Vm: "web"})
		return err
	},
	"KillVM": func(ctx context.Context, b *bench) error {
		b.hold("web", "srv-1")
		_, err := b.KillVM(ctx, &pb.KillVMRequest{Vm: "web"})
		return err
	},
	"RestartVM": func(ctx context.Context, b *bench) error {
		b.hold("web", "srv-1")
		_, err := b.RestartVM(ctx, &pb.RestartVMRequest{Vm: "web"})
		return err
	},
	"ClearVM": func(ctx context.Context, b *bench) error {
		b.pool.change(func(s *pool.Snapshot) {
			s.Homes = s.Homes.With("web", pool.Home{VM: "web", Failed: true, FailedReason: "it crashed"})
		})
		_, err := b.ClearVM(ctx, &pb.ClearVMRequest{Vm: "web"})
		return err
	},
	"MigrateVM": func(ctx context.Context, b *bench) error {
		b.movable()
		_, err := b.MigrateVM(ctx, &pb.MigrateVMRequest{Vm: "web", Server: "srv-2"})
		return err
	},
	"RelocateVM": func(ctx context.Context, b *bench) error {
		b.movable()
		_, err := b.RelocateVM(ctx, &pb.RelocateVMRequest{Vm: "web", Server: "srv-2"})
		return err
	},
	"CancelOperation": func(ctx context.Context, b *bench) error {
		b.movable()
		r, err := b.MigrateVM(context.Background(), &pb.MigrateVMRequest{Vm: "web", Server: "srv-2"})
		if err != nil {
			return err
		}
		_, err = b.CancelOperation(ctx, &pb.CancelOperationRequest{Operation: r.GetOperation().GetId()})
		return err
	},
	"RenewCertificate": func(ctx context.Context, b *bench) error {
		_, err := b.RenewCertificate(ctx, &pb.RenewCertificateRequest{})
		return err
	},
	"RevokeCertificate": func(ctx context.Context, b *bench) error {
		_, err := b.RevokeCertificate(ctx, &pb.RevokeCertificateRequest{Operator: "anna"})
		return err
	},
	"CreateLogin": nil,
	"CreateCanary": func(ctx context.Context, b *bench) error {
		b.drills()
		_, err := b.CreateCanary(ctx, &pb.CreateCanaryRequest{})
		return err
	},
	"HitCanary": func(ctx context.Context, b *bench) error {
		_, err := b.HitCanary(ctx, &pb.HitCanaryRequest{Canary: b.canaryOn("srv-2"), Server: "srv-2", Level: pb.DrillLevel_DRILL_LEVEL_QEMU})
		return err
	},
	"RemoveCanary": func(ctx context.Context, b *bench) error {
		b.drills()
		r, err := b.CreateCanary(context.Background(), &pb.CreateCanaryRequest{})
		if err != nil {
			return err
		}
		_, err = b.RemoveCanary(ctx, &pb.RemoveCanaryRequest{Canary: r.GetVm().GetVm().GetId()})
		return err
	},
}

// movable has web run on srv-1 and fit to migrate.
func (b *bench) movable() {
	b.hold("web", "srv-1")
	b.pool.change(func(s *pool.Snapshot) {
		v, _ := s.VMs.Get("web")
		v.Movable = true
		s.VMs = s.VMs.With("web", v)
		s.States = s.States.With("web", pool.VMState{VM: "web", Server: "srv-1", Epoch: 1, State: pool.RunRunning})
	})
}

func TestEveryCallThatChangesSomethingLeavesWhoFromWhereWhichRequestAndWhatChanged(t *testing.T) {
	var names []string
	protoregistry.GlobalFiles.RangeFilesByPackage("holdfast.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			for j := range s.Methods().Len() {
				if name := string(s.Methods().Get(j).Name()); s.Name() != "MeshService" && s.Name() != "JoinService" && !rpc.IsRead(name) {
					names = append(names, name)
				}
			}
		}
		return true
	})
	if len(names) < 20 {
		t.Fatalf("found only %v", names)
	}
	for _, name := range names {
		call, known := changes[name]
		if !known {
			t.Errorf("nobody has looked what %s leaves in the history: add it to this test", name)
		}
		if call == nil {
			continue
		}
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.cfg.Authority = paper{}
			ctx := rpc.WithCall(as(t), rpc.Call{Method: "/holdfast.v1.X/" + name, From: "10.0.0.9:4711", RequestID: "req-7"})
			if err := call(ctx, b); err != nil {
				t.Fatal(err)
			}
			var found []pool.Event
			for _, e := range b.pool.Snapshot().Events.All() {
				if e.Audit != nil {
					found = append(found, e)
				}
			}
			if len(found) == 0 {
				t.Fatal("it leaves nothing")
			}
			for _, e := range found {
				a := *e.Audit
				if e.Actor != "kim" || a.Role != "operator" || a.From != "10.0.0.9:4711" || a.RequestID != "req-7" || !strings.HasSuffix(a.Method, name) {
					t.Errorf("event of %q: %+v", e.Actor, a)
				}
				if !json.Valid([]byte(a.Before)) || !json.Valid([]byte(a.After)) || a.Before == a.After && name != "RenewCertificate" && name != "HitCanary" {
					t.Errorf("before %s, after %s", a.Before, a.After)
				}
				if strings.Contains(a.Before+a.After, "hidden") || strings.Contains(a.Before+a.After, "<domain") {
					t.Errorf("a password or a definition is in the history: %s", a.After)
				}
			}
		})
	}
}

func TestAnAuditTellsOnlyTheFieldsThatDiffer(t *testing.T) {
	b := newBench(t)
	ctx := rpc.WithCall(as(t), rpc.Call{Method: "/m", From: "10.0.0.9:1", RequestID: "r"})
	if _, err := b.UpdateVM(ctx, &pb.UpdateVMRequest{Vm: "web", Set: map[string]string{"priority": "high"}}); err != nil {
		t.Fatal(err)
	}
	id, _ := b.pool.Snapshot().Events.Last()
	e, _ := b.pool.Snapshot().Events.Get(id)
	if e.Audit.Before != `{"vms/web":{"priority":"PRIORITY_MEDIUM"}}` || e.Audit.After != `{"vms/web":{"priority":"PRIORITY_HIGH"}}` {
		t.Errorf("before %s\nafter %s", e.Audit.Before, e.Audit.After)
	}
}

func TestAReplayedRequestIsDoneOnceAndAnswersTheSame(t *testing.T) {
	b := newBench(t)
	first, err := b.StartVM(as(t), &pb.StartVMRequest{Vm: "web", RequestId: "night-1"})
	if err != nil {
		t.Fatal(err)
	}
	before := b.pool.Snapshot()
	again, err := b.StartVM(as(t), &pb.StartVMRequest{Vm: "web", RequestId: "night-1"})
	if err != nil || again.GetOperation().GetId() != first.GetOperation().GetId() || b.pool.Snapshot() != before {
		t.Errorf("replayed: %v, %v", again, err)
	}
	_, err = b.StartVM(as(t), &pb.StartVMRequest{Vm: "db", RequestId: "night-1"})
	if !errors.Is(err, pool.ErrExists) || !strings.Contains(err.Error(), "request ID night-1 was used to start web; a new request needs a new one") {
		t.Errorf("for something else: %v", err)
	}
}

// Since keeps what the memory has seen: all of it.
func (m *remembering) Since(rev pool.Revision) *pool.Snapshot {
	for i := len(m.seen) - 1; i >= 0; i-- {
		if m.seen[i].Revision <= rev {
			return m.seen[i]
		}
	}
	return nil
}

// remembering is a pool that keeps its snapshots.
type remembering struct {
	*memory
	seen []*pool.Snapshot
}

func TestAWatchGoesOnFromARevisionOrSaysThatItIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		kept := &remembering{memory: b.pool}
		b.cfg.Pool = kept
		kept.seen = append(kept.seen, b.pool.Snapshot())
		if _, err := b.SetVMHA(as(t), &pb.SetVMHARequest{Vms: []string{"web"}, On: true}); err != nil {
			t.Fatal(err)
		}
		open := func(after int64) (*pb.WatchPoolResponse, error) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			st := stream[pb.WatchPoolResponse]{ctx: ctx, sent: make(chan *pb.WatchPoolResponse, 10)}
			ended := make(chan error, 1)
			go func() { ended <- b.WatchPool(&pb.WatchPoolRequest{AfterRevision: after}, st) }()
			select {
			case m := <-st.sent:
				cancel()
				if err := <-ended; !errors.Is(err, context.Canceled) {
					t.Errorf("the watch ended with %v", err)
				}
				return m, nil
			case err := <-ended:
				return nil, err
			}
		}
		m, err := open(100)
		if err != nil || m.GetSnapshot() != nil || len(m.GetDelta().GetVms()) != 1 || len(m.GetDelta().GetEvents()) != 1 || m.GetRevision() != 101 {
			t.Errorf("from 100: %v, %v", m, err)
		}
		if m, err := open(101); err != nil || m.GetDelta().GetPool().GetConfig().GetIncarnation() != b.pool.Snapshot().Config.Incarnation {
			t.Errorf("from the present: %v, %v; want the pool in any case", m, err)
		}
		if _, err := b.SetVMHA(as(t), &pb.SetVMHARequest{Vms: []string{"web"}, On: false}); err != nil {
			t.Fatal(err)
		}
		if m, err := open(101); err != nil || m.GetSnapshot() == nil || m.GetRevision() != 102 {
			t.Errorf("from 101, which this agent has not seen: %v, %v; want all of it", m, err)
		}
		if m, err := open(0); err != nil || m.GetSnapshot() == nil {
			t.Errorf("from nowhere: %v, %v", m, err)
		}
		if _, err := open(99); !errors.Is(err, pool.ErrGone) || !strings.Contains(err.Error(), "revision 99 is not kept any more by this agent; watch anew without after_revision") {
			t.Errorf("from 99: %v", err)
		}
		if _, err := open(500); !errors.Is(err, pool.ErrUnavailable) || !strings.Contains(err.Error(), "revision 500 has not come to this agent yet, which has 102") {
			t.Errorf("from 500: %v", err)
		}
		st := stream[pb.WatchEventsResponse]{ctx: t.Context(), sent: make(chan *pb.WatchEventsResponse, 1)}
		if err := b.WatchEvents(&pb.WatchEventsRequest{After: "long-ago"}, st); !errors.Is(err, pool.ErrGone) {
			t.Errorf("events after one that is gone: %v", err)
		}
	})
}

// stuck is a pool whose etcd does not answer.
type stuck struct{ *memory }

func (s stuck) Apply(ctx context.Context, _ pool.Change) (pool.Revision, error) {
	<-ctx.Done()
	return 0, ctx.Err()
}

func TestACallEndsAtItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.cfg.Pool = stuck{b.pool}
		ctx, cancel := context.WithTimeout(as(t), 2*time.Second)
		defer cancel()
		began := time.Now()
		_, err := b.SetFreeze(ctx, &pb.SetFreezeRequest{Frozen: true})
		if took := time.Since(began); status.Code(rpc.ToStatus(err)) != codes.DeadlineExceeded || took != 2*time.Second {
			t.Errorf("after %v: %v", took, err)
		}
	})
}
