package place

import (
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Request asks for a server for one VM.
type Request struct {
	VM pool.VM
	// Stay is tried before all others: a restart in place, or the target of a move. Empty: none.
	Stay pool.ServerID
	// StayWhy is how that choice is told; "it stays there" if empty.
	StayWhy string
	// Home lists where it belongs and where it ran last, best first; soft, after the VM's own Prefer.
	Home []pool.ServerID
	// Only, if set, is the one server that may take it; OnlyWhy says why, as in "HA is off for it".
	Only    pool.ServerID
	OnlyWhy string
	// Exhausted lists the servers on which it failed too often lately.
	Exhausted []pool.ServerID
	// Failover: it is restarted after a failure, so that a pool may let it pass inbound locks.
	Failover bool
	// Along lists VMs of its together group that move with it, so that where they are now does not bind it.
	Along []pool.VMID
	// PassLock names a server whose inbound lock does not count: it was running there.
	PassLock pool.ServerID
}

// rule is one thing that can keep a VM off a server. say is called only if hit.
type rule struct {
	code Code
	// word names the rule in a summary over many servers.
	word string
	hit  func(l *Load, s *slot, r *Request) bool
	say  func(l *Load, s *slot, r *Request) string
}

// presence holds the rules after which nothing else about a server is worth saying.
var presence = []rule{
	{CodeUnreadable, "unreadable record", func(_ *Load, s *slot, _ *Request) bool { return s.unreadable }, fixed("%s has a record that cannot be read")},
	{CodeFenced, "lost", func(_ *Load, s *slot, _ *Request) bool { return !s.alive && s.fenced }, fixed("%s is lost and fenced")},
	{CodeLost, "lost", func(_ *Load, s *slot, _ *Request) bool { return !s.alive }, fixed("%s is not up")},
	{CodeLost, "lost", func(_ *Load, s *slot, _ *Request) bool { return s.silent }, fixed("%s gives no sign of life")},
}

// acceptance holds the rules that a live server is judged by, in the order in which they are told.
var acceptance = []rule{
	{CodeOnly, "must stay elsewhere", func(_ *Load, s *slot, r *Request) bool { return r.Only != "" && s.server.ID != r.Only },
		func(_ *Load, s *slot, r *Request) string {
			return fmt.Sprintf("%s is not %s, the only server for it: %s", s.server.ID, r.Only, r.OnlyWhy)
		}},
	{CodeDisksInDoubt, "disks in doubt", func(_ *Load, _ *slot, r *Request) bool { return r.VM.DisksInDoubt != "" },
		func(_ *Load, _ *slot, r *Request) string { return inDoubt(r) }},
	{CodeRequire, "not among the required servers", func(_ *Load, s *slot, r *Request) bool {
		return len(r.VM.Require) > 0 && !slices.Contains(r.VM.Require, s.server.ID)
	}, func(_ *Load, s *slot, r *Request) string {
		return fmt.Sprintf("%s is not among the servers it requires (%s)", s.server.ID, join(r.VM.Require))
	}},
	{CodeRemoving, "being removed", func(_ *Load, s *slot, _ *Request) bool { return s.server.Removing }, fixed("%s is being removed from the pool")},
	{CodeShuttingDown, "shutting down", func(_ *Load, s *slot, _ *Request) bool { return s.server.ShuttingDown }, fixed("%s is shutting down")},
	{CodeMaintenance, "in maintenance", func(_ *Load, s *slot, _ *Request) bool { return s.server.Maintenance },
		func(_ *Load, s *slot, _ *Request) string {
			return string(s.server.ID) + " is in maintenance" + marked(s.server.MaintenanceMark)
		}},
	{CodeInboundLock, "inbound lock", lockBars, func(_ *Load, s *slot, _ *Request) string {
		return string(s.server.ID) + " has an inbound lock" + marked(s.server.InboundLockMark)
	}},
	{CodeVersion, "agent too old", func(_ *Load, s *slot, _ *Request) bool { return s.tooOld },
		func(_ *Load, s *slot, _ *Request) string {
			return fmt.Sprintf("%s runs agent version %s, older than %s", s.server.ID, s.member.Version, pool.MinVersion)
		}},
	{CodeStorageLost, "storage lost", func(_ *Load, s *slot, _ *Request) bool { return s.member.StorageLost }, fixed("%s has lost its path to the shared storage")},
	{CodeHostDevice, "host device missing", func(_ *Load, s *slot, r *Request) bool { return len(lacking(s, r, true)) > 0 }, sayLacking(true)},
	{CodeLacks, "something missing", func(_ *Load, s *slot, r *Request) bool { return len(lacking(s, r, false)) > 0 }, sayLacking(false)},
	{CodeExhausted, "failed there too often", func(_ *Load, s *slot, r *Request) bool { return slices.Contains(r.Exhausted, s.server.ID) }, fixed("it failed on %s too often lately")},
	{CodeApart, "kept apart", func(_ *Load, s *slot, r *Request) bool { _, hit := s.apartFrom(&r.VM); return hit },
		func(_ *Load, s *slot, r *Request) string {
			other, _ := s.apartFrom(&r.VM)
			return fmt.Sprintf("%s runs %s, from which it is kept apart (group %s)", s.server.ID, other, r.VM.Apart)
		}},
	{CodeTogether, "kept together", func(l *Load, s *slot, r *Request) bool {
		on := l.homes(&r.VM, r.Along)
		return len(on) > 0 && !slices.Contains(on, s.server.ID)
	}, func(l *Load, s *slot, r *Request) string {
		return fmt.Sprintf("%s is not %s, where its group %s is", s.server.ID, join(l.homes(&r.VM, r.Along)), r.VM.Together)
	}},
	{CodeMemory, "too little memory", func(l *Load, s *slot, r *Request) bool { return l.free(s, &r.VM) < r.VM.MemoryBytes },
		func(l *Load, s *slot, r *Request) string {
			free := max(l.free(s, &r.VM), 0)
			return fmt.Sprintf("%s has %s of memory free of the %s it needs, %s short", s.server.ID, Bytes(free), Bytes(r.VM.MemoryBytes), Bytes(r.VM.MemoryBytes-free))
		}},
}

// fits is the short way: does nothing keep the VM off s?
func (l *Load) fits(s *slot, r *Request) bool {
	_, barred := l.firstRule(s, r)
	return !barred
}

// firstRule returns the first rule that keeps the VM off s.
func (l *Load) firstRule(s *slot, r *Request) (*rule, bool) {
	for _, rules := range [][]rule{presence, acceptance} {
		for i := range rules {
			if rules[i].hit(l, s, r) {
				return &rules[i], true
			}
		}
	}
	return nil, false
}

// verdict is the long way, with every reason.
func (l *Load) verdict(s *slot, r *Request) Verdict {
	v := Verdict{Server: s.server.ID}
	for i := range presence {
		if presence[i].hit(l, s, r) {
			v.Reasons = []Reason{{presence[i].code, presence[i].say(l, s, r)}}
			return v
		}
	}
	v.FreeBytes = l.free(s, &r.VM)
	for i := range acceptance {
		if acceptance[i].hit(l, s, r) {
			v.Reasons = append(v.Reasons, Reason{acceptance[i].code, acceptance[i].say(l, s, r)})
		}
	}
	return v
}

// inDoubt tells why no server may take a VM whose recorded disks may be old.
func inDoubt(r *Request) string {
	return fmt.Sprintf("its recorded disks may not be those written last (%s): check them, then set disks-in-doubt=no", r.VM.DisksInDoubt)
}

// lockBars: a lock bars every new VM; one that was running there may be restarted in place, and a pool may exempt
// failover.
func lockBars(l *Load, s *slot, r *Request) bool {
	return s.server.InboundLock && s.server.ID != r.PassLock && (!r.Failover || l.snap.Config.LockBarsFailover)
}

// lacking returns what s lacks for the VM: host devices, or everything else.
func lacking(s *slot, r *Request, devices bool) []string {
	missing := s.member.Lacks[r.VM.ID]
	if len(missing) == 0 {
		return nil
	}
	var out []string
	for _, m := range missing {
		if isHostDevice(m, &r.VM) == devices {
			out = append(out, m)
		}
	}
	return out
}

func isHostDevice(missing string, vm *pool.VM) bool {
	for _, n := range vm.Needs {
		if n.Kind == pool.NeedHostDevice && n.Name != "" && strings.Contains(missing, n.Name) {
			return true
		}
	}
	return false
}

func sayLacking(devices bool) func(*Load, *slot, *Request) string {
	return func(_ *Load, s *slot, r *Request) string {
		return fmt.Sprintf("%s lacks %s", s.server.ID, strings.Join(lacking(s, r, devices), ", "))
	}
}

// fixed builds a sentence that needs nothing but the server's name.
func fixed(format string) func(*Load, *slot, *Request) string {
	return func(_ *Load, s *slot, _ *Request) string { return fmt.Sprintf(format, s.server.ID) }
}

// marked says who set something, when and why, as far as is known.
func marked(m pool.Mark) string {
	text := ""
	if m.By != "" {
		text += " by " + m.By
	}
	if !m.At.IsZero() {
		text += " since " + m.At.UTC().Format("2006-01-02 15:04:05 UTC")
	}
	if m.Why != "" {
		text += ": " + m.Why
	}
	if text == "" {
		return ""
	}
	return " (set" + text + ")"
}

func join(servers []pool.ServerID) string {
	names := make([]string, len(servers))
	for i, s := range servers {
		names[i] = string(s)
	}
	return strings.Join(names, ", ")
}
