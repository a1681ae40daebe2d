package localtest

import (
	"context"

	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

var transfers = []rule{
	{"AGuestArrivesPausedAndItsSourceHasEnded", arrivesPaused},
	{"AGuestThatWasPausedArrivesAsOne", pausedArrives},
	{"AnAbortedMigrationLeavesTheGuestRunning", aborted},
	{"AMigrationGoesOnWithoutItsCaller", withoutCaller},
	{"NobodyMigratesWhatIsNotThere", migrateNothing},
	{"TheGuestRunsOnWhenTheDestinationsDaemonDies", destinationDaemonDies},
	{"TheGuestRunsOnWhenTheDestinationsQEMUDies", destinationQEMUDies},
	{"TheGuestRunsOnWhenItsOwnDaemonDies", sourceDaemonDies},
	{"TheCopyDiesWithItsSource", sourceQEMUDies},
}

const operation = "op-1"

func (c *check) migration(g Guest, slow bool) local.Migration {
	m := marker(g)
	m.Operation = operation
	return c.Migration(local.Migration{VM: g.VM, Operation: operation, To: "b", Marker: m}, slow)
}

type result struct {
	transfer local.Transfer
	err      error
	ended    bool
}

// moving begins a slow migration and returns once the copy is there and memory arrives.
func (c *check) moving(ctx context.Context, g Guest) (wait func() result) {
	c.Helper()
	var r result
	over := c.Clock.NewSignal()
	m := c.migration(g, true)
	c.Clock.Go("migrate", func() {
		t, err := c.a.Hypervisor.Migrate(ctx, m)
		r = result{t, err, true}
		over.Set()
	})
	c.until(c.b, g.VM, local.DomainIncoming)
	c.within("the job runs", func() bool { return c.job(c.a).Running || r.ended })
	return func() result {
		c.Helper()
		if !over.Wait(c.ctx, limit) {
			c.Fatal("the call does not come back")
		}
		return r
	}
}

// job returns the job of the VM on its way; a question without an answer is none.
func (c *check) job(s Server) local.Job {
	c.Helper()
	all, err := s.Hypervisor.Domains(c.ctx)
	if err != nil {
		return local.Job{}
	}
	for _, d := range all {
		if j, err := s.Hypervisor.Job(c.ctx, d.VM); err == nil && j.Running {
			return j
		}
	}
	return local.Job{}
}

// noJob waits until a VM has no job any more.
func (c *check) noJob(s Server, vm pool.VMID) {
	c.Helper()
	c.within("the job has ended", func() bool {
		j, err := s.Hypervisor.Job(c.ctx, vm)
		return err == nil && !j.Running
	})
}

// settled checks that a guest runs on at its source in the process where it was, and that no copy is left.
func (c *check) settled(g Guest, was local.Domain) {
	c.Helper()
	now := c.until(c.a, g.VM, local.DomainRunning)
	if now.Process != was.Process || now.Marker == nil || *now.Marker != *was.Marker {
		c.Errorf("at the source: %+v with marker %+v, was %+v", now, now.Marker, was)
	}
	c.noJob(c.a, g.VM)
	c.until(c.b, g.VM, local.DomainGone)
	c.kill(c.a, now)
}

func arrivesPaused(c *check) {
	g, was := c.start(c.a, Obedient)
	wait := c.moving(c.ctx, g)
	if d := c.until(c.a, g.VM, local.DomainRunning); d.Process != was.Process {
		c.Errorf("during the copy: %+v", d)
	}
	if d := c.until(c.b, g.VM, local.DomainIncoming); d.Marker == nil || d.Marker.Operation != operation || d.Process.PID == 0 || d.UUID != g.UUID {
		c.Errorf("the copy, arriving: %+v with marker %+v", d, d.Marker)
	}
	if _, err := c.a.Hypervisor.Migrate(c.ctx, c.migration(g, true)); err == nil {
		c.Error("a second migration beside it")
	}
	r := wait()
	if r.err != nil || !r.transfer.Clean || r.transfer.Paused || r.transfer.Why != "" {
		c.Fatalf("%+v, %v; want a clean transfer", r.transfer, r.err)
	}
	if r.transfer.Rest != nil {
		if !c.dead(c.a, was.Process) {
			c.Error("clean before its process has died")
		}
		if !c.putsAway(c.a, g.VM) {
			c.Error("the job is not over, and a copy could come")
		}
		r.transfer.Rest(c.ctx)
	}
	c.within("the source has died", func() bool { return c.dead(c.a, was.Process) })
	c.within("a copy of it could come", func() bool { return !c.putsAway(c.a, g.VM) })
	if gone := c.until(c.a, g.VM, local.DomainGone); gone.Exit != local.ExitMigrated || gone.Process != was.Process {
		c.Errorf("source: %+v", gone)
	}
	want := marker(g)
	want.Operation = operation
	copied := c.until(c.b, g.VM, local.DomainPaused)
	if copied.Marker == nil || *copied.Marker != want {
		c.Errorf("copy: %+v with marker %+v", copied, copied.Marker)
	}
	c.noJob(c.a, g.VM)
	c.must(c.a.Hypervisor.Abort(c.ctx, g.VM)) // there is nothing to give up
	want.Epoch, want.Operation = 2, ""
	c.must(c.b.Hypervisor.Resume(c.ctx, g.VM, want))
	now := c.until(c.b, g.VM, local.DomainRunning)
	if now.Process != copied.Process || !now.Marker.Started || now.Marker.Epoch != 2 || now.Marker.Operation != "" {
		c.Errorf("resumed: %+v with marker %+v", now, now.Marker)
	}
	c.kill(c.b, now)
}

func (c *check) putsAway(s Server, vm pool.VMID) bool {
	c.Helper()
	yes, err := s.Hypervisor.PutsAway(c.ctx, vm)
	c.must(err)
	return yes
}

func pausedArrives(c *check) {
	g, _ := c.start(c.a, Obedient)
	c.a.Pause(g.VM)
	c.until(c.a, g.VM, local.DomainPaused)
	got, err := c.a.Hypervisor.Migrate(c.ctx, c.migration(g, false))
	if err != nil || !got.Clean || !got.Paused {
		c.Fatalf("%+v, %v; want a clean transfer of a paused guest", got, err)
	}
	copied := c.until(c.b, g.VM, local.DomainPaused)
	m := marker(g)
	m.Epoch, m.Started = 2, true
	c.must(c.b.Hypervisor.Adopt(c.ctx, g.VM, m)) // it stays paused, under a claim of its new server's
	now := c.untilIs(c.b, g.VM, "its new marker", func(d local.Domain) bool { return d.Marker != nil && *d.Marker == m })
	if now.State != local.DomainPaused || now.Process != copied.Process {
		c.Errorf("taken over: %+v", now)
	}
	c.kill(c.b, now)
}

func aborted(c *check) {
	g, was := c.start(c.a, Obedient)
	wait := c.moving(c.ctx, g)
	// An agent that has just started finds the job and can end it.
	anew := Server{Hypervisor: c.a.Anew()}
	c.until(anew, g.VM, local.DomainRunning)
	if !c.job(anew).Running {
		c.Error("an agent that starts does not see the job")
	}
	c.must(anew.Hypervisor.Abort(c.ctx, g.VM))
	if r := wait(); r.err == nil {
		c.Errorf("an aborted migration succeeded: %+v", r.transfer)
	}
	c.settled(g, was)
}

func withoutCaller(c *check) {
	g, was := c.start(c.a, Obedient)
	ctx, giveUp := c.Clock.WithCancel(c.ctx)
	wait := c.moving(ctx, g)
	giveUp(nil)
	if r := wait(); r.err == nil {
		c.Errorf("given up: %+v", r.transfer)
	}
	if !c.job(c.a).Running {
		c.Error("the job ended with its caller")
	}
	c.noJob(c.a, g.VM)
	if gone := c.until(c.a, g.VM, local.DomainGone); gone.Exit != local.ExitMigrated || gone.Process != was.Process {
		c.Errorf("source: %+v", gone)
	}
	c.kill(c.b, c.until(c.b, g.VM, local.DomainPaused))
}

func migrateNothing(c *check) {
	g := c.Guest(Obedient)
	if got, err := c.a.Hypervisor.Migrate(c.ctx, c.migration(g, false)); err == nil {
		c.Errorf("migrated nothing: %+v", got)
	}
	if j, err := c.a.Hypervisor.Job(c.ctx, g.VM); err != nil || j.Running {
		c.Errorf("its job: %+v, %v", j, err)
	}
	c.must(c.a.Hypervisor.Abort(c.ctx, g.VM))
}

// broken checks that nobody takes a broken migration for a clean one.
func (c *check) broken(r result) {
	c.Helper()
	if r.err == nil && r.transfer.Clean {
		c.Errorf("a broken migration is taken for a clean one: %+v", r.transfer)
	}
}

func destinationDaemonDies(c *check) {
	g, was := c.start(c.a, Obedient)
	wait := c.moving(c.ctx, g)
	c.b.KillDaemon()
	c.broken(wait())
	c.b.StartDaemon()
	c.settled(g, was)
}

func destinationQEMUDies(c *check) {
	g, was := c.start(c.a, Obedient)
	wait := c.moving(c.ctx, g)
	c.b.KillQEMU(c.until(c.b, g.VM, local.DomainIncoming).Process)
	c.broken(wait())
	c.settled(g, was)
}

func sourceDaemonDies(c *check) {
	g, was := c.start(c.a, Obedient)
	wait := c.moving(c.ctx, g)
	c.a.KillDaemon()
	c.broken(wait())
	if c.dead(c.a, was.Process) {
		c.Error("the guest died with the daemon")
	}
	c.a.StartDaemon()
	c.settled(g, was)
}

func sourceQEMUDies(c *check) {
	g, was := c.start(c.a, Obedient)
	wait := c.moving(c.ctx, g)
	c.a.KillQEMU(was.Process)
	c.broken(wait())
	if gone := c.until(c.a, g.VM, local.DomainGone); gone.Exit != local.ExitCrashed {
		c.Errorf("source: %+v", gone)
	}
	c.until(c.b, g.VM, local.DomainGone)
}
