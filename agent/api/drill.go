package api

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/holdfast-ha/holdfast/agent/drill"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Canaries reaches the canaries on all servers, this one included.
type Canaries interface {
	// TouchCanary says how a canary stands on a server, and does to it what h asks for.
	TouchCanary(ctx context.Context, server pool.ServerID, h drill.Hit) (drill.Facts, error)
}

// canaryGone bounds the wait for a canary's end.
const canaryGone = 60 * time.Second

// CreateCanary makes a canary and asks for its start.
func (s *Server) CreateCanary(ctx context.Context, r *pb.CreateCanaryRequest) (*pb.CreateCanaryResponse, error) {
	m, err := s.mark(ctx, r.GetWhy())
	if err != nil {
		return nil, err
	}
	if s.cfg.Place == nil {
		return nil, noDrill(s.cfg.Server)
	}
	snap, err := s.snapshot()
	if err != nil {
		return nil, err
	}
	id := pool.VMID("canary-" + string(s.operationID(r.GetRequestId())))
	if old, ok := snap.VMs.Get(id); ok && r.GetRequestId() != "" {
		disk, err := pool.CanaryDisk(old)
		if err != nil {
			return nil, err
		}
		view, err := s.vmView(id, true)
		return &pb.CreateCanaryResponse{Vm: view, Disk: disk}, err
	}
	if err := drill.Ready(snap); err != nil {
		return nil, err
	}
	set := map[string]string{"ha": "on"}
	if r.GetServer() != "" {
		if _, err := findServer(snap, r.GetServer()); err != nil {
			return nil, err
		}
		set["prefer"] = r.GetServer()
	}
	disk, xml, err := s.cfg.Place.Make(ctx, r.GetDirectory(), id)
	if err != nil {
		return nil, err
	}
	notes, err := s.registerCanary(ctx, snap, id, xml, set, m)
	if err != nil {
		// What it was for does not exist, unless nobody knows: then a later RemoveCanary finds it by the VM.
		if _, gone := s.cfg.Place.Remove(ctx, disk); gone != nil {
			err = fmt.Errorf("%w; its disk %s is left: %w", err, disk, gone)
		}
		return nil, err
	}
	view, err := s.vmView(id, true)
	return &pb.CreateCanaryResponse{Vm: view, Disk: disk, Notes: notes}, err
}

func noDrill(server pool.ServerID) error {
	return pool.Refuse("NO_DRILL", "", "%s takes no part in drills", server)
}

// registerCanary registers a canary as any VM, but for its mark, and wants it to run.
func (s *Server) registerCanary(ctx context.Context, snap *pool.Snapshot, id pool.VMID, xml string, set map[string]string, m pool.Mark) ([]string, error) {
	def, err := s.cfg.Definitions.Parse(xml)
	if err != nil {
		return nil, err
	}
	reg := &registration{def: def, notes: def.Notes, lacks: map[pool.ServerID][]string{}}
	vm := pool.DefaultVM(id)
	vm.UUID, vm.XML, vm.MemoryBytes, vm.CPUs = def.UUID, def.XML, def.MemoryBytes, def.CPUs
	vm.Needs, vm.DiskLocks, vm.Movable = def.Needs, def.DiskLocks, def.Movable
	vm.Canary, vm.Desired, vm.DesiredMark = true, pool.DesiredRunning, m
	if _, err := pool.CanaryDisk(vm); err != nil {
		return nil, err
	}
	if err := s.inspect(ctx, snap, vm, reg); err != nil {
		return nil, err
	}
	vm.DiskLocks = vm.DiskLocks && !reg.unlocked
	err = s.applyRetry(ctx, func(snap *pool.Snapshot) (pool.Change, error) {
		if err := drill.Ready(snap); err != nil {
			return pool.Change{}, err
		}
		return s.registerChange(snap, vm, reg, set, m)
	})
	if err != nil {
		return nil, err
	}
	s.awaitLacks(ctx, id, reg.lacks)
	return reg.notes, nil
}

// GetCanary asks a canary's server how it stands there.
func (s *Server) GetCanary(ctx context.Context, r *pb.GetCanaryRequest) (*pb.GetCanaryResponse, error) {
	snap, vm, err := s.canary(r.GetCanary())
	if err != nil {
		return nil, err
	}
	server := pool.ServerID(r.GetServer())
	if server == "" {
		c, _ := snap.Claims.Get(vm.ID)
		if server = c.Server; server == "" {
			return nil, pool.Refuse("NOT_RUNNING", "", "%s runs nowhere", vm.ID)
		}
	}
	facts, err := s.cfg.Canaries.TouchCanary(ctx, server, drill.Hit{VM: vm.ID})
	return &pb.GetCanaryResponse{Facts: CanaryFacts(facts)}, err
}

// HitCanary does something bad to a canary.
func (s *Server) HitCanary(ctx context.Context, r *pb.HitCanaryRequest) (*pb.HitCanaryResponse, error) {
	m, err := s.mark(ctx, r.GetWhy())
	if err != nil {
		return nil, err
	}
	level := pool.DrillLevel(r.GetLevel())
	if level < pool.DrillQEMU || level > pool.DrillIsolation {
		return nil, pool.InField("level", fmt.Errorf("level: name what is to be done: %w", pool.ErrInvalid))
	}
	_, vm, err := s.canary(r.GetCanary())
	if err != nil {
		return nil, err
	}
	h := drill.Hit{VM: vm.ID, Level: level, Limit: r.GetLimit().AsDuration(), BesideOthers: r.GetBesideOthers(), CutPower: r.GetCutPower()}
	what := fmt.Sprintf("%s hits %s on %s: %s", m.By, vm.ID, r.GetServer(), level)
	if level == pool.DrillIsolation && h.Limit == 0 {
		what = fmt.Sprintf("%s ends the isolation of %s for %s", m.By, r.GetServer(), vm.ID)
	}
	// It is in the history before it is done: afterwards this agent may not be able to write.
	err = s.applyRetry(ctx, func(snap *pool.Snapshot) (pool.Change, error) {
		if _, err := findServer(snap, r.GetServer()); err != nil {
			return pool.Change{}, err
		}
		return pool.Change{Events: []pool.Event{s.event("DRILL", m, pool.ServerID(r.GetServer()), vm.ID, "%s", what)}}, nil
	})
	if err != nil {
		return nil, err
	}
	facts, err := s.cfg.Canaries.TouchCanary(ctx, pool.ServerID(r.GetServer()), h)
	return &pb.HitCanaryResponse{Before: CanaryFacts(facts)}, err
}

// canary finds a VM that a drill made.
func (s *Server) canary(name string) (*pool.Snapshot, pool.VM, error) {
	snap, err := s.snapshot()
	if err != nil {
		return nil, pool.VM{}, err
	}
	vm, err := findVM(snap, name)
	if err != nil {
		return nil, pool.VM{}, err
	}
	if s.cfg.Place == nil || s.cfg.Canaries == nil {
		return nil, pool.VM{}, noDrill(s.cfg.Server)
	}
	_, err = pool.CanaryDisk(vm)
	return snap, vm, err
}

// RemoveCanary ends a canary, deletes its disk and forgets it, in this order: what is left after a failure can be found
// by the VM.
func (s *Server) RemoveCanary(ctx context.Context, r *pb.RemoveCanaryRequest) (*pb.RemoveCanaryResponse, error) {
	m, err := s.mark(ctx, r.GetWhy())
	if err != nil {
		return nil, err
	}
	_, vm, err := s.canary(r.GetCanary())
	if err != nil {
		return nil, err
	}
	disk, err := pool.CanaryDisk(vm)
	if err != nil {
		return nil, err
	}
	if err := s.stopCanary(ctx, vm.ID, m); err != nil {
		return nil, err
	}
	deleted, err := s.cfg.Place.Remove(ctx, disk)
	if err != nil {
		return nil, err
	}
	err = s.applyRetry(ctx, func(snap *pool.Snapshot) (pool.Change, error) {
		vm, ok := snap.VMs.Get(vm.ID)
		if !ok {
			return pool.Change{}, nil
		}
		claim, ok := snap.Claims.Get(vm.ID)
		if ok && claim.Phase != pool.PhaseUnassigned {
			return pool.Change{}, pool.Refuse("VM_RUNS", "holdfast drill clean", "%s %s again", vm.ID, whereNow(claim))
		}
		c := pool.Change{RemoveVMs: []pool.VM{vm}, Events: []pool.Event{s.event("VM_REMOVED", m, "", vm.ID, "%s removed the canary %s", m.By, vm.ID)}}
		if ok {
			c.RemoveClaims = []pool.Claim{claim}
		}
		return c, nil
	})
	return &pb.RemoveCanaryResponse{DiskDeleted: deleted}, err
}

// stopCanary wants a canary killed and waits until it is.
func (s *Server) stopCanary(ctx context.Context, id pool.VMID, m pool.Mark) error {
	err := s.applyRetry(ctx, func(snap *pool.Snapshot) (pool.Change, error) {
		vm, err := findVM(snap, string(id))
		if err != nil || vm.Desired == pool.DesiredKilled {
			return pool.Change{}, err
		}
		vm.Desired, vm.DesiredMark = pool.DesiredKilled, m
		return pool.Change{VMs: []pool.VM{vm}, Events: []pool.Event{s.event("VM_KILL_ASKED", m, "", id, "%s asked to kill %s", m.By, id)}}, nil
	})
	if err != nil {
		return err
	}
	wctx, cancel := s.cfg.Clock.WithTimeout(ctx, canaryGone)
	defer cancel()
	sig := s.cfg.Clock.NewSignal()
	defer s.cfg.Pool.Subscribe(sig)()
	for {
		c, ok := s.cfg.Pool.Snapshot().Claims.Get(id)
		if !ok || c.Phase == pool.PhaseUnassigned {
			return nil
		}
		if wctx.Err() != nil {
			return fmt.Errorf("%s %s still; ask again: %w", id, whereNow(c), pool.ErrUnavailable)
		}
		sig.Wait(wctx, canaryGone)
	}
}

// CanaryFacts returns the message of what a server says of a canary.
func CanaryFacts(f drill.Facts) *pb.CanaryFacts {
	return &pb.CanaryFacts{Server: string(f.Server), Session: int64(f.Session), Process: int32(f.PID), ProcessStarted: int64(f.Started), //nolint:gosec // PIDs and ticks are far below
		AgentSince: timestamppb.New(f.AgentSince), Isolated: durationpb.New(f.Isolated)}
}

// ParseCanaryFacts is the reverse of CanaryFacts.
func ParseCanaryFacts(m *pb.CanaryFacts) drill.Facts {
	return drill.Facts{Server: pool.ServerID(m.GetServer()), Session: pool.Session(m.GetSession()), PID: int(m.GetProcess()), Started: uint64(m.GetProcessStarted()), //nolint:gosec // as above
		AgentSince: m.GetAgentSince().AsTime(), Isolated: m.GetIsolated().AsDuration()}
}
