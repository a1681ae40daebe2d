package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Alerts of servers that work, but not as they should.
const (
	// AlertTrouble: something on a server that its agent needs does not answer.
	AlertTrouble pool.AlertKind = "SERVER_TROUBLE"
	// AlertBlocked: a server cannot be emptied.
	AlertBlocked pool.AlertKind = "EVACUATION_BLOCKED"
)

// troubleAlerts: servers whose agents miss a guard or libvirt, and those that cannot be emptied.
func (p *planner) troubleAlerts(raise raiseFunc) {
	for _, id := range slices.Sorted(maps.Keys(p.servers)) {
		s := p.servers[id]
		if !s.up || s.fencedUp() {
			continue
		}
		if s.member.Trouble != "" {
			raise("server-trouble-"+string(id), AlertTrouble, id, "", "SERVER_TROUBLE", fmt.Sprintf("%s: %s", id, s.member.Trouble))
		}
		if why := p.blocked[id]; why != "" {
			raise("blocked-"+string(id), AlertBlocked, id, "", "EVACUATION_BLOCKED", fmt.Sprintf("%s cannot be emptied: %s", id, why))
		}
	}
}

// stubbornFor is for how long a server must have tried in vain to end a VM before those who asked are told that it failed.
const stubbornFor = 10 * time.Second

// stubborn says why an operation that waits for the end of a VM has failed: its owner has reported for a while that it
// cannot end it. The owner goes on trying. It is empty if there is no such report, or it is still new.
func (p *planner) stubborn(claim pool.Claim) string {
	st, ok := p.snap.States.Get(claim.VM)
	if !ok || st.Server != claim.Server || st.Epoch != claim.Epoch || st.State != pool.RunStopping || !strings.HasPrefix(st.Reason, pool.CannotEnd) {
		return ""
	}
	if left := stubbornFor - p.in.Wall.Sub(st.Since); left > 0 {
		p.wake(p.in.Now.Add(min(left, stubbornFor)))
		return ""
	}
	return fmt.Sprintf("%s; %s goes on trying", st.Reason, claim.Server)
}
