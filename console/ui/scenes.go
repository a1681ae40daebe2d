package ui

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/console/feed"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// bannerState remembers which failover the banner speaks of.
type bannerState struct {
	operation string
	shown     bool
	// away are the failovers whose banner was sent away, by server, with when each was lost.
	away map[string]time.Time
}

// banner is a full-width line below the tabs.
type banner struct {
	tone tone
	text string
	// hint is what can be done; it stays whole when the text is too long.
	hint string
}

// banners are what must not be overlooked now, the most urgent first.
func (m *Model) banners() []banner {
	var out []banner
	v := m.shown()
	switch m.freshness() {
	case feed.Stale:
		out = append(out, banner{tone: alarm, text: m.staleText()})
	case feed.Resync:
		out = append(out, banner{tone: busy, text: "connected again; waiting for the present state"})
	case feed.EtcdLost:
		out = append(out, banner{tone: alarm, text: fmt.Sprintf("ETCD LOST %s - failsafe: VMs keep running, nothing can be changed or recovered", span(m.now.Sub(m.link.EtcdLost)))})
	case feed.NoLeader:
		out = append(out, banner{tone: alarm, text: fmt.Sprintf("NO LEADER %s - electing, VMs keep running", span(m.now.Sub(m.link.NoLeader)))})
	}
	if v.Pool == nil {
		return out
	}
	c := v.Config()
	switch {
	case !c.GetHa():
		out = append(out, banner{tone: alarm, text: fmt.Sprintf("HA OFF%s: nothing is restarted elsewhere, %s", byWhom(m.now, c.GetHaMark()), plural(m.index.unprotected, "unprotected VM"))})
	case c.GetFrozen():
		out = append(out, banner{tone: alarm, text: fmt.Sprintf("HA FROZEN%s: nothing is fenced, moved or restarted, %s", byWhom(m.now, c.GetFrozenMark()), plural(m.index.unprotected, "unprotected VM"))})
	}
	for _, s := range v.Servers {
		if len(out) >= 4 {
			break
		}
		if b, ok := m.lostBanner(s, c); ok {
			out = append(out, b)
		} else if f := m.failoverShown(s); f != nil && c.GetHa() && !c.GetFrozen() {
			out = append(out, banner{busy, f.sentence(m), m.failoverHint(6)})
		}
	}
	if op := m.bannerOperation(v); op != nil && m.banner.shown && len(out) < 4 {
		out = append(out, banner{busy, m.failoverText(op), m.failoverHint(4)})
	}
	return out
}

// failoverShown is the failover of a server that the banner speaks of; nil: none, or it was sent away.
func (m *Model) failoverShown(s *pb.ServerView) *failover {
	f := m.failoverOf(s)
	if f == nil || f.over(m.now) || m.banner.away[f.server].Equal(f.lost) {
		return nil
	}
	return f
}

// sendAway takes the banners of failovers away; false if there were none.
func (m *Model) sendAway() bool {
	were := m.banner.shown
	m.banner.shown = false
	for _, s := range m.shown().Servers {
		if f := m.failoverShown(s); f != nil {
			if m.banner.away == nil {
				m.banner.away = map[string]time.Time{}
			}
			m.banner.away[f.server] = f.lost
			were = true
		}
	}
	return were
}

func (m *Model) staleText() string {
	s := "STALE since " + m.link.Heard.Format(time.TimeOnly)
	switch {
	case m.link.Denied:
		s += " - refused: " + m.link.Err.Error() + " (r tries again)"
	case m.link.NextTry.IsZero():
		s += fmt.Sprintf(" - reconnecting, try %d", max(m.link.Try, 1))
	default:
		s += fmt.Sprintf(" - reconnecting, try %d, next in %s (r now)", m.link.Try+1, span(m.link.NextTry.Sub(m.now)+time.Second-1))
	}
	return s
}

// lostBanner is the alarm for a server that is lost and not fenced: its VMs may run or not, and nobody may start
// them elsewhere.
func (m *Model) lostBanner(s *pb.ServerView, c *pb.PoolConfig) (banner, bool) {
	if !serverIs(s, pb.ServerState_SERVER_STATE_LOST) || serverIs(s, pb.ServerState_SERVER_STATE_FENCED) {
		return banner{}, false
	}
	id := s.GetServer().GetId()
	if !c.GetHa() {
		return banner{tone: alarm, text: id + " lost - HA IS OFF - nothing will be restarted"}, true
	}
	reason := s.GetReason()
	if tried := m.triedProofs(id); len(tried) > 0 {
		var proofs []string
		for _, t := range tried {
			if w := word(t.GetProof()); !slices.Contains(proofs, w) {
				proofs = append(proofs, w)
			}
		}
		reason = "tried, and no proof: " + strings.Join(proofs, ", ")
	}
	return banner{alarm, "WAITING FOR FENCING: " + withReason(id+" is lost and may still run "+plural(int(s.GetVms()), "VM"), reason), "(Enter on it: what to do)"}, true
}

// bannerOperation is the failover that the banner speaks of.
func (m *Model) bannerOperation(v *feed.View) *pb.Operation {
	if m.banner.operation == "" {
		return nil
	}
	return m.operation(v, m.banner.operation)
}

func (m *Model) failoverText(o *pb.Operation) string {
	s := fmt.Sprintf("FAILOVER %s %s %s %s", subject(o), m.bar(o, 10), word(o.GetOutcome()), stopwatch(m.took(o)))
	return s + prefixed(" - ", joinParts(o.GetPhase(), o.GetError()))
}

// failoverHint says on which screen all of it is told.
func (m *Model) failoverHint(screen int) string {
	if m.class() <= classS {
		return fmt.Sprintf("(%d: all)", screen)
	}
	return fmt.Sprintf("(%d: all of it, Esc: away)", screen)
}

// scenes notices what begins or ends between two views.
func (m *Model) scenes(before *feed.View) {
	for _, o := range m.view.Operations {
		if o.GetKind() != pb.OperationKind_OPERATION_KIND_FAILOVER || o.GetOutcome() != pb.OperationOutcome_OPERATION_OUTCOME_RUNNING {
			continue
		}
		if m.banner.operation != o.GetId() {
			m.banner.operation, m.banner.shown = o.GetId(), true
		}
	}
	if o := m.bannerOperation(m.view); o != nil && o.GetFinished() != nil && m.now.Sub(o.GetFinished().AsTime()) > 30*time.Second {
		m.banner.shown = false
	}
	_ = before
}

// drawBanner draws a banner at the top of r and returns how many lines that took: one, or two for an alarm that is longer
// on a terminal that has the room.
func (m *Model) drawBanner(r region, b banner) int {
	w, all := r.w-2, []string{b.text}
	if b.tone == alarm && m.h >= 24 {
		if all = wrap(b.text, w); len(all) > 2 {
			all = []string{all[0], strings.Join(all[1:], " ")}
		}
		if len(all) == 1 && b.hint != "" && cells(b.text)+2+cells(b.hint) > w {
			all, b.hint = append(all, b.hint), ""
		}
	}
	for y, line := range all {
		if b.tone == alarm {
			for x := range r.w {
				r.put(x, y, alarm, " ")
			}
		}
		if y < len(all)-1 || b.hint == "" {
			r.cut(1, y, w, b.tone, line)
			continue
		}
		x := r.cut(1, y, w-cells(b.hint)-2, b.tone, line)
		r.put(x+2, y, b.tone, b.hint)
	}
	return len(all)
}
