package plan

import (
	"slices"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// restarts begins records of restarts by HA that none tells of: VMs that failed alone, servers that gave their VMs
// back, and whatever the leader before had no time to write down.
func (c *chronicle) restarts() {
	for n, e := range c.lines {
		vm, ok := c.snap.VMs.Get(e.VM)
		if e.Kind != "VM_RESTARTED" || !ok || !vm.HA || onPurpose(e) || c.recorded(e) {
			continue
		}
		claim, _ := c.snap.Claims.Get(e.VM)
		v := pool.IncidentVM{VM: e.VM, Epoch: max(claim.Epoch-1, 0), Down: e.At, Cause: brief(e.Text)}
		if end, ok := c.ended(e.VM, c.lines[:n]); ok {
			v.From, v.Down, v.Cause = end.Server, end.At, brief(end.Text)
		}
		from, fenced := c.fencedIn(e)
		if fenced {
			v.From = from
		}
		r := c.recordOf(v.From, fenced)
		if fenced {
			f, _ := c.snap.Fences.Get(from)
			s := c.server(r, from, f.Session)
			v.Down, v.Cause = s.LastSign, string(from)+" was lost"
		}
		// That this line is told of must outlast a VM that never runs, or it would be told of again and again.
		v.Event, v.To, v.Assigned, v.Why = e.ID, e.Server, e.At, brief(e.Text)
		r.VMs = append(r.VMs, v)
	}
}

// onPurpose reports whether a restart belongs to a server that was shut down on purpose.
func onPurpose(e pool.Event) bool {
	return strings.Contains(e.Text, "after "+pool.CauseServerShutdown.String())
}

// recorded reports whether a record tells of the restart, or is about to.
func (c *chronicle) recorded(e pool.Event) bool {
	for _, r := range c.records {
		for _, v := range r.VMs {
			if v.VM == e.VM && (v.Recovery == pool.RecoveryPending || e.ID <= v.Event || !e.At.After(v.Started)) {
				return true
			}
		}
	}
	return false
}

// ended returns the latest line that tells of the VM's end, after which it was not started again.
func (c *chronicle) ended(vm pool.VMID, lines []pool.Event) (pool.Event, bool) {
	for _, e := range slices.Backward(lines) {
		if e.VM != vm {
			continue
		}
		return e, e.Kind == "VM_ENDED"
	}
	return pool.Event{}, false
}

// fencedIn returns the server whose fence the line names as the reason.
func (c *chronicle) fencedIn(e pool.Event) (pool.ServerID, bool) {
	for _, f := range slices.Backward(c.lines) {
		if (f.Kind == "SERVER_FENCED" || f.Kind == "SERVER_CONFIRMED_FENCED") && strings.Contains(e.Text, "since "+string(f.Server)+" is fenced by ") {
			return f.Server, true
		}
	}
	return "", false
}

// follow brings a record up to date, and ends it when nothing in it is pending.
func (c *chronicle) follow(r *record) {
	for i := range r.Servers {
		c.followServer(&r.Servers[i])
	}
	pending, abnormal := false, false
	for i := range r.VMs {
		v := &r.VMs[i]
		if v.Recovery == pool.RecoveryPending {
			c.followVM(r, v)
			abnormal = abnormal || v.Recovery != pool.RecoveryRestarted
		}
		pending = pending || v.Recovery == pool.RecoveryPending
	}
	switch {
	case pending:
		r.Ended = time.Time{}
	case abnormal:
		r.Ended = c.in.Wall
	case r.Open() || len(r.VMs) > len(r.was.VMs):
		r.Ended = lastStep(pool.Incident{Servers: r.Servers, VMs: r.VMs})
	}
}

// followVM looks at what has become of a VM.
func (c *chronicle) followVM(r *record, v *pool.IncidentVM) {
	s := entryOf(r, v.From)
	if s != nil {
		v.Down = s.LastSign
	}
	vm, known := c.snap.VMs.Get(v.VM)
	claim, claimed := c.snap.Claims.Get(v.VM)
	switch {
	case !known:
		v.Recovery = pool.RecoveryRemoved
	case !claimed:
	case claim.Epoch > v.Epoch && claim.Server != "":
		c.followStart(s, v, claim)
	case vm.Desired != pool.DesiredRunning && claim.Phase == pool.PhaseUnassigned:
		v.Recovery = pool.RecoveryStopped
	case !c.snap.Config.HA || !vm.HA:
		v.Recovery = pool.RecoveryLeft
		wait(v, "HA was switched off")
	case claim.Phase == pool.PhaseUnassigned:
		c.followWait(v)
	case c.snap.Alive(claim.Server, claim.Session) && !c.troubled[claim.Server]:
		v.Recovery = pool.RecoveryRanOn
	default:
		if a, ok := c.snap.Alerts.Get(pool.AlertID("fencing-" + string(v.From))); ok {
			wait(v, a.Text)
		}
	}
}

// entryOf returns the record's latest entry for a server; nil if there is none.
func entryOf(r *record, id pool.ServerID) *pool.IncidentServer {
	for i := len(r.Servers) - 1; i >= 0; i-- {
		if r.Servers[i].Server == id {
			return &r.Servers[i]
		}
	}
	return nil
}

// followStart notes who starts the VM, and when it runs.
func (c *chronicle) followStart(s *pool.IncidentServer, v *pool.IncidentVM, claim pool.Claim) {
	if v.To != claim.Server {
		v.To, v.Assigned = claim.Server, claim.Since
	}
	for _, e := range slices.Backward(c.lines) {
		if e.VM != v.VM || e.Server != claim.Server || e.Kind != "VM_RESTARTED" && e.Kind != "VM_ASSIGNED" || e.At.Before(v.Down) {
			continue
		}
		if e.ID > v.Event {
			v.Event, v.Assigned, v.Why = e.ID, e.At, brief(e.Text)
		}
		break
	}
	st, ok := c.snap.States.Get(v.VM)
	runs := ok && st.Server == claim.Server && st.Epoch == claim.Epoch && (st.State == pool.RunRunning || st.State == pool.RunPaused)
	if !runs || !claim.Phase.Owned() {
		return
	}
	v.Recovery, v.Started = pool.RecoveryRestarted, st.Since
	v.Downtime = max(0, st.Since.Sub(v.Down))
	if s != nil && s.Proof == pool.ProofNone {
		c.released(s, v)
	}
}

// released notes that a server which came back had given the VM up itself.
func (c *chronicle) released(s *pool.IncidentServer, v *pool.IncidentVM) {
	s.Proof, s.Fenced, s.FencedBy = pool.ProofReleased, s.Back, "agent "+string(s.Server)
	s.Evidence = "its agent released the VMs after it had seen them dead"
	if s.Fenced.IsZero() {
		s.Fenced = v.Assigned
	}
}

// followWait notes why nobody owns the VM.
func (c *chronicle) followWait(v *pool.IncidentVM) {
	if h, _ := c.snap.Homes.Get(v.VM); h.Failed {
		v.Recovery = pool.RecoveryFailed
		wait(v, h.FailedReason)
		return
	}
	if a, ok := c.snap.Alerts.Get(pool.AlertID("vm-waiting-" + string(v.VM))); ok {
		wait(v, strings.TrimPrefix(a.Text, string(v.VM)+" waits: "))
	}
}

// mostWaits bounds the reasons that are kept for one VM.
const mostWaits = 5

// wait adds a reason, if it is a new one.
func wait(v *pool.IncidentVM, why string) {
	if why = brief(why); len(v.Waited) < mostWaits && !slices.Contains(v.Waited, why) {
		v.Waited = append(slices.Clone(v.Waited), why)
	}
}
