package app

import (
	"context"
	"fmt"

	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// AdmitIncoming reports whether this server takes in the copy of a VM that another makes; nil if it does.
func (a *Agent) AdmitIncoming(ctx context.Context, op pool.OperationID, vm pool.VMID, epoch pool.Epoch) error {
	rec, err := a.reconciler()
	if err != nil {
		return err
	}
	return rec.Admits(ctx, op, vm, epoch)
}

// Incoming says how the copy of a VM that another server makes stands here.
func (a *Agent) Incoming(ctx context.Context, op pool.OperationID, vm pool.VMID, session pool.Session) (local.Confirmed, error) {
	rec, err := a.reconciler()
	if err != nil {
		return local.Confirmed{}, err
	}
	return rec.Incoming(ctx, op, vm, session)
}

// ReadClaim reads a claim linearizably; ok is false if there is none.
func (a *Agent) ReadClaim(ctx context.Context, vm pool.VMID) (c pool.Claim, ok bool, err error) {
	return a.data.ReadClaim(ctx, vm)
}

func (a *Agent) reconciler() (*local.Reconciler, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.rec == nil {
		return nil, fmt.Errorf("the agent of %s is only starting: %w", a.cfg.Server, pool.ErrUnavailable)
	}
	return a.rec, nil
}
