package app

import (
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Subscribe sets sig at each new snapshot until the returned function is called.
func (d *data) Subscribe(sig clock.Signal) (cancel func()) { return d.mirror.Subscribe(sig) }

// Since returns the newest snapshot kept that is not newer than rev; nil if none is old enough.
func (d *data) Since(rev pool.Revision) *pool.Snapshot { return d.mirror.Since(rev) }
