package app

import "github.com/holdfast-ha/holdfast/pkg/clock"

// Subscribe sets sig at each new snapshot until the returned function is called.
func (d *data) Subscribe(sig clock.Signal) (cancel func()) { return d.mirror.Subscribe(sig) }
