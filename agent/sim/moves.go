package sim

import (
	"context"

	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

var _ local.Peers = (*peers)(nil)

// Prepare asks the other agent for its consent. Simulated hypervisors reach each other without sockets.
func (m *peers) Prepare(ctx context.Context, to pool.ServerID, op pool.OperationID, vm pool.VMID, epoch pool.Epoch) (local.Link, error) {
	return local.Link{}, m.call(ctx, to, func(ctx context.Context, other *simAgent) error { return other.AdmitIncoming(ctx, op, vm, epoch) })
}

// ConfirmIncoming asks the other agent about its copy.
func (m *peers) ConfirmIncoming(ctx context.Context, to pool.ServerID, op pool.OperationID, vm pool.VMID, session pool.Session) (local.Confirmed, error) {
	var got local.Confirmed
	err := m.call(ctx, to, func(ctx context.Context, other *simAgent) error {
		c, err := other.Incoming(ctx, op, vm, session)
		got = c
		return err
	})
	return got, err
}

// Close closes the connections that run through this agent.
func (m *peers) Close(op pool.OperationID) { m.a.server.CloseWay(op) }
