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
	// Runs is how often each guest moves each way.
	Runs int
	// Link bounds what each server receives over the network, as "1gbit"; empty: nothing but the machine does.
	Link string
	Out  io.Writer
}

// Targets. Source: the issue of planned work.
const (
	// targetMorePause is what our hand-over may cost at the median over libvirt's own.
	targetMorePause = 250 * time.Millisecond
	// targetThroughput is how much of plain TCP's speed the mesh must reach, encrypted; it must beat SSH.
	targetThroughput, targetSSH = 0.8, 1.0
)

// Guests: a small busy one for the pause, and one with much to copy, all of it noise, for the throughput.
var (
	pauseGuest = lab.VM{DirtyMiB: 4, DirtySetMiB: 8, KernelArgs: "hf.every=10"}
	largeGuest = lab.VM{DirtyMiB: 1, DirtySetMiB: 8, FillMiB: largeFill}
)

const largeFill = 512

// Measure moves guests between two servers of a new pool, by the pool through the mesh and, beside it and in turns, by
// `virsh migrate --p2p` without any Holdfast, over plain TCP and over SSH; then it empties a server with three VMs.
func (m Migrate) Measure(ctx context.Context, l *lab.Lab) error {
	if err := l.Up(ctx, 3); err != nil {
		return err
	}
	if m.Link != "" {
		for _, s := range l.Servers() {
			if err := s.LimitLink(ctx, m.Link); err != nil {
				return err
			}
		}
	}
	ssh, err := m.listen(ctx, l)
	if err != nil {
		return err
	}
	p, err := holdfast.Form(ctx, l, holdfast.Options{HA: true})
	if err != nil {
		return err
	}
	defer p.Close()
	w := tabwriter.NewWriter(m.Out, 0, 4, 2, ' ', 0)
	fmt.Fprintf(w, "WHAT\tBY\tRUNS\tMIN\tMEDIAN\tMAX\tTARGET\tMET\n")
	err = errors.Join(m.pauses(ctx, l, p, w), m.throughput(ctx, l, p, w, ssh), m.evacuation(ctx, l, p, w))
	return errors.Join(err, w.Flush())
}

// listen has the servers take libvirt's own migrations; ssh says whether over SSH too.
func (m Migrate) listen(ctx context.Context, l *lab.Lab) (ssh bool, err error) {
	ssh = true
	for _, s := range l.Servers()[1:] {
		if err := s.ListenTCP(ctx); err != nil {
			return false, fmt.Errorf("libvirt over TCP: %w", err)
		}
		switch err := s.ListenSSH(ctx); {
		case errors.Is(err, lab.ErrNoSSH):
			fmt.Fprintf(m.Out, "\nTHE COMPARISON WITH SSH IS SKIPPED: %v\n\n", err)
			return false, nil
		case err != nil:
			return false, fmt.Errorf("libvirt over SSH: %w", err)
		}
	}
	return ssh, nil
}

// pauses compares for how long guests stand still.
func (m Migrate) pauses(ctx context.Context, l *lab.Lab, p *holdfast.Pool, w io.Writer) error {
	r, err := newRace(ctx, l, p, "pause", pauseGuest, false)
	if err != nil {
		return err
	}
	all, err := r.run(ctx, m.Runs)
	if err != nil {
		return err
	}
	for _, way := range []struct {
		what string
		of   func(crossing) time.Duration
	}{
		{"guest's counter stands still", func(c crossing) time.Duration { return c.counter }},
		{"guest's CPUs stand still", func(c crossing) time.Duration { return c.cpus }},
	} {
		plain, ours := each(all[byTCP], way.of), each(all[byPool], way.of)
		_, base, _ := spread(plain)
		row(w, way.what, byTCP, plain, 0)
		row(w, way.what, byPool, ours, base+targetMorePause)
	}
	return r.end(ctx)
}

// throughput compares how fast the memory of a large guest is copied, by QEMU's own account.
func (m Migrate) throughput(ctx context.Context, l *lab.Lab, p *holdfast.Pool, w io.Writer, ssh bool) error {
	r, err := newRace(ctx, l, p, "large", largeGuest, ssh)
	if err != nil {
		return err
	}
	all, err := r.run(ctx, m.Runs)
	if err != nil {
		return err
	}
	speed := func(c crossing) float64 { return c.rate }
	what := fmt.Sprintf("%d MiB of noise, memory copied", largeFill)
	for _, by := range r.names() {
		number(w, what, by, "MiB/s", each(all[by], speed), 0)
	}
	for _, by := range r.names() {
		row(w, fmt.Sprintf("%d MiB of noise, whole move", largeFill), by, each(all[by], func(c crossing) time.Duration { return c.took }), 0)
	}
	for _, by := range []string{byTCP, byPool} { // by TCP they only go on with what they always do
		fine(w, "CPU of both agents per GiB copied", by, "s", each(all[by], crossing.price))
	}
	number(w, "speed, turn by turn", "mesh / TCP", "", ratios(each(all[byPool], speed), each(all[byTCP], speed)), targetThroughput)
	if ssh {
		number(w, "speed, turn by turn", "mesh / SSH", "", ratios(each(all[byPool], speed), each(all[bySSH], speed)), targetSSH)
	}
	return r.end(ctx)
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
