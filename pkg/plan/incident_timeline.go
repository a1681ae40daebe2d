package plan

import (
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// IncidentStep is one step of an incident: a stable code and a sentence.
type IncidentStep struct {
	At     time.Time
	Server pool.ServerID
	VM     pool.VMID
	Kind   string
	Text   string
}

// Timeline returns what happened in an incident, in order of time.
func Timeline(i pool.Incident) []IncidentStep {
	var out []IncidentStep
	step := func(at time.Time, s pool.ServerID, vm pool.VMID, kind, format string, args ...any) {
		if !at.IsZero() {
			out = append(out, IncidentStep{at, s, vm, kind, fmt.Sprintf(format, args...)})
		}
	}
	for _, s := range i.Servers {
		step(s.LastSign, s.Server, "", "LAST_SIGN", "%s may have failed from here on", s.Server)
		step(s.Suspected, s.Server, "", "SUSPECTED", "%s is suspect: it gives no sign of life", s.Server)
		step(s.Lost, s.Server, "", "LOST", "%s is lost: its session ended without a release", s.Server)
		step(s.Fenced, s.Server, "", "FENCED", "%s is harmless, proof %s: %s (%s)", s.Server, s.Proof, s.Evidence, s.FencedBy)
		step(s.Back, s.Server, "", "BACK", "%s is back", s.Server)
	}
	for _, v := range i.VMs {
		down := v.Down
		if s := entryOf(&record{Incident: i}, v.From); s == nil {
			step(down, v.From, v.VM, "DOWN", "%s", v.Cause)
		} else if s.Lost.After(down) {
			down = s.Lost
		}
		for _, why := range v.Waited {
			step(down, v.From, v.VM, "WAITED", "%s waited: %s", v.VM, why)
		}
		step(v.Assigned, v.To, v.VM, "ASSIGNED", "%s", v.Why)
		step(v.Started, v.To, v.VM, "STARTED", "%s runs on %s again, after %s", v.VM, v.To, seconds(v.Downtime))
	}
	step(i.Ended, "", "", "ENDED", "every VM is settled")
	slices.SortStableFunc(out, func(a, b IncidentStep) int { return a.At.Compare(b.At) })
	return out
}
