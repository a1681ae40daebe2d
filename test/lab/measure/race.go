package measure

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/test/lab"
	"github.com/holdfast-ha/holdfast/test/lab/holdfast"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Names of the ways by which a guest moves.
const (
	byTCP  = "virsh --p2p, TCP"
	byPool = "pool, mesh (TLS)"
	bySSH  = "virsh --p2p --tunnelled, SSH"
)

// crossing is one measured move.
type crossing struct {
	// cpus and counter: for how long the CPUs, and the guest's own counter, stood still. took: the whole move.
	cpus, counter, took time.Duration
	// rate is how fast QEMU copied, in MiB a second, and copied how much, in GiB, by its own account.
	rate, copied float64
	// agents is what the agents of both servers used of the processors meanwhile, in seconds.
	agents float64
}

// price is what the agents used for each GiB that was copied, in seconds of a processor.
func (c crossing) price() float64 { return c.agents / c.copied }

// racer is one way to move a guest. Racers may share a guest.
type racer struct {
	name, vm string
	move     func(ctx context.Context, from, to *lab.Server) error
}

// race moves guests between two servers by each way in turns, so that whatever else the machine does hits all alike.
type race struct {
	l      *lab.Lab
	p      *holdfast.Pool
	racers []racer
	// at says on which of the two servers each guest is.
	servers [2]*lab.Server
	at      map[string]int
}

// newRace starts one guest of the pool and one of libvirt alone, on the same server.
func newRace(ctx context.Context, l *lab.Lab, p *holdfast.Pool, name string, guest lab.VM, ssh bool) (*race, error) {
	r := &race{l: l, p: p, servers: [2]*lab.Server{l.Servers()[1], l.Servers()[2]}, at: map[string]int{}}
	ours, plain := guest, guest
	ours.Name, plain.Name = name+"-pool", name+"-virsh"
	r.racers = []racer{
		{byTCP, plain.Name, func(ctx context.Context, from, to *lab.Server) error {
			_, err := from.Virsh(ctx, "migrate", "--live", "--p2p", "--unsafe", plain.Name, to.TCPURI(), "--migrateuri", "tcp://"+to.Address())
			return err
		}},
		{byPool, ours.Name, func(ctx context.Context, _, to *lab.Server) error { return migrate(ctx, p, ours.Name, to.Name()) }},
	}
	if ssh {
		r.racers = append(r.racers, racer{bySSH, plain.Name, func(ctx context.Context, from, to *lab.Server) error {
			_, err := from.Virsh(ctx, "migrate", "--live", "--p2p", "--tunnelled", "--unsafe", plain.Name, to.SSHURI())
			return err
		}})
	}
	if err := launch(ctx, l, p, ours, r.servers[0].Name()); err != nil {
		return nil, err
	}
	xml, err := l.Create(ctx, plain)
	if err != nil {
		return nil, err
	}
	if err := r.servers[0].StartTransient(ctx, xml); err != nil {
		return nil, err
	}
	for _, vm := range []string{ours.Name, plain.Name} {
		// Until it has been through its memory once.
		if _, err := lab.WaitCounter(ctx, l.Disk(vm), 100); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (r *race) names() (names []string) {
	for _, one := range r.racers {
		names = append(names, one.name)
	}
	return names
}

// run has everybody move n times.
func (r *race) run(ctx context.Context, n int) (map[string][]crossing, error) {
	watch := r.l.Watch(ctx)
	defer watch.Stop()
	all := map[string][]crossing{}
	for i := range n {
		for turn := range r.racers {
			one := r.racers[(i+turn)%len(r.racers)] // nobody is always first
			from, to := r.servers[r.at[one.vm]], r.servers[1-r.at[one.vm]]
			c, err := r.measured(ctx, watch, one, from, to)
			if err != nil {
				return nil, fmt.Errorf("run %d, %s: %w", i+1, one.name, err)
			}
			r.at[one.vm] = 1 - r.at[one.vm]
			all[one.name] = append(all[one.name], c)
		}
	}
	return all, nil
}

// measured has one racer move once.
func (r *race) measured(ctx context.Context, watch *lab.Watcher, one racer, from, to *lab.Server) (crossing, error) {
	before, err := agentsUsed(from, to)
	if err != nil {
		return crossing{}, err
	}
	c, err := move(ctx, r.l, watch, one.vm, func() error { return one.move(ctx, from, to) })
	if err != nil {
		return crossing{}, err
	}
	after, err := agentsUsed(from, to)
	if err != nil {
		return crossing{}, err
	}
	c.agents = (after - before).Seconds()
	c.rate, c.copied, err = copied(ctx, to, one.vm)
	return c, err
}

// agentsUsed returns how much of the processors the agents of some servers have used so far.
func agentsUsed(servers ...*lab.Server) (time.Duration, error) {
	var all time.Duration
	for _, s := range servers {
		pid, err := s.PID(lab.Agent)
		if err != nil {
			return 0, err
		}
		u, err := usageOf(pid)
		if err != nil {
			return 0, fmt.Errorf("%s of %s: %w", lab.Agent, s.Name(), err)
		}
		all += u.cpu
	}
	return all, nil
}

// end stops the guests.
func (r *race) end(ctx context.Context) error {
	var all error
	for vm, at := range r.at {
		if strings.HasSuffix(vm, "-pool") {
			_, err := r.p.VMs.KillVM(ctx, &pb.KillVMRequest{Vm: vm})
			all = errors.Join(all, err)
			continue
		}
		_, err := r.servers[at].Virsh(ctx, "destroy", vm)
		all = errors.Join(all, err)
	}
	return all
}

// copied asks the destination's libvirt how fast the last arrival's memory came, in MiB a second, and how much it was, in
// GiB. QEMU counts from when the way stands, so that what libvirt prepares is no part of it, whichever way it goes.
func copied(ctx context.Context, to *lab.Server, vm string) (rate, amount float64, err error) {
	out, err := to.Virsh(ctx, "domjobinfo", vm, "--completed", "--keep-completed", "--rawstats")
	if err != nil {
		return 0, 0, err
	}
	found := map[string]float64{}
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if key == "memory_bps" || key == "memory_processed" {
			if found[key], err = strconv.ParseFloat(strings.TrimSpace(value), 64); err != nil {
				return 0, 0, err
			}
		}
	}
	if rate, amount = found["memory_bps"]/(1<<20), found["memory_processed"]/(1<<30); rate == 0 || amount == 0 {
		return 0, 0, fmt.Errorf("libvirt does not say how fast %s was copied:\n%s", vm, out)
	}
	return rate, amount, nil
}

// launch registers a VM with HA, starts it on a server and leaves it free to go.
func launch(ctx context.Context, l *lab.Lab, p *holdfast.Pool, vm lab.VM, server string) error {
	xml, err := l.Create(ctx, vm)
	if err != nil {
		return err
	}
	set := map[string]string{"ha": "on", "prefer": server}
	if _, err := p.VMs.RegisterVM(ctx, &pb.RegisterVMRequest{Xml: xml, Set: set}); err != nil {
		return fmt.Errorf("register %s: %w", vm.Name, err)
	}
	if _, err := p.VMs.StartVM(ctx, &pb.StartVMRequest{Vm: vm.Name}); err != nil {
		return fmt.Errorf("start %s: %w", vm.Name, err)
	}
	if _, err := p.UntilStatus(ctx, vm.Name, pb.VMStatus_VM_STATUS_RUNNING); err != nil {
		return err
	}
	_, err = p.VMs.UpdateVM(ctx, &pb.UpdateVMRequest{Vm: vm.Name, Set: map[string]string{"prefer": ""}})
	return err
}

// migrate asks the pool and waits for the end.
func migrate(ctx context.Context, p *holdfast.Pool, vm, to string) error {
	r, err := p.VMs.MigrateVM(ctx, &pb.MigrateVMRequest{Vm: vm, Server: to, Why: "measurement"})
	if err != nil {
		return err
	}
	o, err := p.UntilEnded(ctx, r.GetOperation().GetId())
	if err == nil && o.GetOutcome() != pb.OperationOutcome_OPERATION_OUTCOME_DONE {
		err = fmt.Errorf("%v: %s", o.GetOutcome(), o.GetError())
	}
	return err
}

// move measures one move of a guest.
func move(ctx context.Context, l *lab.Lab, w *lab.Watcher, vm string, do func() error) (crossing, error) {
	counter := lab.WatchCounter(ctx, l.Disk(vm))
	if _, err := lab.WaitCounter(ctx, l.Disk(vm), 5); err != nil {
		return crossing{}, err
	}
	counter.Reset()
	began := time.Now()
	if err := do(); err != nil {
		return crossing{}, errors.Join(err, counter.Stop())
	}
	life, err := w.UntilExecuting(ctx, vm, began)
	if err != nil {
		return crossing{}, errors.Join(err, counter.Stop())
	}
	if _, err := lab.WaitCounter(ctx, l.Disk(vm), 5); err != nil {
		return crossing{}, errors.Join(err, counter.Stop())
	}
	c := crossing{counter: counter.Longest().For, took: life.Spans[0].From.Sub(began)}
	for _, other := range w.Lives() {
		if n := len(other.Spans); other.VM == vm && n > 0 && !other.Died.IsZero() {
			c.cpus = life.Spans[0].From.Sub(other.Spans[n-1].To) // the last of them is the one that it left
		}
	}
	return c, counter.Stop()
}
