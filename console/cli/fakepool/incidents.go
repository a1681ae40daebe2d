package fakepool

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Incident is the one that every canned pool has on record.
func Incident() *pb.Incident {
	return &pb.Incident{
		Id: "20261122T130512-hv-06", Why: "hv-06 was lost with 2 VMs", Began: ago(15 * time.Second), Updated: ago(2 * time.Second), By: "leader hv-03",
		Servers: []*pb.IncidentServer{{Server: "hv-06", Session: 4711, LastSign: ago(15 * time.Second), Lost: ago(10 * time.Second), Fenced: ago(9 * time.Second),
			Proof: pb.Proof_PROOF_GUARD, Evidence: "guard armed, lease gone for 0.6 s", FencedBy: "leader hv-03"}},
		Vms: []*pb.IncidentVM{
			{Vm: "web-08", From: "hv-06", Epoch: 3, Down: ago(15 * time.Second), Cause: "hv-06 was lost", To: "hv-05", Assigned: ago(9 * time.Second), Why: "web-08 restarts on hv-05, since hv-06 is fenced by guard: the only server that qualifies",
				Started: ago(8 * time.Second), Downtime: durationpb.New(7 * time.Second), Recovery: pb.Recovery_RECOVERY_RESTARTED},
			{Vm: "web-gpu", From: "hv-06", Epoch: 2, Down: ago(15 * time.Second), Cause: "hv-06 was lost", Waited: []string{"no free GPU anywhere"}},
		},
	}
}

// Timeline is what happened in it.
func Timeline() []*pb.IncidentStep {
	return []*pb.IncidentStep{
		{At: ago(10 * time.Second), Server: "hv-06", Kind: "LOST", Text: "hv-06 is lost: its session ended without a release"},
		{At: ago(8 * time.Second), Server: "hv-05", Vm: "web-08", Kind: "STARTED", Text: "web-08 runs on hv-05 again, after 7.0 s"},
	}
}

// ListIncidents lists it.
func (a *Agent) ListIncidents(context.Context, *pb.ListIncidentsRequest) (*pb.ListIncidentsResponse, error) {
	return locked(a, func(_ *Pool, s *pb.Snapshot) (*pb.ListIncidentsResponse, error) {
		return &pb.ListIncidentsResponse{Incidents: []*pb.Incident{Incident()}, Revision: s.GetPool().GetRevision()}, nil
	})
}

// GetIncident returns it by its name, or as the last.
func (a *Agent) GetIncident(_ context.Context, r *pb.GetIncidentRequest) (*pb.GetIncidentResponse, error) {
	return locked(a, func(_ *Pool, s *pb.Snapshot) (*pb.GetIncidentResponse, error) {
		i := Incident()
		if r.GetIncident() != "last" && r.GetIncident() != i.GetId() {
			return nil, pool.ErrNotFound
		}
		return &pb.GetIncidentResponse{Incident: i, Revision: s.GetPool().GetRevision(), Timeline: Timeline()}, nil
	})
}
