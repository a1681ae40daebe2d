package leader

import (
	"time"

	"github.com/holdfast-ha/holdfast/pkg/plan"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// chronicleAfter is how long the records of incidents wait for a moment at which nothing else is to be done.
const chronicleAfter = 5 * time.Second

// chronicle returns the records of incidents that are to be written, and when to ask again. While there is anything
// else to do they wait: no recovery waits for its own record.
func (l *Leader) chronicle(in plan.Input, quiet bool) ([]plan.Action, pool.Instant) {
	if !quiet && in.Now.Sub(l.chronicled) < chronicleAfter {
		return nil, 0
	}
	l.chronicled = in.Now
	res := plan.Incidents(in)
	return res.Actions, res.WakeAt
}
