package wire

import (
	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// VM returns the message of a VM's registration, without its revision.
func VM(v pool.VM) *pb.VM {
	return &pb.VM{
		Id: text(v.ID), Uuid: text(v.UUID), Xml: text(v.XML), MemoryBytes: v.MemoryBytes, Cpus: number(v.CPUs),
		Ha: v.HA, HaMark: Mark(v.HAMark), Priority: pb.Priority(v.Priority),
		Prefer: texts(v.Prefer), Require: texts(v.Require), Apart: text(v.Apart), Together: text(v.Together),
		Restarts: number(v.Restarts), Relocations: number(v.Relocations), Window: span(v.Window),
		Movable: v.Movable, DiskLocks: v.DiskLocks, Needs: convert(v.Needs, need),
		RestartOnGuestShutdown: v.RestartOnGuestShutdown,
		Desired:                pb.DesiredState(v.Desired), DesiredMark: Mark(v.DesiredMark),
		DisksInDoubt: text(v.DisksInDoubt), Canary: v.Canary,
	}
}

// ParseVM is the reverse of VM; Revision stays 0. Errors are pool.ErrInvalid.
func ParseVM(m *pb.VM) (pool.VM, error) {
	var p parser
	v := pool.VM{
		ID: pool.VMID(m.GetId()), UUID: m.GetUuid(), XML: m.GetXml(), MemoryBytes: m.GetMemoryBytes(),
		CPUs: int(m.GetCpus()), HA: m.GetHa(), HAMark: p.mark("haMark", m.GetHaMark()),
		Priority: enum(&p, "priority", m.GetPriority(), pool.PriorityHigh),
		Prefer:   words[pool.ServerID](m.GetPrefer()), Require: words[pool.ServerID](m.GetRequire()),
		Apart: m.GetApart(), Together: m.GetTogether(),
		Restarts: int(m.GetRestarts()), Relocations: int(m.GetRelocations()), Window: p.duration("window", m.GetWindow()),
		Movable: m.GetMovable(), DiskLocks: m.GetDiskLocks(), Needs: convert(m.GetNeeds(), p.need),
		RestartOnGuestShutdown: m.GetRestartOnGuestShutdown(),
		Desired:                enum(&p, "desired", m.GetDesired(), pool.DesiredKilled),
		DesiredMark:            p.mark("desiredMark", m.GetDesiredMark()),
		DisksInDoubt:           m.GetDisksInDoubt(), Canary: m.GetCanary(),
	}
	return v, p.err
}

func need(n pool.Need) *pb.Need { return &pb.Need{Kind: pb.NeedKind(n.Kind), Name: text(n.Name)} }

func (p *parser) need(m *pb.Need) pool.Need {
	return pool.Need{Kind: enum(p, "need kind", m.GetKind(), pool.NeedCPU), Name: m.GetName()}
}

// VMState returns the message of what a VM's owner observes, without its revision.
func VMState(s pool.VMState) *pb.VMState {
	return &pb.VMState{
		Vm: text(s.VM), Server: text(s.Server), Epoch: int64(s.Epoch), State: pb.RunState(s.State),
		Reason: text(s.Reason), Since: stamp(s.Since),
	}
}

// ParseVMState is the reverse of VMState; Revision stays 0. Errors are pool.ErrInvalid.
func ParseVMState(m *pb.VMState) (pool.VMState, error) {
	var p parser
	s := pool.VMState{
		VM: pool.VMID(m.GetVm()), Server: pool.ServerID(m.GetServer()), Epoch: pool.Epoch(m.GetEpoch()),
		State: enum(&p, "state", m.GetState(), pool.RunStopped), Reason: m.GetReason(),
		Since: p.time("since", m.GetSince()),
	}
	return s, p.err
}

// Home returns the message of where a VM belongs, without its revision.
func Home(h pool.Home) *pb.Home {
	return &pb.Home{
		Vm: text(h.VM), Server: text(h.Server), Failures: convert(h.Failures, failure),
		Failed: h.Failed, FailedReason: text(h.FailedReason), Placed: text(h.Placed),
	}
}

// ParseHome is the reverse of Home; Revision stays 0. Errors are pool.ErrInvalid.
func ParseHome(m *pb.Home) (pool.Home, error) {
	var p parser
	h := pool.Home{
		VM: pool.VMID(m.GetVm()), Server: pool.ServerID(m.GetServer()), Failures: convert(m.GetFailures(), p.failure),
		Failed: m.GetFailed(), FailedReason: m.GetFailedReason(), Placed: pool.ServerID(m.GetPlaced()),
	}
	return h, p.err
}

func failure(f pool.Failure) *pb.Failure {
	return &pb.Failure{Server: text(f.Server), Cause: pb.ReleaseCause(f.Cause), At: stamp(f.At), Detail: text(f.Detail)}
}

func (p *parser) failure(m *pb.Failure) pool.Failure {
	return pool.Failure{
		Server: pool.ServerID(m.GetServer()), Cause: enum(p, "failure cause", m.GetCause(), lastCause),
		At: p.time("failure at", m.GetAt()), Detail: m.GetDetail(),
	}
}
