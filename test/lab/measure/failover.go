package measure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/holdfast-ha/holdfast/test/lab"
	"github.com/holdfast-ha/holdfast/test/lab/holdfast"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Failover says how to measure failovers.
type Failover struct {
	// Runs is how many servers lose power; every second of them leads etcd.
	Runs int
	TTL  time.Duration
	// Seed draws the pauses before each power loss. A fixed pause locks onto timers and gives falsely tight figures.
	Seed uint64
	// Power gives every server a power switch that acts at once. Members lose power then, and neither leader.
	Power bool
	Out   io.Writer
}

// Targets of the median, over the lease time. Source: docs/safety.md, "Lease budget".
const (
	targetMember = 1500 * time.Millisecond
	targetLeader = 4 * time.Second
	// targetPower is over nothing: a suspect's lease is not waited for.
	targetPower = 3 * time.Second
)

// vm is the one that is measured: it is always on the server that loses power next.
const vm = "measured"

// Measure pulls plugs on a pool of three new servers and prints each run, and a table at the end. The time is from
// just before the power goes until QEMU executes the VM on another server; that the guest boots is seen each time.
func (f Failover) Measure(ctx context.Context, l *lab.Lab) error {
	p, err := f.prepare(ctx, l)
	if err != nil {
		return err
	}
	defer p.Close()
	if f.Power {
		bmc, err := l.ServeBMC(ctx)
		if err != nil {
			return err
		}
		defer bmc.Close()
		if err := f.fenceable(ctx, l, p); err != nil {
			return err
		}
	}
	random := rand.New(rand.NewPCG(f.Seed, 1))
	how := ""
	if f.Power {
		how = " with power fencing"
	}
	fmt.Fprintf(f.Out, "failover%s, T = %v, %d runs, seed %d: power loss to QEMU executing elsewhere\n", how, f.TTL, f.Runs, f.Seed)
	var all []run
	for i := range f.Runs {
		r, err := f.once(ctx, l, p, random, i%2 == 1 && !f.Power)
		if err != nil {
			return fmt.Errorf("run %d: %w", i+1, err)
		}
		fmt.Fprintf(f.Out, "run %2d: %s (%s) lost power after a pause of %.2f s; elsewhere after %.2f s\n", i+1, r.server, r.role(), r.pause.Seconds(), r.took.Seconds())
		all = append(all, r)
	}
	f.table(all)
	return nil
}

// run is one measured power loss.
type run struct {
	server           string
	etcdLeads, leads bool
	pause, took      time.Duration
}

func (r run) role() string {
	switch {
	case r.etcdLeads && r.leads:
		return "etcd leader and pool leader"
	case r.etcdLeads:
		return "etcd leader"
	case r.leads:
		return "pool leader"
	}
	return "member"
}

func (f Failover) prepare(ctx context.Context, l *lab.Lab) (*holdfast.Pool, error) {
	if err := l.Up(ctx, 3); err != nil {
		return nil, err
	}
	p, err := holdfast.Form(ctx, l, holdfast.Options{TTL: f.TTL, HA: true})
	if err != nil {
		return nil, err
	}
	if err := f.newVM(ctx, l, p); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

func (f Failover) newVM(ctx context.Context, l *lab.Lab, p *holdfast.Pool) error {
	xml, err := l.Create(ctx, lab.VM{Name: vm})
	if err != nil {
		return err
	}
	if _, err := p.VMs.RegisterVM(ctx, &pb.RegisterVMRequest{Xml: xml, Set: map[string]string{"ha": "on"}}); err != nil {
		return fmt.Errorf("register %s: %w", vm, err)
	}
	if _, err := p.VMs.StartVM(ctx, &pb.StartVMRequest{Vm: vm}); err != nil {
		return fmt.Errorf("start %s: %w", vm, err)
	}
	return nil
}

// once waits until all is well, draws a pause, and pulls the plug of the VM's server.
func (f Failover) once(ctx context.Context, l *lab.Lab, p *holdfast.Pool, random *rand.Rand, etcdLeads bool) (run, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, fmt.Errorf("two minutes have passed"))
	defer cancel()
	r := run{pause: time.Duration(random.Int64N(int64(f.TTL)))}
	s, err := f.ready(ctx, l, p, etcdLeads)
	if err != nil {
		return r, err
	}
	r.server, r.etcdLeads = s.Name(), etcdLeads
	if leader, err := p.Leader(ctx); err == nil {
		r.leads = leader == r.server
	}
	w := l.Watch(ctx)
	defer w.Stop()
	if err := pause(ctx, r.pause); err != nil {
		return r, err
	}
	at, err := s.PowerOff(ctx)
	if err != nil {
		return r, err
	}
	life, err := w.UntilExecuting(ctx, vm, at)
	if err != nil {
		return r, err
	}
	r.took = life.Spans[0].From.Sub(at)
	if _, err := lab.WaitCounter(ctx, l.Disk(vm), 3); err != nil {
		return r, err
	}
	if twice := w.Overlaps(); len(twice) > 0 {
		return r, fmt.Errorf("two at once: %v", twice)
	}
	return r, s.PowerOn(ctx)
}

// ready waits until every server is up with its vote and the VM is protected, and puts etcd's leadership where it is
// wanted: on the VM's server, or not there.
func (f Failover) ready(ctx context.Context, l *lab.Lab, p *holdfast.Pool, etcdLeads bool) (*lab.Server, error) {
	if err := p.UntilUp(ctx); err != nil {
		return nil, err
	}
	if err := p.UntilVoters(ctx, 3); err != nil {
		return nil, err
	}
	v, err := p.UntilVM(ctx, vm, "is protected", func(v *pb.VMView) bool {
		return v.GetStatus() == pb.VMStatus_VM_STATUS_RUNNING && v.GetProtected() && v.GetClaim().GetArmed()
	})
	if err != nil {
		return nil, err
	}
	if _, err := lab.WaitCounter(ctx, l.Disk(vm), 3); err != nil {
		return nil, err
	}
	name := v.GetClaim().GetServer()
	if f.Power {
		if name, err = f.offTheLeader(ctx, l, p, name); err != nil {
			return nil, err
		}
	}
	if err := f.placeEtcdLeader(ctx, l, p, name, etcdLeads); err != nil {
		return nil, err
	}
	return l.Server(name)
}

// placeEtcdLeader moves etcd's leadership to a server, or away from it. Members that have just started answer late.
func (f Failover) placeEtcdLeader(ctx context.Context, l *lab.Lab, p *holdfast.Pool, server string, there bool) error {
	lead := server
	for _, s := range l.Servers() {
		if !there && s.Name() != server {
			lead = s.Name()
		}
	}
	for {
		now, err := p.EtcdLeader(ctx)
		if err == nil && (now == server) == there {
			return nil
		}
		if err == nil {
			err = p.MoveEtcdLeader(ctx, lead)
		}
		if wait := pause(ctx, 200*time.Millisecond); wait != nil {
			return errors.Join(wait, err)
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
