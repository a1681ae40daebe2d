package plan

import (
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// counted returns the home with the failure that an unassigned claim tells of appended, and those that no longer
// count dropped.
func counted(vm pool.VM, h pool.Home, c pool.Claim, wall time.Time) pool.Home {
	h.VM = vm.ID
	h.Failures = append(recent(vm, h, wall), pool.Failure{Server: c.LastServer, Cause: c.Cause, At: wall, Detail: c.Detail})
	return h
}

// recent returns the failures that still count. One from a clock that was far ahead does not count for ever.
func recent(vm pool.VM, h pool.Home, wall time.Time) []pool.Failure {
	var out []pool.Failure
	for _, f := range h.Failures {
		if age := wall.Sub(f.At); age < vm.Window && age > -vm.Window {
			out = append(out, f)
		}
	}
	return out
}

// exhausted lists the servers on which the VM failed Restarts+1 times within its window, by name.
func exhausted(vm pool.VM, h pool.Home, wall time.Time) []pool.ServerID {
	if len(h.Failures) == 0 {
		return nil
	}
	times := map[pool.ServerID]int{}
	for _, f := range recent(vm, h, wall) {
		times[f.Server]++
	}
	var out []pool.ServerID
	for s, n := range times {
		if n > vm.Restarts {
			out = append(out, s)
		}
	}
	slices.Sort(out)
	return out
}

// forgives returns when the oldest failure that counts stops to count; ok is false without one.
func forgives(vm pool.VM, h pool.Home, wall time.Time) (in time.Duration, ok bool) {
	list := recent(vm, h, wall)
	if len(list) == 0 {
		return 0, false
	}
	return max(list[0].At.Add(vm.Window).Sub(wall), 0), true
}

// judge says whether the restart policy gives up after the failure just counted in h, and why.
func judge(cfg pool.Config, c *subject, h pool.Home, wall time.Time) (reason string, failed bool) {
	last := h.Failures[len(h.Failures)-1]
	what := fmt.Sprintf("%s on %s", last.Cause, last.Server)
	if last.Detail != "" {
		what += " (" + last.Detail + ")"
	}
	if !c.protected {
		return fmt.Sprintf("%s; %s, so it is not restarted", what, unprotectedWhy(cfg, c.vm)), true
	}
	if out := exhausted(c.vm, h, wall); len(out) > c.vm.Relocations {
		return fmt.Sprintf("%s; failed %s within %v, on %s: the restart policy allows %s on a server and %s",
			what, times(len(h.Failures)), c.vm.Window, names(out), count(c.vm.Restarts, "restart"), count(c.vm.Relocations, "relocation")), true
	}
	return what, false
}

// times counts in words as far as they are short.
func times(n int) string {
	switch n {
	case 1:
		return "once"
	case 2:
		return "twice"
	}
	return fmt.Sprintf("%d times", n)
}
