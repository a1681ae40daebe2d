package plan

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/holdfast-ha/holdfast/pkg/plan/plantest"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// TestStories runs the scripts in testdata/stories. Each command of a script is one of
//
//	setup      lines of input: pool, server, vm, claim, state, op (see script.line)
//	do         lines of input, what others do to the pool meanwhile (see script.line)
//	plan       what the leader would do now; [after=DURATION] later than before
//	step       the same, and does it, until nothing is left to do at this instant
//	status     how every server and VM stands
//	explain vm=NAME   what is said about each server
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata/stories", func(t *testing.T, path string) {
		s := &script{world: plantest.New(), lost: map[pool.ServerID]Sight{}, power: map[pool.ServerID]Power{},
			suspects: map[pool.ServerID]Suspicion{}, powerOn: map[pool.ServerID]PowerOn{}, switches: map[pool.ServerID]string{}, now: pool.Instant(100 * time.Second)}
		datadriven.RunTest(t, path, s.run)
	})
}

type script struct {
	world   *plantest.World
	lost    map[pool.ServerID]Sight
	starts  map[pool.VMID]StartSight
	storage map[pool.ServerID]StorageSight
	power   map[pool.ServerID]Power
	// suspects, powerOn and switches are what the leader's loop would say.
	suspects map[pool.ServerID]Suspicion
	powerOn  map[pool.ServerID]PowerOn
	switches map[pool.ServerID]string
	now      pool.Instant
}

func (s *script) run(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	if d.HasArg("after") {
		var text string
		d.ScanArgs(t, "after", &text)
		s.now = s.now.Add(mustDuration(t, text))
	}
	switch d.Cmd {
	case "setup", "do":
		for _, line := range strings.Split(strings.TrimSpace(d.Input), "\n") {
			s.line(t, line)
		}
		return ""
	case "plan":
		return s.show(s.plan())
	case "step":
		return s.step(t)
	case "status":
		return s.status()
	case "explain":
		var vm string
		d.ScanArgs(t, "vm", &vm)
		return s.explain(pool.VMID(vm))
	default:
		t.Fatalf("%s: no command %s", d.Pos, d.Cmd)
		return ""
	}
}

func (s *script) wall() time.Time { return plantest.Start.Add(time.Duration(s.now) - 100*time.Second) }

func (s *script) plan() Result {
	snap := s.world.Snapshot()
	s.lost, s.starts = Look(s.lost, snap, s.now), LookAtStarts(s.starts, snap, s.now)
	s.storage = LookAtStorage(s.storage, snap, s.now)
	return Plan(Input{Snapshot: snap, Leader: s.world.Leader, Now: s.now, Wall: s.wall(), Lost: s.lost, Starts: s.starts, Storage: s.storage, Power: s.power,
		Suspects: s.suspects, PowerOn: s.powerOn, Switches: s.switches})
}

func (s *script) show(r Result) string {
	var b strings.Builder
	for _, a := range r.Actions {
		fmt.Fprintf(&b, "%s", a.Kind)
		if a.VM != "" {
			fmt.Fprintf(&b, " %s", a.VM)
		}
		if a.Server != "" {
			fmt.Fprintf(&b, " @%s", a.Server)
		}
		for _, n := range a.Needs {
			fmt.Fprintf(&b, " [needs %s]", n)
		}
		fmt.Fprintf(&b, ": %s\n", a.Why)
	}
	if len(r.PowerOff) > 0 {
		fmt.Fprintf(&b, "power off %s\n", names(r.PowerOff))
	}
	if len(r.PowerOn) > 0 {
		fmt.Fprintf(&b, "power on %s\n", names(r.PowerOn))
	}
	if r.WakeAt != 0 {
		fmt.Fprintf(&b, "wake in %v\n", r.WakeAt.Sub(s.now))
	}
	if b.Len() == 0 {
		return "nothing to do\n"
	}
	return b.String()
}

func (s *script) step(t *testing.T) string {
	t.Helper()
	r := s.plan()
	for _, a := range r.Actions {
		if err := s.world.Apply(s.world.Leader, a.Change); err != nil {
			return s.show(r) + fmt.Sprintf("FAILED %s: %v\n", a.Key, err)
		}
	}
	out := s.show(r)
	if again := s.plan(); len(again.Actions) > 0 {
		out += "THEN\n" + s.show(again)
	}
	return out
}

func (s *script) status() string {
	v := NewView(s.world.Snapshot())
	var b strings.Builder
	for _, id := range slices.Sorted(maps.Keys(s.world.Servers)) {
		states, why := v.Server(id)
		words := make([]string, len(states))
		for i, st := range states {
			words[i] = st.String()
		}
		b.WriteString(told(string(id), strings.Join(words, ","), why))
	}
	for _, id := range slices.Sorted(maps.Keys(s.world.VMs)) {
		status, why := v.VM(id)
		what := status.String()
		if c := s.world.Claims[id]; c.Server != "" {
			what += " @" + string(c.Server)
		}
		b.WriteString(told(string(id), what, why))
	}
	return b.String()
}

func told(name, what, why string) string {
	if why == "" {
		return fmt.Sprintf("%s %s\n", name, what)
	}
	return fmt.Sprintf("%s %s: %s\n", name, what, why)
}

func (s *script) explain(vm pool.VMID) string {
	var b strings.Builder
	for _, v := range Explain(s.world.Snapshot(), vm) {
		if v.Fits() {
			fmt.Fprintf(&b, "%s fits\n", v.Server)
		}
		for _, r := range v.Reasons {
			fmt.Fprintf(&b, "%s %s: %s\n", v.Server, r.Code, r.Sentence)
		}
	}
	return b.String()
}

// words of one script line: positional ones, and KEY=VALUE; a value may be quoted by single quotes.
type words struct {
	t     *testing.T
	pos   []string
	named map[string]string
}

func split(t *testing.T, line string) words {
	t.Helper()
	w := words{t: t, named: map[string]string{}}
	quoted, word := false, ""
	flush := func() {
		if k, v, ok := strings.Cut(word, "="); ok {
			w.named[k] = v
		} else if word != "" {
			w.pos = append(w.pos, word)
		}
		word = ""
	}
	for _, r := range line {
		switch {
		case r == '\'':
			quoted = !quoted
		case r == ' ' && !quoted:
			flush()
		default:
			word += string(r)
		}
	}
	flush()
	return w
}

func (w words) at(i int) string {
	w.t.Helper()
	if i >= len(w.pos) {
		w.t.Fatalf("%v: word %d is missing", w.pos, i)
	}
	return w.pos[i]
}

func (w words) has(name string) bool { return slices.Contains(w.pos, name) }

func (w words) num(key string, otherwise int64) int64 {
	w.t.Helper()
	v, ok := w.named[key]
	if !ok {
		return otherwise
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		w.t.Fatalf("%s=%s: %v", key, v, err)
	}
	return n
}

func (w words) duration(key string) time.Duration {
	w.t.Helper()
	v, ok := w.named[key]
	if !ok {
		return 0
	}
	return mustDuration(w.t, v)
}

func mustDuration(t *testing.T, text string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
