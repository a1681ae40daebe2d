package ui

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/holdfast-ha/holdfast/console/cli/fakepool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// allKeys are the keys that any sequence is drawn from.
func allKeys() []string {
	out := []string{"enter", "esc", "tab", "shift+tab", "backspace", "left", "right", "home", "end", "ctrl+c", "ctrl+w", "paste", "w", "e", "b", "-", ">", "4"}
	for _, c := range keyMap {
		out = append(out, c.Keys()...)
	}
	return out
}

// checkFrame: exactly as many lines as the terminal has, none wider than all but its last column, and the cursor on
// something that exists.
func checkFrame(t interface{ Fatalf(string, ...any) }, m *Model) {
	frame := m.Text()
	all := strings.Split(frame, "\n")
	if len(all) != m.h {
		t.Fatalf("%d lines on a terminal of %d", len(all), m.h)
	}
	for _, line := range all {
		if cells(line) > m.w-1 {
			t.Fatalf("%d cells on a terminal of %d: %q", cells(line), m.w, line)
		}
	}
	if v := m.shown(); v.Pool != nil {
		var anew index
		anew.count(v)
		anew.problems.collect(v)
		anew.problems.look(v)
		n := anew.problems.count()
		want, got := anew.problems.first(n), m.index.problems.first(m.index.problems.count())
		if !maps.Equal(anew.counts, m.index.counts) || anew.unprotected != m.index.unprotected || len(want) != n || !slices.Equal(want, got) {
			t.Fatalf("counted %v, %d unprotected, problems %v; there are %v, %d, %d: %v", m.index.counts, m.index.unprotected, got,
				anew.counts, anew.unprotected, n, want)
		}
	}
	for _, s := range screens {
		l := m.lists[s]
		if m.visible(s) && len(l.ids) > 0 && (l.index() < 0 || l.kind.row(m, m.shown(), l.cursor) == nil) {
			t.Fatalf("screen %d: the cursor %q is on nothing", s, l.cursor)
		}
	}
}

func TestAnySequenceOfKeysAndNewsKeepsTheFrame(t *testing.T) {
	keys := allKeys()
	rapid.Check(t, func(rt *rapid.T) {
		b := newBench(t, fakepool.Troubled(), rapid.IntRange(20, 220).Draw(rt, "w"), rapid.IntRange(5, 70).Draw(rt, "h"))
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			switch rapid.IntRange(0, 9).Draw(rt, "what") {
			case 0:
				b.reduce(Size{rapid.IntRange(20, 220).Draw(rt, "w"), rapid.IntRange(5, 70).Draw(rt, "h")})
			case 1:
				b.pass(time.Duration(rapid.IntRange(1, 7).Draw(rt, "s"))*time.Second, rapid.Bool().Draw(rt, "heard"))
			case 2:
				b.delta(anyDelta(rt))
			case 3:
				text := rapid.String().Draw(rt, "text")
				b.reduce(Key{Name: "paste", Text: text, At: b.now})
			default:
				b.press(rapid.SampledFrom(keys).Draw(rt, "key"))
			}
			checkFrame(rt, b.m)
		}
	})
}

// anyDelta changes, adds and removes things with any names and states.
func anyDelta(t *rapid.T) *pb.Delta {
	name := rapid.SampledFrom([]string{"web-01", "db-main", "hv-01", "hv-06", "new", "\u6570\u636e", "x\x1b[31m", ""})
	d := &pb.Delta{}
	for range rapid.IntRange(0, 3).Draw(t, "vms") {
		d.Vms = append(d.Vms, &pb.VMView{
			Vm:     &pb.VM{Id: name.Draw(t, "vm"), MemoryBytes: rapid.Int64().Draw(t, "memory"), Ha: rapid.Bool().Draw(t, "ha")},
			Status: pb.VMStatus(rapid.Int32Range(0, 12).Draw(t, "status")), Reason: rapid.StringN(0, 80, 200).Draw(t, "reason"),
			Claim: &pb.Claim{Server: name.Draw(t, "on")},
		})
	}
	d.VmsRemoved = rapid.SliceOfN(name, 0, 2).Draw(t, "gone")
	d.ServersRemoved = rapid.SliceOfN(name, 0, 1).Draw(t, "servers gone")
	if rapid.Bool().Draw(t, "operation") {
		d.Operations = []*pb.Operation{{Id: name.Draw(t, "op"), Kind: pb.OperationKind(rapid.Int32Range(0, 12).Draw(t, "kind")), Vm: name.Draw(t, "opvm"),
			Outcome:  pb.OperationOutcome(rapid.Int32Range(0, 5).Draw(t, "outcome")),
			Progress: &pb.Progress{ItemsDone: rapid.Int32().Draw(t, "done"), ItemsTotal: rapid.Int32().Draw(t, "total"), BytesTotal: rapid.Int64().Draw(t, "bytes")}}}
	}
	if rapid.Bool().Draw(t, "server") {
		d.Servers = []*pb.ServerView{{Server: &pb.Server{Id: name.Draw(t, "server")}, MemoryUsedBytes: rapid.Int64().Draw(t, "used"),
			States: []pb.ServerState{pb.ServerState(rapid.Int32Range(0, 12).Draw(t, "state"))}, Member: &pb.Member{MemoryBytes: rapid.Int64().Draw(t, "mem"), Cpus: rapid.Int32().Draw(t, "cpus")}}}
	}
	return d
}

func TestGaugesNeverLeaveTheirCells(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(0, 40).Draw(rt, "n")
		s := glyphsOf(Look{ASCII: true}).gauge(rapid.Int64().Draw(rt, "part"), rapid.Int64().Draw(rt, "whole"), n)
		if n > 0 && len(s) != n+2 {
			rt.Fatalf("%q has %d cells, want %d", s, len(s), n+2)
		}
	})
}

// FuzzKeys reads bytes as keys: whatever is typed, pasted or sent by a broken terminal leaves a whole frame.
func FuzzKeys(f *testing.F) {
	for _, s := range []string{"3jjm\t\r", ":inbound-lock on hv-01\r\t\r", "/state:run\r*A", "2MWe\x1b7\r", "\xff\xfe\x00"} {
		f.Add(s, uint8(80), uint8(24))
	}
	special := map[byte]string{'\r': "enter", '\t': "tab", 0x1b: "esc", 0x7f: "backspace", 3: "ctrl+c", 1: "up", 2: "down"}
	f.Fuzz(func(t *testing.T, typed string, w, h uint8) {
		b := newBench(t, fakepool.Troubled(), max(int(w), 2), max(int(h), 1))
		for i := range min(len(typed), 200) {
			name, ok := special[typed[i]]
			text := ""
			if !ok {
				name = string(rune(typed[i]))
				text = name
			}
			b.reduce(Key{Name: name, Text: text, At: b.now})
		}
		checkFrame(t, b.m)
	})
}

func TestTheFrameFitsEverySize(t *testing.T) {
	for w := 1; w <= 210; w += 7 {
		for _, h := range []int{1, 2, 5, 15, 16, 24, 45, 60} {
			b := newBench(t, fakepool.Troubled(), w, h)
			if w < 2 {
				continue
			}
			for _, keys := range [][]string{{}, {"3"}, {"7"}, {"?"}, {"esc", "3", "A"}, {"esc", "4", "enter"}} {
				b.press(keys...)
				checkFrame(fatal{t, fmt.Sprintf("%dx%d %v: ", w, h, keys)}, b.m)
			}
		}
	}
}

type fatal struct {
	t    *testing.T
	what string
}

func (f fatal) Fatalf(format string, args ...any) {
	f.t.Helper()
	f.t.Fatalf(f.what+format, args...)
}
