package api

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/holdfast-ha/holdfast/pkg/plan"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/wire"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// view builds messages from one snapshot, for one request.
type view struct {
	snap *pool.Snapshot
	plan *plan.View
	lost bool
	// failsafe tells what becomes of the VMs here while etcd is lost, failsafeText in a sentence.
	failsafe     pb.Failsafe
	failsafeText string
}

// view returns a view of the newest snapshot.
func (s *Server) view() (*view, error) {
	snap, err := s.snapshot()
	if err != nil {
		return nil, err
	}
	v := &view{snap: snap, plan: plan.NewView(snap), lost: !s.cfg.Pool.Reachable()}
	if s.cfg.Failsafe != nil {
		v.failsafe, v.failsafeText = s.cfg.Failsafe()
	}
	v.lost = v.lost || v.failsafe > pb.Failsafe_FAILSAFE_ASKING
	return v, nil
}

// status is one word for how a VM stands, in the API's numbers, and why.
func (v *view) status(id pool.VMID) (pb.VMStatus, string) {
	status, reason := v.plan.VM(id)
	return pb.VMStatus(status), reason //nolint:gosec // the numbers are the API's, a test compares them
}

// vm joins what is known of one VM; nil if it is not registered.
func (v *view) vm(id pool.VMID, withoutXML bool) *pb.VMView {
	vm, ok := v.snap.VMs.Get(id)
	if !ok {
		return nil
	}
	status, reason := v.status(id)
	out := &pb.VMView{Vm: wire.VM(vm), Status: status, Reason: reason, Protected: v.snap.Protected(vm)}
	if withoutXML {
		out.Vm.Xml = ""
	}
	since := vm.DesiredMark.At
	if c, ok := v.snap.Claims.Get(id); ok {
		out.Claim = wire.Claim(c)
		since = c.Since
	}
	if st, ok := v.snap.States.Get(id); ok {
		out.State = wire.VMState(st)
		if st.Since.After(since) {
			since = st.Since
		}
	}
	if h, ok := v.snap.Homes.Get(id); ok {
		out.Home = wire.Home(h)
	}
	if !since.IsZero() {
		out.Since = timestamppb.New(since)
	}
	return out
}

// server joins what is known of one server; nil if it is not registered.
func (v *view) server(id pool.ServerID) *pb.ServerView {
	srv, ok := v.snap.Servers.Get(id)
	if !ok {
		return nil
	}
	states, reason := v.plan.Server(id)
	out := &pb.ServerView{Server: wire.Server(srv), Reason: reason, Leader: v.snap.Leader.Server == id}
	for _, st := range states {
		out.States = append(out.States, pb.ServerState(st)) //nolint:gosec // the numbers are the API's
	}
	if m, ok := v.snap.Members.Get(id); ok {
		out.Member, out.Session = wire.Member(m), int64(m.Session)
	}
	if f, ok := v.snap.Fences.Get(id); ok && f.Proof != pool.ProofNone {
		out.Fence = wire.Fence(f)
	}
	load := v.plan.Load(id)
	out.Vms, out.MemoryUsedBytes, out.CpusUsed = int32(load.VMs), load.MemoryBytes, int32(load.CPUs) //nolint:gosec // counts of one server
	return out
}

// pool sums the pool up.
func (v *view) pool() *pb.PoolView {
	s := v.snap
	out := &pb.PoolView{Config: wire.Config(s.Config), Leader: string(s.Leader.Server), Revision: int64(s.Revision),
		Servers: int32(s.Servers.Len()), ServersUp: int32(s.Members.Len()), Vms: int32(s.VMs.Len()), EtcdLost: v.lost,
		Failsafe: v.failsafe, FailsafeText: v.failsafeText} //nolint:gosec // counts
	for id := range s.VMs.All() {
		switch status, _ := v.status(id); status {
		case pb.VMStatus_VM_STATUS_RUNNING, pb.VMStatus_VM_STATUS_MIGRATING:
			out.VmsRunning++
		case pb.VMStatus_VM_STATUS_WAITING:
			out.VmsWaiting++
		}
	}
	for _, a := range s.Alerts.All() {
		out.Alerts = append(out.Alerts, wire.Alert(a))
	}
	if s.Corrupt.Len() > 0 {
		out.CorruptKeys = map[string]string{}
		for k, why := range s.Corrupt.All() {
			out.CorruptKeys[k] = why
		}
	}
	return out
}

func (s *Server) vmView(id pool.VMID, withoutXML bool) (*pb.VMView, error) {
	v, err := s.view()
	if err != nil {
		return nil, err
	}
	return v.vm(id, withoutXML), nil
}

// ListVMs lists all VMs.
func (s *Server) ListVMs(_ context.Context, r *pb.ListVMsRequest) (*pb.ListVMsResponse, error) {
	v, err := s.view()
	if err != nil {
		return nil, err
	}
	all := make([]*pb.VMView, 0, v.snap.VMs.Len())
	for id := range v.snap.VMs.All() {
		all = append(all, v.vm(id, r.GetWithoutXml()))
	}
	page, next, err := selectPage(r, all, func(m *pb.VMView) string { return m.GetVm().GetId() }, true)
	return &pb.ListVMsResponse{Vms: page, NextPageToken: next, Revision: int64(v.snap.Revision)}, err
}

// GetVM returns one VM.
func (s *Server) GetVM(_ context.Context, r *pb.GetVMRequest) (*pb.GetVMResponse, error) {
	v, err := s.view()
	if err != nil {
		return nil, err
	}
	if _, err := findVM(v.snap, r.GetVm()); err != nil {
		return nil, err
	}
	vm, err := masked(v.vm(pool.VMID(r.GetVm()), false), r.GetReadMask())
	return &pb.GetVMResponse{Vm: vm, Revision: int64(v.snap.Revision)}, err
}
