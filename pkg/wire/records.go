package wire

import (
	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Alert returns the message of an open problem, without its revision.
func Alert(a pool.Alert) *pb.Alert {
	return &pb.Alert{
		Id: text(a.ID), Kind: text(a.Kind), Server: text(a.Server), Vm: text(a.VM), Text: text(a.Text), Since: stamp(a.Since), Tried: tried(a.Tried),
	}
}

// ParseAlert is the reverse of Alert; Revision stays 0. Errors are pool.ErrInvalid.
func ParseAlert(m *pb.Alert) (pool.Alert, error) {
	var p parser
	a := pool.Alert{
		ID: pool.AlertID(m.GetId()), Kind: pool.AlertKind(m.GetKind()), Server: pool.ServerID(m.GetServer()),
		VM: pool.VMID(m.GetVm()), Text: m.GetText(), Since: p.time("since", m.GetSince()),
	}
	for _, t := range m.GetTried() {
		a.Tried = append(a.Tried, pool.ProofTry{Proof: enum(&p, "proof", t.GetProof(), pool.ProofConfirmed), Result: t.GetResult()})
	}
	return a, p.err
}

func tried(all []pool.ProofTry) []*pb.ProofTry {
	var out []*pb.ProofTry
	for _, t := range all {
		out = append(out, &pb.ProofTry{Proof: pb.Proof(t.Proof), Result: text(t.Result)})
	}
	return out
}

// Operation returns the message of a long-running request, without its revision.
func Operation(o pool.Operation) *pb.Operation {
	return &pb.Operation{
		Id: text(o.ID), Kind: pb.OperationKind(o.Kind), Vm: text(o.VM), Server: text(o.Server), Source: text(o.Source),
		Phase: text(o.Phase), Outcome: pb.OperationOutcome(o.Outcome), Error: text(o.Error), Requested: Mark(o.Requested),
		RequestId: text(o.RequestID), StartEpoch: int64(o.StartEpoch), Cancel: o.Cancel, Finished: stamp(o.Finished),
		Progress: Progress(o.Progress), Parent: text(o.Parent), Attempt: number(o.Attempt),
	}
}

// ParseOperation is the reverse of Operation; Revision stays 0. Errors are pool.ErrInvalid.
func ParseOperation(m *pb.Operation) (pool.Operation, error) {
	var p parser
	o := pool.Operation{
		ID: pool.OperationID(m.GetId()), Kind: enum(&p, "kind", m.GetKind(), pool.OperationShutdownServer),
		VM: pool.VMID(m.GetVm()), Server: pool.ServerID(m.GetServer()), Source: pool.ServerID(m.GetSource()),
		Phase: m.GetPhase(), Outcome: enum(&p, "outcome", m.GetOutcome(), pool.OutcomeCancelled), Error: m.GetError(),
		Requested: p.mark("requested", m.GetRequested()), RequestID: m.GetRequestId(),
		StartEpoch: pool.Epoch(m.GetStartEpoch()), Cancel: m.GetCancel(), Finished: p.time("finished", m.GetFinished()),
		Parent: pool.OperationID(m.GetParent()), Attempt: int(m.GetAttempt()),
	}
	progress, err := ParseProgress(m.GetProgress())
	o.Progress = progress
	p.fail("progress", err)
	return o, p.err
}

// Progress returns the message of a transfer's progress, or nil when nothing is known.
func Progress(v pool.Progress) *pb.Progress {
	if v == (pool.Progress{}) {
		return nil
	}
	return &pb.Progress{
		ItemsDone: number(v.ItemsDone), ItemsTotal: number(v.ItemsTotal), BytesDone: v.BytesDone, BytesTotal: v.BytesTotal,
		BytesPerSecond: v.BytesPerSecond, ExpectedDowntime: span(v.ExpectedDowntime),
		EstimatedTimeToFinish: span(v.EstimatedTimeToFinish),
	}
}

// ParseProgress is the reverse of Progress. Errors are pool.ErrInvalid.
func ParseProgress(m *pb.Progress) (pool.Progress, error) {
	var p parser
	v := pool.Progress{
		ItemsDone: int(m.GetItemsDone()), ItemsTotal: int(m.GetItemsTotal()),
		BytesDone: m.GetBytesDone(), BytesTotal: m.GetBytesTotal(), BytesPerSecond: m.GetBytesPerSecond(),
		ExpectedDowntime:      p.duration("expectedDowntime", m.GetExpectedDowntime()),
		EstimatedTimeToFinish: p.duration("estimatedTimeToFinish", m.GetEstimatedTimeToFinish()),
	}
	return v, p.err
}

// Event returns the message of one line of history, without its revision.
func Event(e pool.Event) *pb.Event {
	return &pb.Event{
		Id: text(e.ID), At: stamp(e.At), Kind: text(e.Kind), Server: text(e.Server), Vm: text(e.VM), Actor: text(e.Actor),
		Text: text(e.Text), Operation: text(e.Operation), LeaderRevision: int64(e.LeaderRevision), Audit: audit(e.Audit),
	}
}

// ParseEvent is the reverse of Event; Revision stays 0. Errors are pool.ErrInvalid.
func ParseEvent(m *pb.Event) (pool.Event, error) {
	var p parser
	e := pool.Event{
		Audit: parseAudit(m.GetAudit()),
		ID:    pool.EventID(m.GetId()), At: p.time("at", m.GetAt()), Kind: m.GetKind(), Server: pool.ServerID(m.GetServer()),
		VM: pool.VMID(m.GetVm()), Actor: m.GetActor(), Text: m.GetText(), Operation: pool.OperationID(m.GetOperation()),
		LeaderRevision: pool.Revision(m.GetLeaderRevision()),
	}
	return e, p.err
}

func audit(a *pool.Audit) *pb.Audit {
	if a == nil {
		return nil
	}
	return &pb.Audit{Role: text(a.Role), Serial: text(a.Serial), From: text(a.From), Method: text(a.Method), RequestId: text(a.RequestID),
		Before: text(a.Before), After: text(a.After)}
}

func parseAudit(m *pb.Audit) *pool.Audit {
	if m == nil {
		return nil
	}
	return &pool.Audit{Role: m.GetRole(), Serial: m.GetSerial(), From: m.GetFrom(), Method: m.GetMethod(), RequestID: m.GetRequestId(),
		Before: m.GetBefore(), After: m.GetAfter()}
}

// Revocation builds the message of a revocation.
func Revocation(r pool.Revocation) *pb.Revocation {
	return &pb.Revocation{Id: text(r.ID), IssuedUntil: stamp(r.IssuedUntil), Revoked: Mark(r.Revoked)}
}

// ParseRevocation is the reverse of Revocation; Revision stays 0. Errors are pool.ErrInvalid.
func ParseRevocation(m *pb.Revocation) (pool.Revocation, error) {
	var p parser
	r := pool.Revocation{ID: pool.RevocationID(m.GetId()), IssuedUntil: p.time("issued_until", m.GetIssuedUntil())}
	mark, err := ParseMark(m.GetRevoked())
	if p.err == nil {
		p.err = err
	}
	r.Revoked = mark
	return r, p.err
}
