package measure

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/holdfast-ha/holdfast/test/lab"
	"github.com/holdfast-ha/holdfast/test/lab/holdfast"
)

// Idle says how to measure what Holdfast costs while nothing happens.
type Idle struct {
	// For is how long to look.
	For time.Duration
	Out io.Writer
}

// Targets of an idle agent, embedded etcd apart.
const (
	targetCPU    = 0.5 // percent of one core
	targetMemory = 60 << 20
)

// Measure makes a pool of three servers with one VM each, waits until it is quiet, and prints for each process its
// share of a core and its resident memory, and what was written to etcd.
func (f Idle) Measure(ctx context.Context, l *lab.Lab) error {
	if err := l.Up(ctx, 3); err != nil {
		return err
	}
	p, err := holdfast.Form(ctx, l, holdfast.Options{HA: true})
	if err != nil {
		return err
	}
	defer p.Close()
	if err := (Failover{}).newVM(ctx, l, p); err != nil {
		return err
	}
	if _, err := (Failover{}).ready(ctx, l, p, false); err != nil {
		return err
	}
	// The start's history and the first garbage collections are not what is measured.
	if err := pause(ctx, 10*time.Second); err != nil {
		return err
	}
	leader, err := p.Leader(ctx)
	if err != nil {
		return err
	}
	revision, err := revisionOf(ctx, p)
	if err != nil {
		return err
	}
	before, err := look(l)
	if err != nil {
		return err
	}
	if err := pause(ctx, f.For); err != nil {
		return err
	}
	after, err := look(l)
	if err != nil {
		return err
	}
	now, err := revisionOf(ctx, p)
	if err != nil {
		return err
	}
	f.table(before, after, leader)
	fmt.Fprintf(f.Out, "\netcd's revision rose by %d in %v (target 0)\n", now-revision, f.For)
	return nil
}

func revisionOf(ctx context.Context, p *holdfast.Pool) (int64, error) {
	voters, err := p.Voters(ctx)
	if err != nil {
		return 0, err
	}
	var highest int64
	for _, v := range voters {
		highest = max(highest, v.Revision)
	}
	return highest, nil
}

// usage is what one process has used up to a moment.
type usage struct {
	server, process string
	at              time.Time
	cpu             time.Duration
	resident        int64
}

func look(l *lab.Lab) ([]usage, error) {
	var all []usage
	for _, s := range l.Servers() {
		for _, name := range []string{lab.Agent, lab.Guard, lab.Etcd} {
			pid, err := s.PID(name)
			if err != nil {
				return nil, err
			}
			u, err := usageOf(pid)
			if err != nil {
				return nil, fmt.Errorf("%s of %s: %w", name, s.Name(), err)
			}
			u.server, u.process = s.Name(), name
			all = append(all, u)
		}
	}
	return all, nil
}

// clockTick is the kernel's USER_HZ, 100 on every Linux that Go runs on. time(7)
const clockTick = 10 * time.Millisecond

// usageOf reads fields 14, 15 and 24 of proc_pid_stat(5).
func usageOf(pid int) (usage, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}, err
	}
	end := bytes.LastIndexByte(raw, ')')
	fields := strings.Fields(string(raw[end+1:]))
	if end < 0 || len(fields) < 22 {
		return usage{}, errors.New("cannot read its stat")
	}
	number := func(field int) int64 {
		n, _ := strconv.ParseInt(fields[field-3], 10, 64) // the kernel writes numbers
		return n
	}
	return usage{at: time.Now(), cpu: time.Duration(number(14)+number(15)) * clockTick, resident: number(24) * int64(os.Getpagesize())}, nil
}

func (f Idle) table(before, after []usage, leader string) {
	fmt.Fprintf(f.Out, "idle pool of three servers and one protected VM, over %v\n\n", f.For)
	w := tabwriter.NewWriter(f.Out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "SERVER\tPROCESS\tOF A CORE\tRESIDENT\tTARGET\tMET")
	for i, b := range before {
		a := after[i]
		percent := 100 * float64(a.cpu-b.cpu) / float64(a.at.Sub(b.at))
		target, met := "-", "-"
		if b.process == lab.Agent {
			target, met = fmt.Sprintf("< %.1f %%, %d MiB", targetCPU, targetMemory>>20), "yes"
			if percent >= targetCPU || a.resident >= targetMemory {
				met = "NO"
			}
		}
		name := b.server
		if name == leader {
			name += " (leads)"
		}
		fmt.Fprintf(w, "%s\t%s\t%.2f %%\t%.1f MiB\t%s\t%s\n", name, b.process, percent, float64(a.resident)/(1<<20), target, met)
	}
	_ = w.Flush() // f.Out is the terminal
}
