package plan

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/place"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Fate says what would become of a VM whose server is lost.
type Fate string

// Fates.
const (
	// FateRestarts: it is started elsewhere.
	FateRestarts Fate = "RESTARTS"
	// FateWaits: no server can take it.
	FateWaits Fate = "WAITS"
	// FateUnfenced: nothing proves that its server is off, until an operator confirms it.
	FateUnfenced Fate = "UNFENCED"
	// FateLost: HA is off for it, so it waits for its server.
	FateLost Fate = "LOST"
)

// Loss is what would become of one VM.
type Loss struct {
	VM   pool.VM
	From pool.ServerID
	To   pool.ServerID
	Fate Fate
	Why  string
	// After is about how long after the loss it runs again; 0 if it does not.
	After time.Duration
}

// What a forecast takes for granted.
const (
	// startTime is about what a server needs to start one VM after another, from the assignment to the running guest.
	startTime = 500 * time.Millisecond
	// powerTime is about what a power switch needs.
	powerTime = 3 * time.Second
	// forecastSteps bounds how often the planner is asked: a proof for each server, then recovery.
	forecastSteps = 12
)

// Lose forecasts the loss of servers, all at one moment: it asks Plan what the leader would do, at each instant at
// which it would do something. The result is in the order in which the VMs would start, then the others by name, and
// the snapshot is the pool as it would be then.
func Lose(s *pool.Snapshot, lost []pool.ServerID) ([]Loss, *pool.Snapshot) {
	after := *s
	for _, id := range lost {
		after.Members = after.Members.Without(id)
		if slices.Contains(lost, after.Leader.Server) {
			after.Leader = pool.Leader{Server: "another", Revision: 1}
		}
	}
	f := forecast{snap: &after, lost: lost, at: timing(s.Config).TTL, found: map[pool.VMID]Loss{}, starts: map[pool.ServerID]int{}}
	f.run()
	return f.result(s), f.snap
}

// forecast plays a loss through.
type forecast struct {
	snap *pool.Snapshot
	lost []pool.ServerID
	// at is the time since the loss: when the leases of the lost servers have expired.
	at    time.Duration
	found map[pool.VMID]Loss
	order []pool.VMID
	// starts counts what each server has been given to start.
	starts map[pool.ServerID]int
	alerts map[pool.ServerID]string
}

func (f *forecast) run() {
	start := pool.Instant(time.Hour)
	in := Input{Snapshot: f.snap, Leader: f.snap.Leader, Now: start, Wall: latest(f.snap), Power: map[pool.ServerID]Power{}}
	in.Lost = Look(nil, f.snap, start)
	for range forecastSteps {
		r := Plan(in)
		f.apply(r)
		if len(r.PowerOff) > 0 && f.power(in.Power, r.PowerOff) {
			f.at += powerTime
			continue
		}
		if f.complete() || r.WakeAt == 0 {
			return
		}
		f.at += r.WakeAt.Sub(in.Now)
		in.Now = r.WakeAt
	}
}

// power takes it for granted that power fencing works; it returns false if that was said before.
func (f *forecast) power(known map[pool.ServerID]Power, off []pool.ServerID) bool {
	fresh := false
	for _, id := range off {
		if !known[id].Off {
			known[id] = Power{Session: pool.Session(f.snap.Revision), Off: true, Evidence: "assumed"}
			fresh = true
		}
	}
	return fresh
}

// apply carries out what concerns the lost servers.
func (f *forecast) apply(r Result) {
	f.alerts = map[pool.ServerID]string{}
	for _, a := range r.Actions {
		for _, fence := range a.Change.Fences {
			f.snap.Fences = f.snap.Fences.With(fence.Server, fence)
		}
		if a.Kind == RaiseAlert && len(a.Change.Alerts) > 0 && a.Change.Alerts[0].Kind == AlertFencing {
			f.alerts[a.Server] = a.Change.Alerts[0].Text
		}
		if len(a.Change.Claims) > 0 {
			f.claim(a)
		}
	}
}

func (f *forecast) claim(a Action) {
	next := a.Change.Claims[0]
	was, _ := f.snap.Claims.Get(next.VM)
	if !slices.Contains(f.lost, was.Server) {
		return
	}
	vm, _ := f.snap.VMs.Get(next.VM)
	f.snap.Claims = f.snap.Claims.With(next.VM, next)
	l := Loss{VM: vm, From: was.Server, To: next.Server, Fate: FateWaits, Why: a.Why}
	if next.Server != "" {
		l.Fate, l.After = FateRestarts, f.at+time.Duration(1+f.starts[next.Server])*startTime
		f.starts[next.Server]++
	}
	if _, twice := f.found[next.VM]; !twice {
		f.order = append(f.order, next.VM)
	}
	f.found[next.VM] = l
}

// complete reports whether no claim names a lost server that is to be recovered.
func (f *forecast) complete() bool {
	for vm, c := range pool.Join(f.snap.VMs, f.snap.Claims) {
		if vm != nil && c != nil && f.snap.Protected(*vm) && slices.Contains(f.lost, c.Server) {
			return false
		}
	}
	return true
}

// result adds the VMs that nothing would be done for.
func (f *forecast) result(before *pool.Snapshot) []Loss {
	var out, rest []Loss
	for _, id := range f.order {
		if f.found[id].Fate == FateRestarts {
			out = append(out, f.found[id])
		} else {
			rest = append(rest, f.found[id])
		}
	}
	for vm, c := range pool.Join(before.VMs, before.Claims) {
		if vm == nil || c == nil || !slices.Contains(f.lost, c.Server) {
			continue
		}
		if _, known := f.found[vm.ID]; known || vm.Desired != pool.DesiredRunning {
			continue
		}
		l := Loss{VM: *vm, From: c.Server, Fate: FateLost, Why: unprotectedWhy(before.Config, *vm)}
		if before.Protected(*vm) {
			l.Fate, l.Why = FateUnfenced, f.alerts[c.Server]
			if l.Why == "" {
				l.Why = fmt.Sprintf("nothing would prove that %s is off", c.Server)
			}
		}
		rest = append(rest, l)
	}
	slices.SortStableFunc(out, func(a, b Loss) int { return cmp.Compare(a.After, b.After) })
	slices.SortStableFunc(rest, func(a, b Loss) int {
		return cmp.Or(cmp.Compare(a.Fate, b.Fate), place.ByUrgency(place.Request{VM: a.VM}, place.Request{VM: b.VM}))
	})
	return append(out, rest...)
}
