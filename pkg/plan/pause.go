package plan

import (
	"fmt"
	"maps"
	"slices"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// AlertNoPause says that the pool wants VMs of an isolated server paused, and a server can only kill them.
const AlertNoPause pool.AlertKind = "CANNOT_PAUSE"

// pauseAlerts: servers on which the pool's on-isolation=pause comes to a kill.
func (p *planner) pauseAlerts(raise raiseFunc) {
	if p.cfg.OnIsolation != pool.IsolationPause || !p.cfg.HA {
		return
	}
	for _, id := range slices.Sorted(maps.Keys(p.servers)) {
		m, ok := p.snap.Members.Get(id)
		if ok && m.NoPause != "" {
			raise("cannot-pause-"+string(id), AlertNoPause, id, "", "CANNOT_PAUSE",
				fmt.Sprintf("if %s is cut off its protected VMs are killed, not paused as on-isolation says: %s", id, m.NoPause))
		}
	}
}
