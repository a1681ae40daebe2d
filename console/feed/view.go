package feed

import (
	"slices"
	"strings"
	"time"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// View is the pool at one revision, merged from a snapshot and what came after it. It and everything it points to
// are immutable.
type View struct {
	// Revision is what the last message brought the view to.
	Revision int64
	// ServedBy is the server whose agent told it, and ServerTime that agent's wall clock.
	ServedBy   string
	ServerTime time.Time
	Pool       *pb.PoolView
	// Servers and VMs are in name order, Operations by the time they were asked for, Events oldest first.
	Servers    []*pb.ServerView
	VMs        []*pb.VMView
	Operations []*pb.Operation
	Events     []*pb.Event
}

// Server returns the server of that name, or nil.
func (v *View) Server(id string) *pb.ServerView {
	if v == nil {
		return nil
	}
	i, ok := slices.BinarySearchFunc(v.Servers, id, func(s *pb.ServerView, id string) int { return strings.Compare(s.GetServer().GetId(), id) })
	if !ok {
		return nil
	}
	return v.Servers[i]
}

// VM returns the VM of that name, or nil.
func (v *View) VM(id string) *pb.VMView {
	if v == nil {
		return nil
	}
	i, ok := slices.BinarySearchFunc(v.VMs, id, func(s *pb.VMView, id string) int { return strings.Compare(s.GetVm().GetId(), id) })
	if !ok {
		return nil
	}
	return v.VMs[i]
}

// Operation returns the operation of that ID, or nil.
func (v *View) Operation(id string) *pb.Operation {
	if v == nil {
		return nil
	}
	for _, o := range v.Operations {
		if o.GetId() == id {
			return o
		}
	}
	return nil
}

// ByRequest returns the operation that a request made, or nil.
func (v *View) ByRequest(requestID string) *pb.Operation {
	if v == nil || requestID == "" {
		return nil
	}
	for _, o := range v.Operations {
		if o.GetRequestId() == requestID {
			return o
		}
	}
	return nil
}

// Running returns the operations that have not ended, oldest first.
func (v *View) Running() []*pb.Operation {
	if v == nil {
		return nil
	}
	var out []*pb.Operation
	for _, o := range v.Operations {
		if o.GetOutcome() == pb.OperationOutcome_OPERATION_OUTCOME_RUNNING {
			out = append(out, o)
		}
	}
	return out
}

// LastEvent is the newest event, or nil.
func (v *View) LastEvent() *pb.Event {
	if v == nil || len(v.Events) == 0 {
		return nil
	}
	return v.Events[len(v.Events)-1]
}

// Leader is the server that leads; empty when there is none.
func (v *View) Leader() string {
	if v == nil {
		return ""
	}
	return v.Pool.GetLeader()
}

// Config is the pool's policy.
func (v *View) Config() *pb.PoolConfig {
	if v == nil {
		return nil
	}
	return v.Pool.GetConfig()
}
