package app

import (
	"context"
	"errors"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// confirmLead is asked once this agent has won an election, and reads the roster itself: the snapshot may be older
// than the vacancy. Every write of a leader compares the roster's revision, so that it stays true.
func (a *Agent) confirmLead(ctx context.Context) (bool, error) {
	r, ok, err := a.data.store.ReadRoster(ctx)
	switch {
	case errors.Is(err, pool.ErrInvalid):
		a.e.Log.Error("the roster cannot be read, so nobody may lead", "err", err)
		return false, nil
	case err != nil:
		return false, err
	case !ok:
		return true, nil
	}
	if _, waits := a.waits(); waits || !a.rules().Leads(r, a.cfg.Server) {
		return false, nil
	}
	return true, nil
}
