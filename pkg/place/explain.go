package place

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Verdict returns every reason that keeps the VM off one server; ok is false if it is not registered.
func (l *Load) Verdict(r Request, server pool.ServerID) (v Verdict, ok bool) {
	s, ok := l.index[server]
	if !ok {
		return Verdict{Server: server}, false
	}
	return l.verdict(s, &r), true
}

// Explain returns a verdict for each server: those that can take the VM first, best first, then the others by name.
func (l *Load) Explain(r Request) []Verdict {
	type judged struct {
		Verdict
		rank rank
	}
	all := make([]judged, 0, len(l.slots))
	for _, s := range l.slots {
		all = append(all, judged{l.verdict(s, &r), l.rank(s, &r, r.VM.MemoryBytes, r.VM.CPUs)})
	}
	slices.SortStableFunc(all, func(a, b judged) int {
		switch {
		case a.Fits() != b.Fits() && a.Fits():
			return -1
		case a.Fits() != b.Fits():
			return 1
		case a.Fits() && a.rank.before(b.rank):
			return -1
		case a.Fits():
			return 1
		default:
			return cmp.Compare(a.Server, b.Server)
		}
	})
	verdicts := make([]Verdict, len(all))
	for i := range all {
		verdicts[i] = all[i].Verdict
	}
	return verdicts
}

// Explain judges every server of a snapshot for one VM by the VM's own rules alone. Callers that know more (a
// restart in place, failures) build a Request.
func Explain(s *pool.Snapshot, vm pool.VM) []Verdict {
	return NewLoad(s).Explain(Request{VM: vm})
}

// tally counts, for one VM, by which rule each server is barred first.
type tally struct {
	servers int
	// rules in the order in which they were met; slots barred by each.
	rules []*rule
	by    map[*rule][]*slot
	// roomiest is the server barred by memory alone that has the most free.
	roomiest *slot
	most     int64
}

func (l *Load) tally(r *Request) tally {
	t := tally{servers: len(l.slots), by: map[*rule][]*slot{}}
	for _, s := range l.slots {
		why, barred := l.firstRule(s, r)
		if !barred {
			continue
		}
		if t.by[why] == nil {
			t.rules = append(t.rules, why)
		}
		t.by[why] = append(t.by[why], s)
		if free := l.free(s, &r.VM); why.code == CodeMemory && (t.roomiest == nil || free > t.most) {
			t.roomiest, t.most = s, free
		}
	}
	return t
}

// fewServers is up to how many servers a refusal is told server by server.
const fewServers = 4

// why tells a refusal in one sentence.
func (t tally) why(l *Load, r *Request) string {
	switch {
	case t.servers == 0:
		return "the pool has no server"
	case len(t.rules) == 0:
		return "its group has no room on one server"
	case r.VM.DisksInDoubt != "":
		return inDoubt(r)
	case r.Only != "":
		return only(r) + ": " + t.each(l, r, CodeOnly)
	case len(r.VM.Require) > 0 && len(t.rules) > 1:
		return fmt.Sprintf("it requires %s: %s", join(r.VM.Require), t.each(l, r, CodeRequire))
	case t.onlyMemory():
		return needs(r) + t.best() + t.absent(l, r)
	case t.servers <= fewServers:
		return "no server can take it: " + t.each(l, r, "")
	default:
		return "no server can take it: " + t.grouped(l, r)
	}
}

// gist tells the same without names and figures that change.
func (t tally) gist(r *Request) string {
	switch {
	case t.servers == 0:
		return "the pool has no server"
	case len(t.rules) == 0:
		return "its group has no room on one server"
	case r.VM.DisksInDoubt != "":
		return inDoubt(r)
	case r.Only != "":
		return only(r)
	case t.onlyMemory():
		return needs(r)
	}
	var words []string
	for _, rule := range t.rules {
		if !slices.Contains(words, rule.word) && rule.code != CodeRequire {
			words = append(words, rule.word)
		}
	}
	slices.Sort(words)
	if len(r.VM.Require) > 0 {
		return fmt.Sprintf("it requires %s (%s)", join(r.VM.Require), strings.Join(words, ", "))
	}
	return "no server can take it (" + strings.Join(words, ", ") + ")"
}

// onlyMemory reports whether every server that is up lacks nothing but memory.
func (t tally) onlyMemory() bool {
	return t.roomiest != nil && !slices.ContainsFunc(t.rules, func(r *rule) bool {
		return r.code != CodeMemory && r.code != CodeLost && r.code != CodeFenced
	})
}

// absent names the servers that are not up, as the rest of a sentence about memory.
func (t tally) absent(l *Load, r *Request) string {
	var parts []string
	for _, s := range l.slots {
		if rule, barred := l.firstRule(s, r); barred && rule.code != CodeMemory {
			parts = append(parts, rule.say(l, s, r))
		}
	}
	switch {
	case len(parts) == 0:
		return ""
	case len(parts) > fewServers:
		return fmt.Sprintf("; %d are not up", len(parts))
	default:
		return "; " + strings.Join(parts, "; ")
	}
}

func (t tally) best() string {
	return fmt.Sprintf(" (best: %s, %s)", t.roomiest.server.ID, Bytes(max(t.most, 0)))
}

func only(r *Request) string { return fmt.Sprintf("it waits for %s (%s)", r.Only, r.OnlyWhy) }

// each lists the servers by name, each with what bars it first, but for those that the rule besides bars.
func (t tally) each(l *Load, r *Request, besides Code) string {
	var parts []string
	for _, s := range l.slots {
		if rule, barred := l.firstRule(s, r); barred && rule.code != besides && (besides == "" || r.names(s.server.ID)) {
			parts = append(parts, rule.say(l, s, r))
		}
	}
	if len(parts) == 0 {
		return "not registered with the pool"
	}
	return strings.Join(parts, "; ")
}

// names reports whether the request is bound to certain servers, s among them.
func (r *Request) names(s pool.ServerID) bool {
	if r.Only != "" {
		return s == r.Only
	}
	return slices.Contains(r.VM.Require, s)
}

// grouped counts the servers by rule, the most frequent first, and names one where it is alone.
func (t tally) grouped(l *Load, r *Request) string {
	rules := slices.Clone(t.rules)
	slices.SortStableFunc(rules, func(a, b *rule) int {
		return cmp.Or(cmp.Compare(len(t.by[b]), len(t.by[a])), cmp.Compare(a.code, b.code))
	})
	var parts []string
	for _, rule := range rules {
		slots := t.by[rule]
		switch {
		case rule.code == CodeMemory:
			parts = append(parts, fmt.Sprintf("%d without %s of memory free%s", len(slots), Bytes(r.VM.MemoryBytes), t.best()))
		case len(slots) == 1:
			parts = append(parts, rule.say(l, slots[0], r))
		default:
			parts = append(parts, fmt.Sprintf("%d %s", len(slots), rule.word))
		}
	}
	return strings.Join(parts, "; ")
}
