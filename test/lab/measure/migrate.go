package measure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/holdfast-ha/holdfast/test/lab"
	"github.com/holdfast-ha/holdfast/test/lab/holdfast"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Migrate says how to measure live migration.
type Migrate struct {
	// Runs is how often each guest moves.
	Runs int
	Out  io.Writer
}

// Targets. Source: the issue of planned work.
const (
	// targetMorePause is what our hand-over may cost at the median over libvirt's own.
	targetMorePause = 250 * time.Millisecond
	// targetThroughput is how much of plain TCP's speed the mesh must reach, encrypted.
	targetThroughput = 0.8
)

// Guests: small ones for the pause, and one with much to copy for the throughput. Both change memory meanwhile.
var (
	pauseGuest = lab.VM{DirtyMiB: 4, DirtySetMiB: 8, KernelArgs: "hf.every=10"}
	largeGuest = lab.VM{DirtyMiB: 40, DirtySetMiB: 300}
)

// crossing is one measured move.
type crossing struct {
	// cpus and counter: for how long the CPUs, and the guest's own counter, stood still. took: the whole move.
	cpus, counter, took time.Duration
}

// Measure moves guests between two servers of a new pool, by the pool through the mesh and, beside it, by
// `virsh migrate --live` over plain TCP without any Holdfast, in turns; then it empties a server with three VMs.
func (m Migrate) Measure(ctx context.Context, l *lab.Lab) error {
	if err := l.Up(ctx, 3); err != nil {
		return err
	}
	p, err := holdfast.Form(ctx, l, holdfast.Options{HA: true})
	if err != nil {
		return err
	}
	defer p.Close()
	w := tabwriter.NewWriter(m.Out, 0, 4, 2, ' ', 0)
	fmt.Fprintf(w, "WHAT\tBY\tRUNS\tMIN\tMEDIAN\tMAX\tTARGET\tMET\n")
	err = errors.Join(m.pauses(ctx, l, p, w), m.throughput(ctx, l, p, w), m.evacuation(ctx, l, p, w))
	return errors.Join(err, w.Flush())
}

// pauses compares for how long guests stand still.
func (m Migrate) pauses(ctx context.Context, l *lab.Lab, p *holdfast.Pool, w io.Writer) error {
	ours, plain, err := m.sideBySide(ctx, l, p, "pause", pauseGuest)
	if err != nil {
		return err
	}
	part := func(all []crossing, f func(crossing) time.Duration) []time.Duration {
		var d []time.Duration
		for _, c := range all {
			d = append(d, f(c))
		}
		return d
	}
	cpus := func(c crossing) time.Duration { return c.cpus }
	counter := func(c crossing) time.Duration { return c.counter }
	_, base, _ := spread(part(plain, cpus))
	row(w, "guest's CPUs stand still", "virsh, TCP", part(plain, cpus), 0)
	row(w, "guest's CPUs stand still", "pool, mesh", part(ours, cpus), base+targetMorePause)
	row(w, "guest's counter stands still", "virsh, TCP", part(plain, counter), 0)
	row(w, "guest's counter stands still", "pool, mesh", part(ours, counter), 0)
	return nil
}

// throughput compares how long a large guest takes.
func (m Migrate) throughput(ctx context.Context, l *lab.Lab, p *holdfast.Pool, w io.Writer) error {
	ours, plain, err := m.sideBySide(ctx, l, p, "large", largeGuest)
	if err != nil {
		return err
	}
	took := func(all []crossing) (d []time.Duration) {
		for _, c := range all {
			d = append(d, c.took)
		}
		return d
	}
	_, base, _ := spread(took(plain))
	row(w, "380 MiB that change, whole move", "virsh, TCP", took(plain), 0)
	row(w, "380 MiB that change, whole move", "pool, mesh", took(ours), time.Duration(float64(base)/targetThroughput))
	return nil
}

// row prints one line; a target is a bound of the median.
func row(w io.Writer, what, by string, all []time.Duration, target time.Duration) {
	least, median, most := spread(all)
	bound, met := "-", "-"
	if target > 0 {
		bound, met = fmt.Sprintf("<= %.2f s", target.Seconds()), "yes"
		if median > target || len(all) == 0 {
			met = "NO"
		}
	}
	fmt.Fprintf(w, "%s\t%s\t%d\t%.2f s\t%.2f s\t%.2f s\t%s\t%s\n", what, by, len(all), least.Seconds(), median.Seconds(), most.Seconds(), bound, met)
}

// sideBySide moves one guest of the pool and one of libvirt alone, in turns.
func (m Migrate) sideBySide(ctx context.Context, l *lab.Lab, p *holdfast.Pool, name string, guest lab.VM) (ours, plain []crossing, err error) {
	a, b := l.Servers()[1], l.Servers()[2]
	ourGuest, plainGuest := guest, guest
	ourGuest.Name, plainGuest.Name = name+"-pool", name+"-virsh"
	if err := launch(ctx, l, p, ourGuest, a.Name()); err != nil {
		return nil, nil, err
	}
	xml, err := l.Create(ctx, plainGuest)
	if err != nil {
		return nil, nil, err
	}
	if err := a.StartTransient(ctx, xml); err != nil {
		return nil, nil, err
	}
	for _, vm := range []string{ourGuest.Name, plainGuest.Name} {
		// Until it has been through its memory once.
		if _, err := lab.WaitCounter(ctx, l.Disk(vm), 100); err != nil {
			return nil, nil, err
		}
	}
	watch := l.Watch(ctx)
	defer watch.Stop()
	for i := range m.Runs {
		from, to := a, b
		if i%2 == 1 {
			from, to = b, a
		}
		c, err := move(ctx, l, watch, plainGuest.Name, func() error {
			_, err := from.Virsh(ctx, "migrate", "--live", "--unsafe", plainGuest.Name, to.LibvirtURI(), "--migrateuri", "tcp://"+to.Address()+":49152")
			return err
		})
		if err != nil {
			return nil, nil, fmt.Errorf("run %d, virsh: %w", i+1, err)
		}
		plain = append(plain, c)
		c, err = move(ctx, l, watch, ourGuest.Name, func() error { return migrate(ctx, p, ourGuest.Name, to.Name()) })
		if err != nil {
			return nil, nil, fmt.Errorf("run %d, pool: %w", i+1, err)
		}
		ours = append(ours, c)
	}
	_, err = p.VMs.KillVM(ctx, &pb.KillVMRequest{Vm: ourGuest.Name})
	for _, s := range []*lab.Server{a, b} {
		_, _ = s.Virsh(ctx, "destroy", plainGuest.Name) // it is on one of them
	}
	return ours, plain, err
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

// evacuation empties a server that runs three VMs.
func (m Migrate) evacuation(ctx context.Context, l *lab.Lab, p *holdfast.Pool, w io.Writer) error {
	home := l.Servers()[1].Name()
	var names []string
	for i := range 3 {
		vm := pauseGuest
		vm.Name = fmt.Sprint("leaves-", i+1)
		if err := launch(ctx, l, p, vm, home); err != nil {
			return err
		}
		if _, err := lab.WaitCounter(ctx, l.Disk(vm.Name), 20); err != nil {
			return err
		}
		names = append(names, vm.Name)
	}
	began := time.Now()
	if _, err := p.Servers.EnterMaintenance(ctx, &pb.EnterMaintenanceRequest{Server: home, Why: "measurement"}); err != nil {
		return fmt.Errorf("maintenance of %s: %w", home, err)
	}
	for _, vm := range names {
		if _, err := p.UntilVM(ctx, vm, "has left", func(v *pb.VMView) bool {
			c := v.GetClaim()
			return c.GetServer() != home && c.GetPhase() == pb.ClaimPhase_CLAIM_PHASE_HELD
		}); err != nil {
			return err
		}
	}
	row(w, "3 VMs leave a server for maintenance", "pool, mesh", []time.Duration{time.Since(began)}, 0)
	return nil
}
