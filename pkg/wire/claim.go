package wire

import (
	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// lastCause is the highest cause that this version knows.
const lastCause = pool.CauseMigrationFailed

// Claim returns the message of a claim, without its revision.
func Claim(c pool.Claim) *pb.Claim {
	return &pb.Claim{
		Vm: text(c.VM), Server: text(c.Server), Session: int64(c.Session), Epoch: int64(c.Epoch),
		Phase: pb.ClaimPhase(c.Phase), Armed: c.Armed, Watchdog: span(c.Watchdog), Incoming: incoming(c.Incoming),
		Operation: text(c.Operation), LastServer: text(c.LastServer), Cause: pb.ReleaseCause(c.Cause),
		Detail: text(c.Detail), Incarnation: text(c.Incarnation), Since: stamp(c.Since), Paused: c.Paused,
		Replaces: int64(c.Replaces),
	}
}

// ParseClaim is the reverse of Claim; Revision stays 0. Errors are pool.ErrInvalid.
func ParseClaim(m *pb.Claim) (pool.Claim, error) {
	var p parser
	c := pool.Claim{
		VM: pool.VMID(m.GetVm()), Server: pool.ServerID(m.GetServer()), Session: pool.Session(m.GetSession()),
		Epoch: pool.Epoch(m.GetEpoch()), Phase: enum(&p, "phase", m.GetPhase(), pool.PhaseReleasing),
		Armed: m.GetArmed(), Watchdog: p.duration("watchdog", m.GetWatchdog()), Incoming: parseIncoming(m.GetIncoming()),
		Operation: pool.OperationID(m.GetOperation()), LastServer: pool.ServerID(m.GetLastServer()),
		Cause: enum(&p, "cause", m.GetCause(), lastCause), Detail: m.GetDetail(),
		Incarnation: m.GetIncarnation(), Since: p.time("since", m.GetSince()), Paused: m.GetPaused(),
		Replaces: pool.Revision(m.GetReplaces()),
	}
	return c, p.err
}

func incoming(i *pool.Incoming) *pb.Incoming {
	if i == nil {
		return nil
	}
	return &pb.Incoming{Server: text(i.Server), Session: int64(i.Session), Held: i.Held}
}

func parseIncoming(m *pb.Incoming) *pool.Incoming {
	if m == nil {
		return nil
	}
	return &pool.Incoming{Server: pool.ServerID(m.GetServer()), Session: pool.Session(m.GetSession()), Held: m.GetHeld()}
}
