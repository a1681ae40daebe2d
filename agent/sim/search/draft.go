package search

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/agent/sim/scenario"
)

// draft is a scenario in the making: cheap to copy and to take apart.
type draft struct {
	pool []string
	// servers and vms: a name, then KEY=VALUE words.
	servers, vms [][]string
	leader       string
	steps        []step
}

// step is one statement of the time line.
type step struct {
	at    time.Duration
	words string
}

func (d draft) clone() draft {
	d.pool = slices.Clone(d.pool)
	d.servers, d.vms = cloneWords(d.servers), cloneWords(d.vms)
	d.steps = slices.Clone(d.steps)
	return d
}

func cloneWords(in [][]string) [][]string {
	out := make([][]string, len(in))
	for i, w := range in {
		out[i] = slices.Clone(w)
	}
	return out
}

// text writes the scenario in the language.
func (d draft) text() string {
	var b strings.Builder
	if len(d.pool) > 0 {
		fmt.Fprintf(&b, "pool %s\n", strings.Join(d.pool, " "))
	}
	for _, s := range d.servers {
		fmt.Fprintf(&b, "server %s\n", strings.Join(s, " "))
	}
	for _, v := range d.vms {
		fmt.Fprintf(&b, "vm %s\n", strings.Join(v, " "))
	}
	if d.leader != "" {
		fmt.Fprintf(&b, "leader %s\n", d.leader)
	}
	for _, s := range d.steps {
		fmt.Fprintf(&b, "at %v %s\n", s.at, s.words)
	}
	return b.String()
}

// setupLines is how many lines stand before the time line.
func (d draft) setupLines() int {
	n := len(d.servers) + len(d.vms)
	if len(d.pool) > 0 {
		n++
	}
	if d.leader != "" {
		n++
	}
	return n
}

// withoutLines drops steps by their lines in text.
func (d draft) withoutLines(lines []int) draft {
	out := d.clone()
	out.steps = out.steps[:0]
	for i, s := range d.steps {
		if !slices.Contains(lines, d.setupLines()+i+1) {
			out.steps = append(out.steps, s)
		}
	}
	return out
}

// parse reads the draft as any scenario is read.
func (d draft) parse(name string) (*scenario.File, error) { return scenario.Parse(name, d.text()) }

// Honest reports whether nobody in a scenario lies to the pool: see the package comment.
func Honest(f *scenario.File) bool {
	trust, block, guards := f.Pool.TrustGuardAlone, false, false
	off := map[string]bool{}
	for _, s := range f.Servers {
		off[s.Name] = !s.Up
	}
	for _, v := range f.VMs {
		block = block || !v.DiskLocks
	}
	for _, st := range f.Lines {
		switch st.Verb {
		case "power off":
			off[st.Server] = true
		case "power on":
			off[st.Server] = false
		case "confirm-fenced":
			if !off[st.Server] {
				return false
			}
		case "guard kill", "guard hang":
			guards = true
		case "add":
			block = block || !st.New.DiskLocks
		case "set pool":
			trust = trust || slices.ContainsFunc(st.Settings, func(s scenario.Setting) bool { return s.Key == "trust-guard-alone" && s.Value == "on" })
		}
	}
	return !trust || !block || !guards
}
