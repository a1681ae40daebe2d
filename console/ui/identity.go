package ui

import (
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

type operationMessage = pb.Operation

// learnIdentity takes the answer to who this is. An agent that is too old to say is taken to permit everything: it
// refuses by itself.
func (m *Model) learnIdentity(a Answer) {
	if r, ok := a.Message.(*pb.WhoAmIResponse); ok && a.Err == nil {
		m.me = r
		return
	}
	if status.Code(a.Err) == codes.Unimplemented {
		m.me = &pb.WhoAmIResponse{Permitted: rpc.Permitted("admin")}
	}
}

// learnCapacity takes the pool's verdict about the loss of servers.
func (m *Model) learnCapacity(a Answer) {
	m.capacity.asked, m.capacity.err = false, a.Err
	if r, ok := a.Message.(*pb.GetCapacityResponse); ok && a.Err == nil {
		m.capacity.value = r.GetCapacity()
		m.lists[capacity].dirty = true
	}
}

// poolName is the pool for headers and questions: the context's name, or the pool's own.
func (m *Model) poolName() string {
	if m.pool.Name != "" {
		return m.pool.Name
	}
	return dashIf(m.shown().Config().GetName(), "pool")
}

// refused shows the pool's no: the reason and the way out.
func (m *Model) refused(what string, err error) {
	reason, remedy := explainError(err)
	m.open(newRefusal(what, reason, remedy))
}

// explainError splits an error into what is the matter and what to do about it.
func explainError(err error) (reason, remedy string) {
	if r, ok := rpc.RefusalOf(err); ok {
		return r.Reason, r.Remedy
	}
	reason = err.Error()
	switch {
	case errors.Is(err, pool.ErrStale):
		remedy = "somebody changed it at the same moment: look, and ask again"
	case errors.Is(err, pool.ErrUnavailable):
		remedy = "nothing was changed; ask again when the pool answers"
	}
	return reason, remedy
}
