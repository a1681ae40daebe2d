package wire

import (
	"slices"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Incident returns the message of the record of an outage, without its revision.
func Incident(i pool.Incident) *pb.Incident {
	return &pb.Incident{
		Id: text(i.ID), Why: text(i.Why), Began: stamp(i.Began), Ended: stamp(i.Ended), Updated: stamp(i.Updated), By: text(i.By),
		Servers: convert(i.Servers, incidentServer), Vms: convert(i.VMs, incidentVM),
	}
}

func incidentServer(s pool.IncidentServer) *pb.IncidentServer {
	return &pb.IncidentServer{
		Server: text(s.Server), Session: int64(s.Session), LastSign: stamp(s.LastSign), Suspected: stamp(s.Suspected), Lost: stamp(s.Lost), Fenced: stamp(s.Fenced),
		Back: stamp(s.Back), Proof: pb.Proof(s.Proof), Evidence: text(s.Evidence), FencedBy: text(s.FencedBy),
	}
}

func incidentVM(v pool.IncidentVM) *pb.IncidentVM {
	return &pb.IncidentVM{
		Vm: text(v.VM), From: text(v.From), Epoch: int64(v.Epoch), Down: stamp(v.Down), Cause: text(v.Cause), Waited: texts(v.Waited),
		To: text(v.To), Assigned: stamp(v.Assigned), Why: text(v.Why), Event: text(v.Event), Started: stamp(v.Started),
		Downtime: span(v.Downtime), Recovery: pb.Recovery(v.Recovery),
	}
}

// ParseIncident is the reverse of Incident; Revision stays 0. Errors are pool.ErrInvalid.
func ParseIncident(m *pb.Incident) (pool.Incident, error) {
	var p parser
	i := pool.Incident{
		ID: pool.IncidentID(m.GetId()), Why: m.GetWhy(), Began: p.time("began", m.GetBegan()), Ended: p.time("ended", m.GetEnded()),
		Updated: p.time("updated", m.GetUpdated()), By: m.GetBy(),
	}
	for _, s := range m.GetServers() {
		i.Servers = append(i.Servers, p.incidentServer(s))
	}
	for _, v := range m.GetVms() {
		i.VMs = append(i.VMs, p.incidentVM(v))
	}
	return i, p.err
}

func (p *parser) incidentServer(m *pb.IncidentServer) pool.IncidentServer {
	return pool.IncidentServer{
		Server: pool.ServerID(m.GetServer()), Session: pool.Session(m.GetSession()), LastSign: p.time("lastSign", m.GetLastSign()), Suspected: p.time("suspected", m.GetSuspected()),
		Lost: p.time("lost", m.GetLost()), Fenced: p.time("fenced", m.GetFenced()), Back: p.time("back", m.GetBack()),
		Proof: enum(p, "proof", m.GetProof(), pool.ProofConfirmed), Evidence: m.GetEvidence(), FencedBy: m.GetFencedBy(),
	}
}

func (p *parser) incidentVM(m *pb.IncidentVM) pool.IncidentVM {
	return pool.IncidentVM{
		VM: pool.VMID(m.GetVm()), From: pool.ServerID(m.GetFrom()), Epoch: pool.Epoch(m.GetEpoch()), Down: p.time("down", m.GetDown()),
		Cause: m.GetCause(), Waited: slices.Clone(m.GetWaited()), To: pool.ServerID(m.GetTo()), Assigned: p.time("assigned", m.GetAssigned()),
		Why: m.GetWhy(), Event: pool.EventID(m.GetEvent()), Started: p.time("started", m.GetStarted()),
		Downtime: p.duration("downtime", m.GetDowntime()), Recovery: enum(p, "recovery", m.GetRecovery(), pool.RecoveryLeft),
	}
}
