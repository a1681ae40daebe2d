package measure

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/holdfast-ha/holdfast/test/lab"
	"github.com/holdfast-ha/holdfast/test/lab/holdfast"
)

// Tour moves one busy guest round the servers of a pool, and fails if it loses a count, boots again, or executes twice.
type Tour struct {
	// Runs is how often it moves.
	Runs int
	Out  io.Writer
}

// Measure makes a pool of three servers and prints each move, and a table at the end.
func (t Tour) Measure(ctx context.Context, l *lab.Lab) error {
	if err := l.Up(ctx, 3); err != nil {
		return err
	}
	p, err := holdfast.Form(ctx, l, holdfast.Options{HA: true})
	if err != nil {
		return err
	}
	defer p.Close()
	servers := l.Servers()
	guest := pauseGuest
	guest.Name = "tourist"
	if err := launch(ctx, l, p, guest, servers[0].Name()); err != nil {
		return err
	}
	if _, err := lab.WaitCounter(ctx, l.Disk(guest.Name), 20); err != nil {
		return err
	}
	watch := l.Watch(ctx)
	defer watch.Stop()
	var cpus, counter, took []time.Duration
	for i := range t.Runs {
		to := servers[(i+1)%len(servers)].Name()
		c, err := move(ctx, l, watch, guest.Name, func() error { return migrate(ctx, p, guest.Name, to) })
		if err != nil {
			return fmt.Errorf("move %d, to %s: %w", i+1, to, err)
		}
		fmt.Fprintf(t.Out, "move %2d to %s: %.2f s, CPUs stood still for %.2f s, counter for %.2f s\n", i+1, to, c.took.Seconds(), c.cpus.Seconds(), c.counter.Seconds())
		cpus, counter, took = append(cpus, c.cpus), append(counter, c.counter), append(took, c.took)
	}
	if all := watch.Overlaps(); len(all) > 0 {
		return fmt.Errorf("it executed twice: %v", all)
	}
	r, err := lab.ReadRecord(l.Disk(guest.Name))
	if err != nil {
		return err
	}
	if r.Boots != 1 || r.Foreign != 0 {
		return fmt.Errorf("the guest booted %d times and found %d writes of others", r.Boots, r.Foreign)
	}
	w := tabwriter.NewWriter(t.Out, 0, 4, 2, ' ', 0)
	fmt.Fprintf(w, "\nWHAT\tBY\tRUNS\tMIN\tMEDIAN\tMAX\tTARGET\tMET\n")
	row(w, "guest's CPUs stand still", "pool, mesh", cpus, 0)
	row(w, "guest's counter stands still", "pool, mesh", counter, 0)
	row(w, "whole move", "pool, mesh", took, 0)
	fmt.Fprintf(t.Out, "no count lost, one boot, never twice\n")
	return w.Flush()
}
