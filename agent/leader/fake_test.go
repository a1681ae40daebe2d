package leader

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/agent/sim/vtime"
	"github.com/holdfast-ha/holdfast/pkg/plan/plantest"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

const gib = int64(1) << 30

// bench is a leader on a pool in memory, in virtual time.
type bench struct {
	t     *testing.T
	sched *vtime.Scheduler
	proc  *vtime.Proc
	world *plantest.World
	lead  *Leader

	// office is whom the election lets this agent be; resigned counts.
	office   pool.Leader
	resigned int
	// shown is the snapshot that the mirror shows; it follows the world unless behind is set, until CatchUp.
	shown  *pool.Snapshot
	behind bool
	// away: etcd answers no read.
	away bool
	// calls records Commit and CatchUp calls.
	calls []string
	// fail may make the commit of a change fail; applied says whether it takes effect all the same.
	fail func(changes []pool.Change, i int) (err error, applied bool)
	// fencer answers PowerOff.
	fencer func(ctx context.Context, s pool.Server) (string, error)
	// switchOn answers PowerOn, checkOn CheckOn; nil: all is well.
	switchOn, checkOn func(ctx context.Context, s pool.Server) error
}

// newBench has servers s1 (the leader) to s3 with 16 GiB each.
func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, sched: vtime.New(1), world: plantest.New()}
	t.Cleanup(b.sched.Close)
	b.proc = b.sched.NewProc("s1", vtime.Timepiece{Boot: time.Hour, Wall: plantest.Start})
	for _, s := range []pool.ServerID{"s1", "s2", "s3"} {
		b.world.Join(s, 16*gib, 8)
	}
	b.office = b.world.Leader
	b.lead = New(Config{Clock: b.proc, Office: b, Pool: b, Fencer: b, Log: slog.New(slog.DiscardHandler)})
	b.world.Next()
	return b
}

// start runs the leader's loop.
func (b *bench) start() {
	b.changed()
	b.proc.Go("leader", func() { _ = b.lead.Run(context.Background()) })
}

// changed shows the mirror what happened.
func (b *bench) changed() {
	if !b.behind {
		b.shown = b.world.Snapshot()
	}
	b.lead.Wake().Set()
}

// at does something to the pool at a virtual time.
func (b *bench) at(d time.Duration, f func()) {
	b.sched.At(d, func() {
		f()
		b.changed()
	})
}

// until lets time pass.
func (b *bench) until(d time.Duration) {
	b.t.Helper()
	if err := b.sched.Run(d); err != nil {
		b.t.Fatal(err)
	}
}

// held adds a protected VM that runs on a server.
func (b *bench) held(id pool.VMID, on pool.ServerID) {
	v := pool.DefaultVM(id)
	v.HA, v.DiskLocks, v.Desired, v.MemoryBytes, v.CPUs = true, true, pool.DesiredRunning, 2*gib, 1
	b.world.PutVM(v)
	b.world.PutClaim(pool.Claim{VM: id, Server: on, Session: b.world.Members[on].Session, Epoch: 1, Phase: pool.PhaseHeld, Armed: true})
	b.world.PutState(pool.VMState{VM: id, Server: on, Epoch: 1, State: pool.RunRunning})
}

// claim prints where a claim stands.
func (b *bench) claim(id pool.VMID) string {
	c := b.world.Claims[id]
	return fmt.Sprintf("%v %s epoch %d", c.Phase, c.Server, c.Epoch)
}

func (b *bench) want(id pool.VMID, want string) {
	b.t.Helper()
	if got := b.claim(id); got != want {
		b.t.Errorf("at %v the claim of %s is %q, want %q", b.sched.Now(), id, got, want)
	}
}

func (b *bench) Leading() (pool.Leader, bool) { return b.office, b.office.Revision != 0 }

func (b *bench) Resign(context.Context) error {
	b.resigned++
	b.office = pool.Leader{}
	return nil
}

func (b *bench) Snapshot() *pool.Snapshot { return b.shown }

func (b *bench) Commit(ctx context.Context, office pool.Leader, changes []pool.Change) []error {
	b.calls = append(b.calls, fmt.Sprintf("commit %d", len(changes)))
	errs, before := make([]error, len(changes)), b.world.Revision
	for i, c := range changes {
		applied := true
		if b.fail != nil {
			errs[i], applied = b.fail(changes, i)
		}
		if !applied {
			continue
		}
		if err := b.world.Apply(office, c); err != nil {
			errs[i] = err
		}
	}
	if err := b.proc.Sleep(ctx, 2*time.Millisecond); err != nil {
		b.t.Error(err)
	}
	if b.world.Revision != before {
		b.changed()
	}
	return errs
}

func (b *bench) CatchUp(ctx context.Context) error {
	b.calls = append(b.calls, "catch up")
	if err := b.proc.Sleep(ctx, time.Millisecond); err != nil {
		return err
	}
	if b.away {
		return errors.New("etcd does not answer")
	}
	b.behind = false
	b.shown = b.world.Snapshot()
	return nil
}

func (b *bench) PowerOff(ctx context.Context, s pool.Server) (string, error) { return b.fencer(ctx, s) }

func (b *bench) PowerOn(ctx context.Context, s pool.Server) error {
	if b.switchOn == nil {
		return nil
	}
	return b.switchOn(ctx, s)
}

func (b *bench) CheckOn(ctx context.Context, s pool.Server) error {
	if b.checkOn == nil {
		return nil
	}
	return b.checkOn(ctx, s)
}
