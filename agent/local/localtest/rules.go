package localtest

import (
	"errors"

	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

var rules = []rule{
	{"ADomainIsMadePausedAndRunsOnlyAfterResume", madePaused},
	{"CreatingTwiceUnderOneMarkerMakesOne", createdTwice},
	{"ADomainOfALaterEpochIsNotResumed", laterEpoch},
	{"AKilledDomainIsGoneUntilItIsForgotten", killedIsGone},
	{"AGuestThatIsAskedPowersOff", askedToPowerOff},
	{"AGuestThatPowersOffIsNoCrash", powersOff},
	{"AGuestThatPanicsIsSeenToHave", panics},
	{"AQEMUThatDiesIsACrash", crashes},
	{"ADiskLockRefusesASecondStartInTheSameWords", diskLock},
	{"ADiskLockIsFreeOnceItsHolderIsDead", lockFreed},
	{"AProcessIsAbsentOnlyOnceItIsDead", absent},
	{"ADomainThatAnOperatorPausedSaysThatItRan", pausedByHand},
	{"AStrangerIsAdoptedWithoutAStop", adopted},
	{"AnotherPoolsDomainIsNotAdopted", notAdopted},
	{"NobodyIsToldOfADomainThatIsNotThere", noDomain},
	{"GuestsOutliveTheDaemon", outliveDaemon},
	{"AProcessIsKilledWithoutTheDaemon", killWithoutDaemon},
	{"WhatEndsUnseenEndsWithoutAReason", endsUnseen},
	{"AnAgentThatStartsFindsWhatRuns", foundAnew},
}

func madePaused(c *check) {
	g := c.Guest(Obedient)
	d := c.create(c.a, g, marker(g))
	if d.State != local.DomainPaused || d.Marker == nil || *d.Marker != marker(g) || d.Process.PID == 0 || d.UUID != g.UUID {
		c.Fatalf("created: %+v with marker %+v", d, d.Marker)
	}
	if now := c.until(c.a, g.VM, local.DomainPaused); now.Process != d.Process || now.Marker.Started {
		c.Errorf("listed: %+v", now)
	}
	c.must(c.a.Hypervisor.Resume(c.ctx, g.VM, marker(g)))
	now := c.until(c.a, g.VM, local.DomainRunning)
	if now.Process != d.Process || now.Marker == nil || !now.Marker.Started || now.Marker.Epoch != 1 {
		c.Errorf("resumed: %+v with marker %+v", now, now.Marker)
	}
	// Again: an answer may have been lost.
	c.must(c.a.Hypervisor.Resume(c.ctx, g.VM, marker(g)))
	c.kill(c.a, now)
}

func createdTwice(c *check) {
	g := c.Guest(Obedient)
	first := c.create(c.a, g, marker(g))
	if again := c.create(c.a, g, marker(g)); again.Process != first.Process {
		c.Errorf("made another: %+v, %+v", first, again)
	}
	c.must(c.a.Hypervisor.Resume(c.ctx, g.VM, marker(g)))
	if _, err := c.a.Hypervisor.Create(c.ctx, g.XML, marker(g)); err == nil {
		c.Error("made one beside one that runs")
	}
	c.kill(c.a, first)
}

func laterEpoch(c *check) {
	g := c.Guest(Obedient)
	m := marker(g)
	m.Epoch = 5
	d := c.create(c.a, g, m)
	m.Epoch = 4
	c.fails(c.a.Hypervisor.Resume(c.ctx, g.VM, m), pool.ErrStale, "resume under an earlier epoch")
	m.Epoch, m.Pool = 5, "other"
	c.fails(c.a.Hypervisor.Resume(c.ctx, g.VM, m), pool.ErrStale, "resume by another pool")
	c.until(c.a, g.VM, local.DomainPaused)
	c.kill(c.a, d)
}

func killedIsGone(c *check) {
	g, d := c.start(c.a, Obedient)
	c.must(c.a.Hypervisor.Kill(c.ctx, d.Process))
	if !c.dead(c.a, d.Process) {
		c.Error("Kill returned, and the process is not dead")
	}
	gone := c.until(c.a, g.VM, local.DomainGone)
	if gone.Exit != local.ExitDestroyed || gone.Marker == nil || gone.Process != d.Process || gone.ExitDetail == "" {
		c.Errorf("killed: %+v", gone)
	}
	if again, ok := c.find(c.a, g.VM); !ok || again.Exit != gone.Exit {
		c.Errorf("asked again: %+v, %v", again, ok)
	}
	c.must(c.a.Hypervisor.Kill(c.ctx, d.Process)) // nothing is left to kill
	c.a.Hypervisor.Forget(g.VM)
	if left, ok := c.find(c.a, g.VM); ok {
		c.Errorf("not forgotten: %+v", left)
	}
	m := marker(g)
	m.Epoch = 2
	next := c.create(c.a, g, m)
	if next.Process == d.Process || next.Marker.Epoch != 2 {
		c.Errorf("created again: %+v", next)
	}
	c.kill(c.a, next)
}

func askedToPowerOff(c *check) {
	g, _ := c.start(c.a, Obedient)
	c.within("the guest obeys", func() bool {
		// One that has not booted yet does not hear the power button.
		if err := c.a.Hypervisor.Shutdown(c.ctx, g.VM); err != nil && !errors.Is(err, local.ErrNoDomain) {
			c.Logf("shutdown: %v", err)
		}
		d, _ := c.find(c.a, g.VM)
		return d.State == local.DomainGone
	})
	if d := c.until(c.a, g.VM, local.DomainGone); d.Exit != local.ExitGuest {
		c.Errorf("asked: %+v", d)
	}
}

func powersOff(c *check) {
	g, _ := c.start(c.a, Leaving)
	if d := c.until(c.a, g.VM, local.DomainGone); d.Exit != local.ExitGuest || d.Panicked {
		c.Errorf("by itself: %+v", d)
	}
}

// A domain that we made ends with its process at a panic; one that was adopted may stay.
func panics(c *check) {
	g, d := c.start(c.a, Panicking)
	now := c.untilIs(c.a, g.VM, "a panic", func(d local.Domain) bool {
		return d.State == local.DomainPanicked || d.State == local.DomainGone
	})
	if !now.Panicked || now.State == local.DomainGone && now.Exit != local.ExitCrashed {
		c.Errorf("panicked: %+v", now)
	}
	c.kill(c.a, d)
}

func crashes(c *check) {
	g, d := c.start(c.a, Obedient)
	c.a.KillQEMU(d.Process)
	if gone := c.until(c.a, g.VM, local.DomainGone); gone.Exit != local.ExitCrashed || gone.Panicked || gone.Process != d.Process {
		c.Errorf("crashed: %+v", gone)
	}
}

func diskLock(c *check) {
	g, d := c.start(c.a, Obedient)
	_, first := c.b.Hypervisor.Create(c.ctx, g.XML, marker(g))
	_, second := c.b.Hypervisor.Create(c.ctx, g.XML, marker(g))
	c.fails(first, local.ErrDiskLocked, "a second start")
	c.fails(second, local.ErrDiskLocked, "a third start")
	// A reason that changes at each try would be written each time.
	if first != nil && second != nil && first.Error() != second.Error() {
		c.Errorf("two refusals for one reason: %v; %v", first, second)
	}
	if now := c.until(c.a, g.VM, local.DomainRunning); now.Process != d.Process {
		c.Errorf("the first: %+v", now)
	}
	c.kill(c.a, d)
}

func lockFreed(c *check) {
	g := c.Guest(Obedient)
	first := c.create(c.a, g, marker(g)) // a paused QEMU holds its lock too
	_, err := c.b.Hypervisor.Create(c.ctx, g.XML, marker(g))
	c.fails(err, local.ErrDiskLocked, "a start beside a paused one")
	c.must(c.a.Hypervisor.Kill(c.ctx, first.Process))
	next := c.create(c.b, g, marker(g))
	c.must(c.b.Hypervisor.Resume(c.ctx, g.VM, marker(g)))
	c.kill(c.b, next)
}

func absent(c *check) {
	g, d := c.start(c.a, Obedient)
	if gone, err := c.a.Hypervisor.Absent(c.ctx, g.UUID); gone || err != nil {
		c.Errorf("while it runs: %v, %v", gone, err)
	}
	if c.dead(c.a, d.Process) {
		c.Error("dead while it runs")
	}
	c.must(c.a.Hypervisor.Kill(c.ctx, d.Process))
	if gone, err := c.a.Hypervisor.Absent(c.ctx, g.UUID); !gone || err != nil {
		c.Errorf("killed: %v, %v", gone, err)
	}
}

func pausedByHand(c *check) {
	g, d := c.start(c.a, Obedient)
	c.a.Pause(g.VM)
	if now := c.until(c.a, g.VM, local.DomainPaused); now.Marker == nil || !now.Marker.Started || now.Process != d.Process {
		c.Errorf("paused: %+v with marker %+v", now, now.Marker)
	}
	c.must(c.a.Hypervisor.Resume(c.ctx, g.VM, marker(g)))
	c.kill(c.a, c.until(c.a, g.VM, local.DomainRunning))
}

func adopted(c *check) {
	g := c.Guest(Obedient)
	c.a.Stranger(g)
	was := c.until(c.a, g.VM, local.DomainRunning)
	if was.Marker != nil {
		c.Fatalf("a stranger: %+v with marker %+v", was, was.Marker)
	}
	m := marker(g)
	m.Started = true
	for range 2 { // an answer may have been lost
		c.must(c.a.Hypervisor.Adopt(c.ctx, g.VM, m))
	}
	now := c.untilIs(c.a, g.VM, "its marker", func(d local.Domain) bool { return d.Marker != nil })
	if now.Process != was.Process || *now.Marker != m || now.State != local.DomainRunning {
		c.Errorf("adopted: %+v with marker %+v, was %+v", now, now.Marker, was)
	}
	c.kill(c.a, now)
}

func notAdopted(c *check) {
	g, d := c.start(c.a, Obedient)
	m := marker(g)
	m.Pool = "other"
	c.fails(c.a.Hypervisor.Adopt(c.ctx, g.VM, m), pool.ErrRefused, "adopt from another pool")
	c.kill(c.a, d)
}

func noDomain(c *check) {
	g := c.Guest(Obedient)
	h := c.a.Hypervisor
	c.fails(h.Resume(c.ctx, g.VM, marker(g)), local.ErrNoDomain, "resume")
	c.fails(h.Adopt(c.ctx, g.VM, marker(g)), local.ErrNoDomain, "adopt")
	c.fails(h.Shutdown(c.ctx, g.VM), local.ErrNoDomain, "shut down")
	if gone, err := h.Absent(c.ctx, g.UUID); !gone || err != nil {
		c.Errorf("absent: %v, %v", gone, err)
	}
	h.Forget(g.VM)
}

// listed is what may be seen of a VM while the daemon is away: what was known, or nothing.
func (c *check) listed(s Server, vm pool.VMID) (local.Domain, bool) {
	c.Helper()
	all, err := s.Hypervisor.Domains(c.ctx)
	if err != nil {
		c.fails(err, pool.ErrUnavailable, "domains without a daemon")
		return local.Domain{}, false
	}
	for _, d := range all {
		if d.VM == vm {
			return d, true
		}
	}
	c.Errorf("%s is forgotten while the daemon is away", vm)
	return local.Domain{}, false
}

func outliveDaemon(c *check) {
	g, d := c.start(c.a, Obedient)
	c.a.KillDaemon()
	if now, ok := c.listed(c.a, g.VM); ok && (now.State != local.DomainRunning || now.Process != d.Process) {
		c.Errorf("without a daemon: %+v", now)
	}
	if c.dead(c.a, d.Process) {
		c.Error("it died with the daemon")
	}
	other := c.Guest(Obedient)
	_, err := c.a.Hypervisor.Create(c.ctx, other.XML, marker(other))
	c.fails(err, pool.ErrUnavailable, "create without a daemon")
	c.a.StartDaemon()
	now := c.until(c.a, g.VM, local.DomainRunning)
	if now.Process != d.Process || now.Marker == nil || !now.Marker.Started {
		c.Errorf("after its restart: %+v with marker %+v", now, now.Marker)
	}
	c.kill(c.a, now)
}

func killWithoutDaemon(c *check) {
	g, d := c.start(c.a, Obedient)
	c.a.KillDaemon()
	c.must(c.a.Hypervisor.Kill(c.ctx, d.Process))
	if !c.dead(c.a, d.Process) {
		c.Error("not dead")
	}
	if gone, err := c.a.Hypervisor.Absent(c.ctx, g.UUID); !gone || err != nil {
		c.Errorf("absent: %v, %v", gone, err)
	}
	c.a.StartDaemon()
	if gone := c.until(c.a, g.VM, local.DomainGone); gone.Process != d.Process {
		c.Errorf("after the daemon's restart: %+v", gone)
	}
}

func endsUnseen(c *check) {
	g, d := c.start(c.a, Obedient)
	c.a.KillDaemon()
	c.a.KillQEMU(d.Process)
	c.within("it is dead", func() bool { return c.dead(c.a, d.Process) })
	c.a.StartDaemon()
	if gone := c.until(c.a, g.VM, local.DomainGone); gone.Exit != local.ExitUnknown || gone.Process != d.Process {
		c.Errorf("ended unseen: %+v", gone)
	}
}

func foundAnew(c *check) {
	g, d := c.start(c.a, Obedient)
	anew := Server{Hypervisor: c.a.Anew()}
	if now := c.until(anew, g.VM, local.DomainRunning); now.Process != d.Process || now.Marker == nil || *now.Marker != *d.Marker {
		c.Errorf("found: %+v, was %+v", now, d)
	}
	c.kill(anew, d)
}
