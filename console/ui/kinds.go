package ui

import (
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/console/feed"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// The kinds of things that are listed. Columns are dropped in a fixed order when a line is short: note, memory, CPU,
// HA, server; name and state never (docs/console.md).
var (
	serverKind = &kind{
		name: "servers", one: "server",
		ids: func(_ *Model, v *feed.View) []string {
			return idsOf(v.Servers, func(s *pb.ServerView) string { return s.GetServer().GetId() })
		},
		row: func(_ *Model, v *feed.View, id string) any { return orNil(v.Server(id)) },
		text: func(_ *Model, row any) string {
			s := serverRow(row)
			return s.GetServer().GetId() + " " + serverWords(s) + " " + s.GetReason()
		},
		trouble: func(_ *Model, row any) bool { return serverTone(serverRow(row)) == bad },
	}
	vmKind = &kind{
		name: "VMs", one: "VM",
		same: func(before, after *feed.View) bool { _, same := changedVMs(before, after); return same },
		ids: func(_ *Model, v *feed.View) []string {
			return idsOf(v.VMs, func(s *pb.VMView) string { return s.GetVm().GetId() })
		},
		row: func(_ *Model, v *feed.View, id string) any { return orNil(v.VM(id)) },
		text: func(m *Model, row any) string {
			v := vmRow(row)
			return v.GetVm().GetId() + " " + vmServer(v) + " " + word(v.GetStatus()) + " " + m.vmNote(v)
		},
		trouble: func(m *Model, row any) bool {
			v := vmRow(row)
			return vmTone(v.GetStatus()) == bad || v.GetStatus() == pb.VMStatus_VM_STATUS_RUNNING && v.GetVm().GetHa() && !v.GetProtected()
		},
	}
	operationKind = &kind{
		name: "operations", one: "operation",
		ids: func(_ *Model, v *feed.View) []string { // newest first
			out := make([]string, 0, len(v.Operations))
			for i := len(v.Operations) - 1; i >= 0; i-- {
				out = append(out, v.Operations[i].GetId())
			}
			return out
		},
		row: func(m *Model, v *feed.View, id string) any { return orNil(m.operation(v, id)) },
		text: func(_ *Model, row any) string {
			o := operationRow(row)
			return word(o.GetKind()) + " " + subject(o) + " " + o.GetServer() + " " + word(o.GetOutcome()) + " " + o.GetError() + " " + o.GetRequested().GetBy()
		},
		trouble: func(_ *Model, row any) bool { return outcomeTone(operationRow(row).GetOutcome()) == bad },
	}
	eventKind = &kind{
		name: "events", one: "event",
		ids: func(_ *Model, v *feed.View) []string { // newest first
			out := make([]string, 0, len(v.Events))
			for i := len(v.Events) - 1; i >= 0; i-- {
				out = append(out, v.Events[i].GetId())
			}
			return out
		},
		row: func(_ *Model, v *feed.View, id string) any { return orNil(eventByID(v, id)) },
		text: func(_ *Model, row any) string {
			e := eventRow(row)
			return e.GetServer() + " " + e.GetVm() + " " + e.GetText() + " " + e.GetActor() + " " + e.GetKind()
		},
		trouble: func(_ *Model, row any) bool { return eventTone(eventRow(row)) == bad },
	}
)

func init() {
	serverKind.cols = serverColumns()
	serverKind.more = []column{
		col("", "reason", 0, 0, func(_ *Model, s *pb.ServerView) (string, tone) { return s.GetReason(), plain }),
		col("", "version", 0, 0, func(_ *Model, s *pb.ServerView) (string, tone) { return s.GetMember().GetVersion(), plain }),
	}
	vmKind.cols = vmColumns()
	vmKind.more = []column{
		col("", "priority", 0, 0, func(_ *Model, v *pb.VMView) (string, tone) { return word(v.GetVm().GetPriority()), plain }),
		number(col("", "cpus", 0, 0, func(_ *Model, v *pb.VMView) (string, tone) { return fmt.Sprint(v.GetVm().GetCpus()), plain }),
			func(v *pb.VMView) float64 { return float64(v.GetVm().GetCpus()) }),
		col("", "home", 0, 0, func(_ *Model, v *pb.VMView) (string, tone) { return v.GetHome().GetServer(), plain }),
		col("", "apart", 0, 0, func(_ *Model, v *pb.VMView) (string, tone) { return v.GetVm().GetApart(), plain }),
		col("", "together", 0, 0, func(_ *Model, v *pb.VMView) (string, tone) { return v.GetVm().GetTogether(), plain }),
	}
	operationKind.cols = operationColumns()
	operationKind.more = []column{
		col("", "kind", 0, 0, func(_ *Model, o *pb.Operation) (string, tone) { return word(o.GetKind()), plain }),
		col("", "server", 0, 0, func(_ *Model, o *pb.Operation) (string, tone) { return o.GetServer() + " " + o.GetSource(), plain }),
		col("", "vm", 0, 0, func(_ *Model, o *pb.Operation) (string, tone) { return o.GetVm(), plain }),
	}
	eventKind.cols = eventColumns()
	eventKind.more = []column{
		col("", "kind", 0, 0, func(_ *Model, e *pb.Event) (string, tone) { return e.GetKind(), plain }),
		col("", "server", 0, 0, func(_ *Model, e *pb.Event) (string, tone) { return e.GetServer(), plain }),
		col("", "vm", 0, 0, func(_ *Model, e *pb.Event) (string, tone) { return e.GetVm(), plain }),
		col("", "operation", 0, 0, func(_ *Model, e *pb.Event) (string, tone) { return e.GetOperation(), plain }),
	}
}

// stateCells is the width of a server's state: what there is, where many things stand side by side.
func stateCells(m *Model) int {
	if !m.wide() {
		return 17
	}
	n := 5
	for _, s := range m.shown().Servers {
		n = max(n, cells(m.serverState(s)))
	}
	return min(n, 17)
}

func serverNames(m *Model) []string      { return m.index.serverNames }
func longestOperation(m *Model) []string { return m.index.longestOp }

// operationName is what an operation does, to what.
func operationName(o *pb.Operation) string {
	return strings.TrimSpace(word(o.GetKind()) + " " + subject(o))
}

func vmNames(m *Model) []string { return m.index.longestVM }

func serverColumns() []column {
	return []column{
		fitted(col("SERVER", "server", 0, 0, func(m *Model, s *pb.ServerView) (string, tone) {
			id := s.GetServer().GetId()
			if s.GetLeader() {
				id += " " + m.glyphs.leader
			}
			return id, plain
		}), 8, 24, serverNames),
		sized(stateCells, live(col("STATE", "state", 17, 0, func(m *Model, s *pb.ServerView) (string, tone) { return m.serverState(s), serverTone(s) }))),
		live(number(col("VMS", "vms", 4, 3, func(_ *Model, s *pb.ServerView) (string, tone) {
			return fmt.Sprint(s.GetVms()), plain
		}), func(s *pb.ServerView) float64 { return float64(s.GetVms()) })),
		sized(usageCells, busiest(live(col("CPU", "cpu", 18, 4, func(m *Model, s *pb.ServerView) (string, tone) { return m.hostUsage(s.GetServer().GetId(), cpuOf) })))),
		sized(usageCells, live(number(col("MEM", "mem", 18, 5, func(m *Model, s *pb.ServerView) (string, tone) {
			return m.usage(s.GetMemoryUsedBytes(), s.GetMember().GetMemoryBytes()-s.GetServer().GetReservedMemoryBytes(), s)
		}), func(s *pb.ServerView) float64 {
			return share(s.GetMemoryUsedBytes(), s.GetMember().GetMemoryBytes()-s.GetServer().GetReservedMemoryBytes())
		}))),
		live(number(col("FREE", "free", 6, 6, func(_ *Model, s *pb.ServerView) (string, tone) {
			if s.GetMember() == nil {
				return "-", dim
			}
			return size(freeMemory(s)), plain
		}), func(s *pb.ServerView) float64 { return float64(freeMemory(s)) })),
		col("NOTE", "note", 0, 7, func(m *Model, s *pb.ServerView) (string, tone) { return m.serverNote(s), serverNoteTone(s) }),
	}
}

func vmColumns() []column {
	return []column{
		fitted(col("VM", "vm", 0, 0, func(_ *Model, v *pb.VMView) (string, tone) { return v.GetVm().GetId(), plain }), 10, 28, vmNames),
		live(fitted(col("SERVER", "server", 0, 2, func(_ *Model, v *pb.VMView) (string, tone) { return dash(vmServer(v)), plain }), 6, 16, serverNames)),
		live(col("STATE", "state", 14, 0, func(m *Model, v *pb.VMView) (string, tone) { return m.vmState(v), vmTone(v.GetStatus()) })),
		live(col("HA", "ha", 8, 3, func(m *Model, v *pb.VMView) (string, tone) { return haWord(v, m.shown().Config()) })),
		busiest(live(col("CPU", "cpu", 4, 4, func(m *Model, v *pb.VMView) (string, tone) { return m.vmCPU(v) }))),
		number(col("MEM", "mem", 6, 5, func(_ *Model, v *pb.VMView) (string, tone) { return size(v.GetVm().GetMemoryBytes()), plain }),
			func(v *pb.VMView) float64 { return float64(v.GetVm().GetMemoryBytes()) }),
		col("2 MIN", "", 10, 8, func(m *Model, v *pb.VMView) (string, tone) {
			x := m.vmLoadOf(v)
			if x == nil {
				return "", dim
			}
			return m.spark(&x.cpuTrend, x.at, 10), bar
		}),
		live(col("NOTE", "note", 0, 6, func(m *Model, v *pb.VMView) (string, tone) {
			return m.vmNote(v), dimUnless(vmTone(v.GetStatus()) == bad, plain)
		})),
	}
}

func operationColumns() []column {
	return []column{
		fitted(col("OPERATION", "operation", 0, 0, func(_ *Model, o *pb.Operation) (string, tone) { return operationName(o), plain }), 14, 30, longestOperation),
		live(col("STATE", "state", 9, 0, func(_ *Model, o *pb.Operation) (string, tone) {
			return word(o.GetOutcome()), outcomeTone(o.GetOutcome())
		})),
		live(col("PROGRESS", "progress", 19, 2, func(m *Model, o *pb.Operation) (string, tone) { return m.bar(o, 12), bar })),
		number(col("TIME", "time", 7, 3, func(m *Model, o *pb.Operation) (string, tone) { return stopwatch(m.took(o)), plain }),
			func(o *pb.Operation) float64 { return o.GetRequested().GetAt().AsTime().Sub(time.Time{}).Seconds() }),
		col("BEGAN", "began", 12, 6, func(m *Model, o *pb.Operation) (string, tone) { return clockTime(m.now, o.GetRequested().GetAt()), dim }),
		col("BY", "by", 12, 4, func(_ *Model, o *pb.Operation) (string, tone) { return person(o.GetRequested().GetBy()), plain }),
		live(col("NOTE", "note", 0, 7, func(_ *Model, o *pb.Operation) (string, tone) { return operationNote(o), dim })),
	}
}

func eventColumns() []column {
	return []column{
		col("TIME", "time", 12, 0, func(m *Model, e *pb.Event) (string, tone) { return clockTime(m.now, e.GetAt()), dim }),
		col("SUBJECT", "subject", 14, 2, func(_ *Model, e *pb.Event) (string, tone) {
			if e.GetVm() != "" {
				return e.GetVm(), plain
			}
			return dash(e.GetServer()), plain
		}),
		col("EVENT", "text", 0, 0, func(_ *Model, e *pb.Event) (string, tone) { return e.GetText(), eventTone(e) }),
		col("BY", "by", 14, 3, func(_ *Model, e *pb.Event) (string, tone) { return person(e.GetActor()), dim }),
	}
}

// busiest sorts and compares a column by measured CPU.
func busiest(c column) column {
	c.right = true
	c.num = func(m *Model, row any) float64 {
		switch x := row.(type) {
		case *pb.VMView:
			return m.measuredCPU(x)
		case *pb.ServerView:
			if l := m.load.servers[x.GetServer().GetId()]; l != nil && l.cpu != none && m.fresh(l.gauged) {
				return float64(l.cpu)
			}
		}
		return -1
	}
	return c
}

// eventTone colours an event by what its code says.
func eventTone(e *pb.Event) tone {
	k := e.GetKind()
	switch {
	case strings.Contains(k, "LOST"), strings.Contains(k, "FAIL"), strings.Contains(k, "CRASH"), strings.Contains(k, "REFUSED"), strings.Contains(k, "ISOLATED"):
		return bad
	case strings.Contains(k, "FENCED"), strings.Contains(k, "RESTART"):
		return busy
	}
	return plain
}

func dimUnless(on bool, t tone) tone {
	if on {
		return t
	}
	return dim
}

func share(part, whole int64) float64 {
	if whole <= 0 {
		return 0
	}
	return 100 * float64(part) / float64(whole)
}

func idsOf[T any](all []T, id func(T) string) []string {
	out := make([]string, len(all))
	for i, x := range all {
		out[i] = id(x)
	}
	return out
}

// orNil makes a nil pointer a nil any.
func orNil[T any](p *T) any {
	if p == nil {
		return nil
	}
	return p
}

func serverRow(row any) *pb.ServerView {
	s, ok := row.(*pb.ServerView)
	if !ok {
		return nil
	}
	return s
}

func vmRow(row any) *pb.VMView {
	v, ok := row.(*pb.VMView)
	if !ok {
		return nil
	}
	return v
}

func operationRow(row any) *pb.Operation {
	o, ok := row.(*pb.Operation)
	if !ok {
		return nil
	}
	return o
}

func eventRow(row any) *pb.Event {
	e, ok := row.(*pb.Event)
	if !ok {
		return nil
	}
	return e
}
