package cli

import (
	"slices"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// filter selects what a list shows; empty fields select everything.
type filter struct {
	server, vm, kind string
	states           []string
	running, audit   bool
	limit            int
}

func (f *filter) keepServer(s *pb.ServerView) bool {
	if len(f.states) == 0 {
		return true
	}
	return slices.ContainsFunc(s.GetStates(), func(st pb.ServerState) bool { return slices.Contains(f.states, word(st)) })
}

func (f *filter) keepVM(v *pb.VMView) bool {
	return (f.server == "" || vmServer(v) == f.server) && (len(f.states) == 0 || slices.Contains(f.states, vmWord(v.GetStatus())))
}

func (f *filter) keepOperation(o *pb.Operation) bool {
	return (f.server == "" || o.GetServer() == f.server || o.GetSource() == f.server) && (f.vm == "" || o.GetVm() == f.vm) &&
		(!f.running || o.GetOutcome() == pb.OperationOutcome_OPERATION_OUTCOME_RUNNING)
}

func (f *filter) keepEvent(e *pb.Event) bool {
	return (f.server == "" || e.GetServer() == f.server) && (f.vm == "" || e.GetVm() == f.vm) && (f.kind == "" || e.GetKind() == f.kind) &&
		(!f.audit || e.GetAudit() != nil)
}

func (f *filter) keepAlert(a *pb.Alert) bool {
	return (f.server == "" || a.GetServer() == f.server) && (f.vm == "" || a.GetVm() == f.vm)
}

func keep[T any](all []T, want func(T) bool) []T {
	var out []T
	for _, x := range all {
		if want(x) {
			out = append(out, x)
		}
	}
	return out
}

// sieve lets through what passes a filter, and remembers it: what was let through once and no longer passes counts
// as removed, so that who reads the stream forgets it too.
type sieve struct{ passed map[string]bool }

func sift[T any](s *sieve, all []T, removed []string, id func(T) string, want func(T) bool) ([]T, []string) {
	var in []T
	var out []string
	for _, x := range all {
		switch name := id(x); {
		case want(x):
			in, s.passed[name] = append(in, x), true
		case s.passed[name]:
			out = append(out, name)
			delete(s.passed, name)
		}
	}
	for _, name := range removed {
		if s.passed[name] {
			out = append(out, name)
			delete(s.passed, name)
		}
	}
	return in, out
}

// reduce cuts a message down to what a list is about; nil if nothing of it is left.
type reduce func(s *sieve, f *filter, snap *pb.Snapshot, d *pb.Delta) (*pb.Snapshot, *pb.Delta)

func reduceServers(s *sieve, f *filter, snap *pb.Snapshot, d *pb.Delta) (*pb.Snapshot, *pb.Delta) {
	id := func(v *pb.ServerView) string { return v.GetServer().GetId() }
	all, gone := sift(s, append(snap.GetServers(), d.GetServers()...), d.GetServersRemoved(), id, f.keepServer)
	if snap != nil {
		return &pb.Snapshot{Servers: all}, nil
	}
	return nil, &pb.Delta{Servers: all, ServersRemoved: gone}
}

func reduceVMs(s *sieve, f *filter, snap *pb.Snapshot, d *pb.Delta) (*pb.Snapshot, *pb.Delta) {
	id := func(v *pb.VMView) string { return v.GetVm().GetId() }
	all, gone := sift(s, append(snap.GetVms(), d.GetVms()...), d.GetVmsRemoved(), id, f.keepVM)
	if snap != nil {
		return &pb.Snapshot{Vms: all}, nil
	}
	return nil, &pb.Delta{Vms: all, VmsRemoved: gone}
}

func reduceOperations(s *sieve, f *filter, snap *pb.Snapshot, d *pb.Delta) (*pb.Snapshot, *pb.Delta) {
	all, gone := sift(s, append(snap.GetOperations(), d.GetOperations()...), d.GetOperationsRemoved(), (*pb.Operation).GetId, f.keepOperation)
	if snap != nil {
		return &pb.Snapshot{Operations: all}, nil
	}
	return nil, &pb.Delta{Operations: all, OperationsRemoved: gone}
}

func reduceEvents(_ *sieve, f *filter, snap *pb.Snapshot, d *pb.Delta) (*pb.Snapshot, *pb.Delta) {
	if snap != nil {
		return &pb.Snapshot{Events: latest(keep(snap.GetEvents(), f.keepEvent), f.limit)}, nil
	}
	return nil, &pb.Delta{Events: keep(d.GetEvents(), f.keepEvent)}
}

func reduceAlerts(_ *sieve, f *filter, snap *pb.Snapshot, d *pb.Delta) (*pb.Snapshot, *pb.Delta) {
	only := func(p *pb.PoolView) *pb.PoolView {
		if p == nil {
			return nil
		}
		return &pb.PoolView{Revision: p.GetRevision(), Alerts: keep(p.GetAlerts(), f.keepAlert)}
	}
	if snap != nil {
		return &pb.Snapshot{Pool: only(snap.GetPool())}, nil
	}
	return nil, &pb.Delta{Pool: only(d.GetPool())}
}

func reduceNothing(_ *sieve, _ *filter, snap *pb.Snapshot, d *pb.Delta) (*pb.Snapshot, *pb.Delta) {
	return snap, d
}

// latest returns the last n; all for 0.
func latest[T any](all []T, n int) []T {
	if n > 0 && len(all) > n {
		return all[len(all)-n:]
	}
	return all
}
