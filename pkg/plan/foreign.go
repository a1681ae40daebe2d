package plan

import (
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// AlertForeign is of a key that somebody changed who is not Holdfast.
const AlertForeign pool.AlertKind = "FOREIGN_WRITE"

const (
	// ForeignNews is for how long an agent that saw a stranger's write sees to it that it is reported: others lead first.
	ForeignNews = 10 * time.Minute
	// ForeignShown is how long the alert stays open.
	ForeignShown = 24 * time.Hour
)

// giveBack writes the last claim that Holdfast has written in place of a stranger's. Nobody has started anything by that one:
// a start is written, and the write compares the claim. So it is as if the stranger's had not been, and what follows is
// the ordinary course of things: an owner that has ended its VM meanwhile releases it, one that is lost is fenced.
func (p *planner) giveBack(c *subject, before pool.Claim) {
	next := before
	next.Revision, next.Replaces = c.claim.Revision, c.claim.Revision
	why := fmt.Sprintf("the claim of %s was changed by a stranger; it is as before: %s", c.vm.ID, before.Standing())
	p.add(Action{Kind: RestoreClaim, VM: c.vm.ID, Server: before.Server, Why: why, Change: pool.Change{Claims: []pool.Claim{next},
		SameVMs: []pool.VM{c.vm}, Events: []pool.Event{p.event("CLAIM_RESTORED", before.Server, c.vm.ID, why)}}})
}

// foreignAlerts: what strangers wrote stays open for a day, whoever leads. There is nothing by which to see that it is over.
func (p *planner) foreignAlerts() {
	for _, f := range p.in.Foreign {
		id := foreignID(f)
		text := foreignText(f)
		if old, ok := p.snap.Alerts.Get(id); ok && old.Text == text {
			continue
		}
		a := pool.Alert{ID: id, Kind: AlertForeign, Server: f.Server, VM: f.VM, Text: text, Since: p.in.Wall}
		p.add(Action{Kind: RaiseAlert, Key: "alert:" + string(id), VM: f.VM, Server: f.Server, Why: text, Change: pool.Change{
			Alerts: []pool.Alert{a}, Events: []pool.Event{p.event(string(AlertForeign), f.Server, f.VM, text)}}})
	}
	for id, a := range p.snap.Alerts.All() {
		if a.Kind != AlertForeign || slices.ContainsFunc(p.in.Foreign, func(f pool.Foreign) bool { return foreignID(f) == id }) {
			continue
		}
		left := ForeignShown - p.in.Wall.Sub(a.Since)
		if left > 0 {
			p.wake(p.in.Now.Add(min(left, ForeignShown)))
			continue
		}
		p.clear(a)
	}
}

func foreignID(f pool.Foreign) pool.AlertID { return pool.AlertID("foreign-" + tail(f.Key)) }

// foreignText follows from the write alone, so that no two leaders say it differently.
func foreignText(f pool.Foreign) string {
	rest := "; find out who may write to the pool's etcd; this alert closes after 24 hours"
	if f.VM == "" {
		return fmt.Sprintf("somebody who is not Holdfast ended a session in etcd, as told at revision %d: %s: %s", f.Revision, f.Key, f.Text) + rest
	}
	return fmt.Sprintf("somebody who is not Holdfast wrote to etcd at revision %d: %s: %s; no VM is started by it, and the claim is written again as it was",
		f.Revision, f.Key, f.Text) + rest
}
