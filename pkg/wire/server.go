package wire

import (
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Server returns the message of a server's registration, without its revision.
func Server(s pool.Server) *pb.Server {
	return &pb.Server{
		Id: text(s.ID), Address: text(s.Address), HostUuid: text(s.HostUUID),
		Maintenance: s.Maintenance, MaintenanceMark: Mark(s.MaintenanceMark),
		InboundLock: s.InboundLock, InboundLockMark: Mark(s.InboundLockMark),
		Fence: convert(s.Fence, fenceDevice), Labels: textMap(s.Labels), ReservedMemoryBytes: s.ReservedMemoryBytes,
		Removing: s.Removing, ShuttingDown: s.ShuttingDown, RestartUnmovable: s.RestartUnmovable, Shutdown: shutdown(s.Shutdown),
		Awaited: s.Awaited,
	}
}

// shutdown is nil for the zero value.
func shutdown(d pool.Shutdown) *pb.Shutdown {
	if d == (pool.Shutdown{}) {
		return nil
	}
	return &pb.Shutdown{Policy: pb.ShutdownPolicy(d.Policy), Reboot: d.Reboot, BootId: text(d.BootID), ByPool: d.ByPool, Mark: Mark(d.Mark)}
}

func (p *parser) shutdown(m *pb.Shutdown) pool.Shutdown {
	return pool.Shutdown{
		Policy: enum(p, "shutdown policy", m.GetPolicy(), pool.ShutdownFreeze), Reboot: m.GetReboot(), BootID: m.GetBootId(),
		ByPool: m.GetByPool(), Mark: p.mark("shutdown mark", m.GetMark()),
	}
}

// ParseServer is the reverse of Server; Revision stays 0. Errors are pool.ErrInvalid.
func ParseServer(m *pb.Server) (pool.Server, error) {
	var p parser
	s := pool.Server{
		ID: pool.ServerID(m.GetId()), Address: m.GetAddress(), HostUUID: m.GetHostUuid(),
		Maintenance: m.GetMaintenance(), MaintenanceMark: p.mark("maintenanceMark", m.GetMaintenanceMark()),
		InboundLock: m.GetInboundLock(), InboundLockMark: p.mark("inboundLockMark", m.GetInboundLockMark()),
		Fence:               convert(m.GetFence(), p.fenceDevice),
		Labels:              textMap(m.GetLabels()),
		ReservedMemoryBytes: m.GetReservedMemoryBytes(),
		Removing:            m.GetRemoving(), ShuttingDown: m.GetShuttingDown(), Shutdown: p.shutdown(m.GetShutdown()),
		Awaited: m.GetAwaited(), RestartUnmovable: m.GetRestartUnmovable(),
	}
	return s, p.err
}

func fenceDevice(d pool.FenceDevice) *pb.FenceDevice {
	return &pb.FenceDevice{Agent: text(d.Agent), Params: textMap(d.Params), SecretFiles: textMap(d.SecretFiles), Timeout: span(d.Timeout)}
}

func (p *parser) fenceDevice(m *pb.FenceDevice) pool.FenceDevice {
	return pool.FenceDevice{
		Agent: m.GetAgent(), Params: textMap(m.GetParams()), SecretFiles: textMap(m.GetSecretFiles()),
		Timeout: p.duration("fence timeout", m.GetTimeout()),
	}
}

// Member returns the message of a server's presence, without its session and revision: those are the key's.
func Member(v pool.Member) *pb.Member {
	return &pb.Member{
		Server: text(v.Server), LeaseId: v.LeaseID, Version: text(v.Version), Incarnation: text(v.Incarnation),
		BootId: text(v.BootID), MemoryBytes: v.MemoryBytes, Cpus: number(v.CPUs), Guard: v.Guard,
		Watchdog: span(v.Watchdog), Lacks: lacks(v.Lacks), StorageLost: v.StorageLost,
		RosterRevision: int64(v.RosterRevision), EtcdVoter: v.EtcdVoter, Since: stamp(v.Since), NoPause: text(v.NoPause),
		Failsafe: v.Failsafe, Trouble: text(v.Trouble), CutShort: text(v.CutShort),
	}
}

// ParseMember is the reverse of Member; Session and Revision stay 0. Errors are pool.ErrInvalid.
func ParseMember(m *pb.Member) (pool.Member, error) {
	var p parser
	v := pool.Member{
		Server: pool.ServerID(m.GetServer()), LeaseID: m.GetLeaseId(), Version: m.GetVersion(),
		Incarnation: m.GetIncarnation(), BootID: m.GetBootId(), MemoryBytes: m.GetMemoryBytes(),
		CPUs: int(m.GetCpus()), Guard: m.GetGuard(), Watchdog: p.duration("watchdog", m.GetWatchdog()),
		Lacks: parseLacks(m.GetLacks()), StorageLost: m.GetStorageLost(),
		RosterRevision: pool.Revision(m.GetRosterRevision()), EtcdVoter: m.GetEtcdVoter(), NoPause: m.GetNoPause(), Failsafe: m.GetFailsafe(), Trouble: m.GetTrouble(), CutShort: m.GetCutShort(),
		Since: p.time("since", m.GetSince()),
	}
	return v, p.err
}

// lacks lists VMs in order, so that the same member always has the same message.
func lacks(all map[pool.VMID][]string) []*pb.Lack {
	vms := slices.Sorted(maps.Keys(all))
	return convert(vms, func(vm pool.VMID) *pb.Lack { return &pb.Lack{Vm: text(vm), Missing: texts(all[vm])} })
}

func parseLacks(list []*pb.Lack) map[pool.VMID][]string {
	if len(list) == 0 {
		return nil
	}
	all := make(map[pool.VMID][]string, len(list))
	for _, l := range list {
		all[pool.VMID(l.GetVm())] = words[string](l.GetMissing())
	}
	return all
}

// Fence returns the message of a proof, without its revision.
func Fence(f pool.Fence) *pb.Fence {
	return &pb.Fence{
		Server: text(f.Server), Session: int64(f.Session), Proof: pb.Proof(f.Proof), At: stamp(f.At),
		By: text(f.By), Evidence: text(f.Evidence), SwitchedOn: convert(f.SwitchedOn, timestamppb.New),
	}
}

// ParseFence is the reverse of Fence; Revision stays 0. Errors are pool.ErrInvalid.
func ParseFence(m *pb.Fence) (pool.Fence, error) {
	var p parser
	f := pool.Fence{
		Server: pool.ServerID(m.GetServer()), Session: pool.Session(m.GetSession()),
		Proof: enum(&p, "proof", m.GetProof(), pool.ProofConfirmed), At: p.time("at", m.GetAt()),
		By: m.GetBy(), Evidence: m.GetEvidence(),
		SwitchedOn: convert(m.GetSwitchedOn(), func(t *timestamppb.Timestamp) time.Time { return p.time("switchedOn", t) }),
	}
	return f, p.err
}

// Roster returns the message of the list of those that may lead, without its revision.
func Roster(r pool.Roster) *pb.Roster {
	m := &pb.Roster{}
	if len(r.Standing) > 0 {
		m.Standing = make(map[string]pb.Standing, len(r.Standing))
	}
	for s, standing := range r.Standing {
		m.Standing[text(s)] = pb.Standing(standing)
	}
	return m
}

// ParseRoster is the reverse of Roster; Revision stays 0. Errors are pool.ErrInvalid.
func ParseRoster(m *pb.Roster) (pool.Roster, error) {
	var p parser
	var r pool.Roster
	if len(m.GetStanding()) > 0 {
		r.Standing = make(map[pool.ServerID]pool.Standing, len(m.GetStanding()))
	}
	for s, standing := range m.GetStanding() {
		r.Standing[pool.ServerID(s)] = enum(&p, "standing", standing, pool.StandingInForce)
	}
	return r, p.err
}
