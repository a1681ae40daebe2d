package sim

import (
	"context"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/agent/api"
	"github.com/holdfast-ha/holdfast/agent/sim/scenario"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// What operators ask of a whole server over the API, and scenarios have no statement for.
func init() {
	handlers["pool reboot"] = func(ctx context.Context, a *api.Server, st scenario.Statement) (pool.OperationID, error) {
		r, err := a.ShutdownServer(ctx, &pb.ShutdownServerRequest{Server: st.Server, Evacuate: true, Reboot: true, RequestId: "reboot " + st.Server})
		return pool.OperationID(r.GetOperation().GetId()), err
	}
	handlers["pool shutdown"] = func(ctx context.Context, a *api.Server, st scenario.Statement) (pool.OperationID, error) {
		r, err := a.ShutdownServer(ctx, &pb.ShutdownServerRequest{Server: st.Server})
		return pool.OperationID(r.GetOperation().GetId()), err
	}
	handlers["evacuate and remove"] = func(ctx context.Context, a *api.Server, st scenario.Statement) (pool.OperationID, error) {
		r, err := a.RemoveServer(ctx, &pb.RemoveServerRequest{Server: st.Server, Evacuate: true})
		return pool.OperationID(r.GetOperation().GetId()), err
	}
	handlers["enter and restart"] = func(ctx context.Context, a *api.Server, st scenario.Statement) (pool.OperationID, error) {
		r, err := a.EnterMaintenance(ctx, &pb.EnterMaintenanceRequest{Server: st.Server, RestartUnmovable: true})
		return pool.OperationID(r.GetOperation().GetId()), err
	}
	handlers["cancel"] = func(ctx context.Context, a *api.Server, st scenario.Statement) (pool.OperationID, error) {
		_, err := a.CancelOperation(ctx, &pb.CancelOperationRequest{Operation: st.Text})
		return pool.OperationID(st.Text), err
	}
}

// bed is a settled pool that a test drives.
type bed struct {
	t *testing.T
	*Pool
	check *Checker
}

func plannedBed(t *testing.T, text string) *bed {
	t.Helper()
	f, err := scenario.Parse("test", text)
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewPool(f, 1, nil, Agents)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	if err := p.Settle(); err != nil {
		t.Fatal(err)
	}
	return &bed{t, p, NewChecker(p)}
}

// ask gives a command of an operator.
func (b *bed) ask(verb, server, text string) (pool.OperationID, error) {
	b.t.Helper()
	st := scenario.Statement{Kind: scenario.Command, Verb: verb, Server: server, Text: text}
	b.check.Command(st)
	b.check.note(server, "maintenance enter")
	b.check.note(server, "remove-server")
	if err := b.command(st); err != nil {
		b.t.Fatal(err)
	}
	return b.answered.Operation, b.answered.Err
}

// until runs until ok, and checks the invariants.
func (b *bed) within(limit time.Duration, what string, ok func() bool) {
	b.t.Helper()
	for end := b.Sched.Now() + limit; !ok(); {
		if b.Sched.Now() > end {
			b.t.Fatalf("not within %v: %s", limit, what)
		}
		if err := b.Sched.Run(b.Sched.Now() + 20*time.Millisecond); err != nil {
			b.t.Fatal(err)
		}
		if f := b.check.Violation(); f != nil {
			b.t.Fatal(f)
		}
	}
}

func (b *bed) done(id pool.OperationID, want pool.Outcome) func() bool {
	return func() bool {
		op, ok := b.Snapshot().Operations.Get(id)
		return ok && op.Outcome == want
	}
}

func TestARebootAskedOfThePoolEvacuatesRebootsAndEndsWhenTheServerIsBack(t *testing.T) {
	b := plannedBed(t, "servers s1 s2 s3\nleader s1\nvm web on=s2\nvm lab on=s2 ha=off\n")
	boot := b.World.Server("s2").BootID()
	op, err := b.ask("pool reboot", "s2", "")
	if err != nil {
		t.Fatal(err)
	}
	b.within(3*time.Minute, "the reboot is done", b.done(op, pool.OutcomeDone))
	srv, _ := b.Snapshot().Servers.Get("s2")
	if b.World.Server("s2").BootID() == boot || srv.ShuttingDown || !b.Snapshot().Members.Has("s2") {
		t.Errorf("boot %v, registration %+v", b.World.Server("s2").BootID() != boot, srv)
	}
	for _, vm := range []pool.VMID{"web", "lab"} {
		if im := b.World.Image(vm); im.Starts != 1 || len(im.Executing()) != 1 {
			t.Errorf("%s: %d starts, executes on %v", vm, im.Starts, im.Executing())
		}
	}
}

func TestAShutdownAskedOfThePoolIsRefusedForHAVMsAndStopsTheOthers(t *testing.T) {
	b := plannedBed(t, "servers s1 s2 s3\nleader s1\nvm web on=s2\nvm lab on=s3 ha=off\n")
	if _, err := b.ask("pool shutdown", "s2", ""); err == nil {
		t.Error("a server with an HA VM was shut down")
	}
	op, err := b.ask("pool shutdown", "s3", "")
	if err != nil {
		t.Fatal(err)
	}
	b.within(time.Minute, "s3 is off", func() bool { return !b.World.Server("s3").Powered() })
	b.within(10*time.Second, "the shutdown is done", b.done(op, pool.OutcomeDone))
	if c, _ := b.Snapshot().Claims.Get("lab"); c.Phase != pool.PhaseUnassigned || c.Cause != pool.CauseServerShutdown {
		t.Errorf("lab: %v, %v", c.Phase, c.Cause)
	}
}

func TestARemovalWaitsForTheEvacuation(t *testing.T) {
	b := plannedBed(t, "servers s1 s2 s3\nleader s1\nvm web on=s2\n")
	op, err := b.ask("evacuate and remove", "s2", "")
	if err != nil {
		t.Fatal(err)
	}
	b.within(2*time.Minute, "the removal is done", b.done(op, pool.OutcomeDone))
	if b.Snapshot().Servers.Has("s2") || b.World.Image("web").Starts != 1 {
		t.Errorf("still registered, or web was started %d times", b.World.Image("web").Starts)
	}
}

func TestMaintenanceRestartsWhatCannotMoveIfAsked(t *testing.T) {
	b := plannedBed(t, "servers s1 s2 s3\nleader s1\nvm gpu on=s2 movable=no\nvm web on=s2\n")
	op, err := b.ask("enter and restart", "s2", "")
	if err != nil {
		t.Fatal(err)
	}
	b.within(2*time.Minute, "s2 is empty", b.done(op, pool.OutcomeDone))
	gpu := b.World.Image("gpu")
	if gpu.Starts != 2 || len(gpu.Executing()) != 1 || gpu.Executing()[0] == "s2" || b.World.Image("web").Starts != 1 {
		t.Errorf("gpu: %d starts, on %v; web: %d starts", gpu.Starts, gpu.Executing(), b.World.Image("web").Starts)
	}
}

func TestACancelledEvacuationLeavesEverythingWhereItIs(t *testing.T) {
	b := plannedBed(t, "servers s1 s2 s3\nleader s1\nvm a on=s2\nvm b on=s2\nvm c on=s2\nvm d on=s2\n")
	op, err := b.ask("enter and restart", "s2", "")
	if err != nil {
		t.Fatal(err)
	}
	b.within(time.Minute, "one has left", func() bool { return b.World.Server("s2").Executing() < 4 })
	if _, err := b.ask("cancel", "s2", string(op)); err != nil {
		t.Fatal(err)
	}
	b.within(10*time.Second, "it is cancelled", b.done(op, pool.OutcomeCancelled))
	srv, _ := b.Snapshot().Servers.Get("s2")
	b.within(3*time.Minute, "no move is under way", func() bool {
		for _, o := range b.Snapshot().Operations.All() {
			if o.Outcome == pool.OutcomeRunning {
				return false
			}
		}
		return true
	})
	n := b.World.Server("s2").Executing()
	if srv.Maintenance || n == 0 || n == 4 {
		t.Errorf("maintenance %v, %d VMs on s2", srv.Maintenance, n)
	}
}
