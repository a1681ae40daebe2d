package ui

import (
	"fmt"
	"strings"

	"github.com/holdfast-ha/holdfast/console/feed"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// capacityKind lists what the loss of each server would mean, as the pool's planner says it.
var capacityKind = &kind{
	name: "servers", one: "server",
	ids: func(m *Model, _ *feed.View) []string {
		return idsOf(m.capacity.value.GetRows(), (*pb.CapacityRow).GetServer)
	},
	row: func(m *Model, _ *feed.View, id string) any {
		for _, r := range m.capacity.value.GetRows() {
			if r.GetServer() == id {
				return r
			}
		}
		return nil
	},
	text: func(_ *Model, row any) string {
		r, _ := row.(*pb.CapacityRow)
		return r.GetServer() + " " + strings.Join(r.GetNoPlace(), " ")
	},
	trouble: func(_ *Model, row any) bool {
		r, _ := row.(*pb.CapacityRow)
		return !r.GetFits()
	},
}

func init() {
	capacityKind.cols = []column{
		fitted(col("IF LOST", "server", 0, 0, func(_ *Model, r *pb.CapacityRow) (string, tone) { return r.GetServer(), plain }), 8, 24, serverNames),
		number(col("HA VMS", "vms", 6, 3, func(_ *Model, r *pb.CapacityRow) (string, tone) { return fmt.Sprint(r.GetHaVms()), plain }),
			func(r *pb.CapacityRow) float64 { return float64(r.GetHaVms()) }),
		number(col("NEEDS", "needs", 8, 2, func(_ *Model, r *pb.CapacityRow) (string, tone) { return size(r.GetNeededBytes()), plain }),
			func(r *pb.CapacityRow) float64 { return float64(r.GetNeededBytes()) }),
		col("VERDICT", "verdict", 7, 0, func(_ *Model, r *pb.CapacityRow) (string, tone) {
			if r.GetFits() {
				return "fits", good
			}
			return "NO", bad
		}),
		col("", "", 16, 5, func(m *Model, r *pb.CapacityRow) (string, tone) {
			if !r.GetFits() {
				return m.glyphs.gauge(2, 1, 14), bad
			}
			return m.glyphs.gauge(r.GetNeededBytes(), r.GetNeededBytes()+r.GetLeftBytes(), 14), bar
		}),
		col("", "note", 0, 4, func(_ *Model, r *pb.CapacityRow) (string, tone) {
			if r.GetFits() {
				return size(r.GetLeftBytes()) + " left", plain
			}
			return "no place: " + strings.Join(r.GetNoPlace(), ", "), bad
		}),
	}
}

// drawCapacity shows the pool's verdict for each server and what the whole of it means.
func (m *Model) drawCapacity(r region) {
	c := m.capacity.value
	if c == nil {
		text := "asking the pool ..."
		if m.capacity.err != nil {
			text = "the pool does not say: " + m.capacity.err.Error()
		}
		r.cut(2, 1, r.w-3, dim, text)
		return
	}
	var l lines
	l.row(piece{title, "N+1 "}, piece{m.capacityFact().tone, strings.TrimPrefix(m.capacityFact().text, "N+1 ") + "   "},
		piece{dim, policyText(c)})
	if c.GetText() != "" {
		l.add(plain, c.GetText())
	}
	if m.capacity.revision != m.shown().Revision {
		l.add(dim, "being brought up to date")
	}
	l.gap()
	n := len(l.wrapped(r.w - 2))
	l.draw(r.sub(1, 0, r.w-2, n), 0)
	m.drawList(r.rows(n, max(r.h-n-1, 0)), m.lists[capacity], true)
	r.cut(1, r.h-1, r.w-1, dim, "Enter: what would happen to each VM if that server were lost now")
}

// loss is the dialog that shows what would become of each VM if servers were lost.
type loss struct {
	pager
	servers []string
	reply   *pb.PlanLossResponse
	err     error
}

// whatIf asks what the loss of the server under the cursor would mean.
func (m *Model) whatIf() {
	if id := m.list().cursor; id != "" {
		m.openLoss([]string{id})
	}
}

func (m *Model) openLoss(ids []string) {
	d := &loss{servers: ids}
	d.title, d.w = "WHAT IF "+strings.Join(ids, ", ")+" WERE LOST NOW", 110
	d.make = d.lines
	m.open(d)
	m.ask(d.topic(), &pb.PlanLossRequest{Servers: ids})
}

func (d *loss) topic() string { return "loss " + strings.Join(d.servers, " ") }

func (d *loss) answer(_ *Model, a Answer) {
	d.err = a.Err
	if r, ok := a.Message.(*pb.PlanLossResponse); ok && a.Err == nil {
		d.reply = r
	}
}

func (d *loss) lines(m *Model) lines {
	var l lines
	switch {
	case d.err != nil:
		reason, remedy := explainError(d.err)
		l.toned("refused", reason, bad)
		l.toned("next step", remedy, accent)
		return l
	case d.reply == nil:
		l.add(dim, "asking the pool's planner ...")
		return l
	}
	l.add(plain, fmt.Sprintf("Nothing is done. This is what the leader's own planner would do, at revision %d.", d.reply.GetRevision()))
	l.row(piece{dim, "room now "}, piece{plain, d.reply.GetCapacityNow().GetText()})
	l.row(piece{dim, "after it "}, piece{plain, d.reply.GetCapacityAfter().GetText()})
	l.gap()
	l.add(dim, pad("VM", 18)+pad("PRIO", 8)+pad("MEM", 7)+pad("BECOMES", 10)+pad("TO", 10)+pad("AFTER", 8)+"WHY")
	for _, v := range d.reply.GetVms() {
		t := good
		if v.GetOutcome() != "RESTARTS" {
			t = bad
		}
		after := ""
		if v.GetAfter().AsDuration() > 0 {
			after = seconds(v.GetAfter().AsDuration())
		}
		l.row(piece{plain, pad(v.GetVm(), 18)}, piece{plain, pad(v.GetPriority(), 8)}, piece{plain, pad(size(v.GetMemoryBytes()), 7)},
			piece{t, pad(strings.ToLower(v.GetOutcome()), 10)}, piece{plain, pad(dash(v.GetTo()), 10)}, piece{plain, pad(after, 8)}, piece{dim, v.GetReason()})
	}
	if len(d.reply.GetVms()) == 0 {
		l.add(good, "It carries no VM: nothing would happen.")
	}
	return l
}

// policyText is what the pool is to tolerate, and what is judged where that is nothing.
func policyText(c *pb.Capacity) string {
	s := fmt.Sprintf("policy: tolerate %d", c.GetTolerate())
	if c.GetLookedAt() != c.GetTolerate() {
		s += fmt.Sprintf("; shown for the loss of %s", plural(int(c.GetLookedAt()), "server"))
	}
	return s
}
