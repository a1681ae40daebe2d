package api

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/wire"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// GetPool returns the pool at a glance.
func (s *Server) GetPool(_ context.Context, _ *pb.GetPoolRequest) (*pb.GetPoolResponse, error) {
	v, err := s.view()
	if err != nil {
		return nil, err
	}
	return &pb.GetPoolResponse{Pool: v.pool()}, nil
}

// UpdatePool changes pool policy.
func (s *Server) UpdatePool(ctx context.Context, r *pb.UpdatePoolRequest) (*pb.UpdatePoolResponse, error) {
	if len(r.GetSet()) == 0 {
		return nil, fmt.Errorf("nothing to set: give KEY=VALUE: %w", pool.ErrInvalid)
	}
	cfg, err := s.changeConfig(ctx, r.GetWhy(), func(snap *pool.Snapshot, c *pool.Config, m pool.Mark) (string, error) {
		for _, key := range slices.Sorted(maps.Keys(r.GetSet())) {
			if err := pool.SetPool(c, key, r.GetSet()[key]); err != nil {
				return "", err
			}
		}
		if c.LeaseTTL != snap.Config.LeaseTTL && c.HA {
			return "", pool.Refuse("HA_IS_ON", "holdfast ha off; set it; restart the agents one by one; holdfast ha on",
				"the lease's life-time cannot change while HA is on")
		}
		if c.LeaseTTL != snap.Config.LeaseTTL && s.cfg.CheckTTL != nil {
			if err := s.cfg.CheckTTL(c.LeaseTTL); err != nil {
				return "", err
			}
		}
		return fmt.Sprintf("%s set %s on the pool", m.By, settingsText(r.GetSet())), nil
	})
	return &pb.UpdatePoolResponse{Config: cfg}, err
}

// SetPoolHA switches the pool's half of HA.
func (s *Server) SetPoolHA(ctx context.Context, r *pb.SetPoolHARequest) (*pb.SetPoolHAResponse, error) {
	if r.GetOn() {
		if err := s.checkHA(ctx); err != nil {
			return nil, err
		}
	}
	cfg, err := s.changeConfig(ctx, r.GetWhy(), func(_ *pool.Snapshot, c *pool.Config, m pool.Mark) (string, error) {
		if c.HA == r.GetOn() {
			return "", nil
		}
		c.HA, c.HAMark = r.GetOn(), m
		return fmt.Sprintf("%s switched HA of the pool %s", m.By, onOff(r.GetOn())), nil
	})
	return &pb.SetPoolHAResponse{Config: cfg}, err
}

// checkHA refuses HA where it could not work.
func (s *Server) checkHA(ctx context.Context) error {
	snap, err := s.snapshot()
	if err != nil {
		return err
	}
	if snap.Config.HA {
		return nil
	}
	if snap.Servers.Len() < 2 {
		return pool.Refuse("TOO_FEW_SERVERS", "add a server: holdfast-agent token create, then holdfast-agent join there",
			"HA needs at least two servers; this pool has %d", snap.Servers.Len())
	}
	for id, m := range snap.Members.All() {
		if pool.TooOld(m.Version) {
			return pool.Refuse("AGENT_TOO_OLD", "upgrade the agent there",
				"the agent on %s has version %s; HA needs %s or newer", id, m.Version, pool.MinVersion)
		}
	}
	return s.cfg.CanLoseOne(ctx)
}

// SetFreeze pauses or resumes HA.
func (s *Server) SetFreeze(ctx context.Context, r *pb.SetFreezeRequest) (*pb.SetFreezeResponse, error) {
	cfg, err := s.changeConfig(ctx, r.GetWhy(), func(_ *pool.Snapshot, c *pool.Config, m pool.Mark) (string, error) {
		if c.Frozen == r.GetFrozen() {
			return "", nil
		}
		c.Frozen, c.FrozenMark = r.GetFrozen(), m
		if c.Frozen {
			return fmt.Sprintf("%s froze HA: nothing is fenced, moved or restarted until it is unfrozen", m.By), nil
		}
		return fmt.Sprintf("%s ended the freeze of HA", m.By), nil
	})
	return &pb.SetFreezeResponse{Config: cfg}, err
}

// changeConfig applies change to the pool's policy; an empty event text means that nothing changes.
func (s *Server) changeConfig(ctx context.Context, why string, change func(*pool.Snapshot, *pool.Config, pool.Mark) (string, error)) (*pb.PoolConfig, error) {
	m, err := s.mark(ctx, why)
	if err != nil {
		return nil, err
	}
	err = s.applyRetry(ctx, func(snap *pool.Snapshot) (pool.Change, error) {
		next := snap.Config
		text, err := change(snap, &next, m)
		if err != nil || text == "" {
			return pool.Change{}, err
		}
		if err := next.Validate(); err != nil {
			return pool.Change{}, err
		}
		return pool.Change{Config: &next, Events: []pool.Event{s.event("POOL_SET", m, "", "", "%s", text)}}, nil
	})
	if err != nil {
		return nil, err
	}
	snap, err := s.snapshot()
	if err != nil {
		return nil, err
	}
	return wire.Config(snap.Config), nil
}
