package e2e

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/test/lab"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

var (
	wholeMatrix = flag.Bool("matrix", false, "every crash at every moment of a live migration, and the table of it")
	matrixSeed  = flag.Uint64("matrix.seed", 0, "draws the twelve cases that run without -matrix; 0: by the clock")
	matrixTable = flag.String("matrix.table", "", "file to write the table to, besides the log")
)

// moving is one live migration that something happens to.
type moving struct {
	vm                        string
	source, target, bystander string
	asked                     time.Time
}

// crash is something that happens during a live migration.
type crash struct {
	name string
	// at makes it happen.
	at func(b *bed, m moving)
}

// crashes are the rows of the matrix.
var crashes = []crash{
	{"power of the source", func(b *bed, m moving) { b.off(m.source) }},
	{"power of the destination", func(b *bed, m moving) { b.off(m.target) }},
	{"power of the leader", func(b *bed, m moving) { b.off(m.bystander) }},
	{"libvirtd of the source", func(b *bed, m moving) { b.bounce(m.source, lab.Libvirtd) }},
	{"libvirtd of the destination", func(b *bed, m moving) { b.bounce(m.target, lab.Libvirtd) }},
	{"QEMU of the source", func(b *bed, m moving) { b.killQEMU(m.vm, m.source) }},
	{"QEMU of the destination", func(b *bed, m moving) { b.killQEMU(m.vm, m.target) }},
	{"agent of the source", func(b *bed, m moving) { b.bounce(m.source, lab.Agent) }},
	{"agent of the destination", func(b *bed, m moving) { b.bounce(m.target, lab.Agent) }},
	{"network between the two", func(b *bed, m moving) {
		b.must(b.server(m.source).Cut(within(b.t, 5*time.Second), lab.CutFrom(m.target)))
	}},
}

// bounce kills a process; it is started again half a second later, as its unit would be.
func (b *bed) bounce(server, process string) {
	b.t.Helper()
	s := b.server(server)
	b.must(s.Kill(within(b.t, 5*time.Second), process))
	ctx := within(b.t, 500*time.Millisecond)
	<-ctx.Done()
	b.must(s.Start(process))
}

// killQEMU kills a VM's process on a server, if there still is one.
func (b *bed) killQEMU(vm, server string) {
	b.t.Helper()
	qemus, err := b.server(server).QEMUs()
	b.must(err)
	for _, q := range qemus {
		if q.VM == vm {
			_ = syscall.Kill(q.PID, syscall.SIGKILL) // it may have ended by itself
		}
	}
}

// moments are the columns: eight while memory is copied, two in the hand-over.
const (
	moments  = 10
	duringIt = 8
	// stride is the time between two moments. The copy is stretched to eight of them, about.
	stride = 450 * time.Millisecond
)

// await returns at a moment of a migration that has been asked for.
func (b *bed) await(m moving, moment int) {
	b.t.Helper()
	ctx := within(b.t, 40*time.Second)
	if moment < duringIt {
		b.must(b.w.Until(ctx, func(lives []lab.Life) bool {
			for _, l := range lives {
				if l.VM == m.vm && l.Server == m.target && l.Incoming && l.Seen.After(m.asked) {
					return true
				}
			}
			return false
		}))
		linger(b.t, time.Duration(moment)*stride)
		return
	}
	_, err := b.w.UntilStopped(ctx, m.vm)
	b.must(err)
	if moment > duringIt {
		linger(b.t, 250*time.Millisecond)
	}
}

func linger(t *testing.T, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	<-ctx.Done()
}

// settleWithin bounds how long the pool may take until the VM runs again under a settled claim: the lease, a cut that
// libvirt must notice, and a boot, on a busy machine.
const settleWithin = 75 * time.Second

// after waits until a VM executes once, under a settled claim of that server, and says how it came there.
func (b *bed) after(m moving) string {
	b.t.Helper()
	v, err := b.p.UntilVM(within(b.t, settleWithin), m.vm, "runs under a settled claim", func(v *pb.VMView) bool {
		on := b.w.Executing(m.vm)
		return v.GetClaim().GetPhase() == pb.ClaimPhase_CLAIM_PHASE_HELD && v.GetStatus() == pb.VMStatus_VM_STATUS_RUNNING &&
			len(on) == 1 && on[0] == v.GetClaim().GetServer()
	})
	b.must(err)
	at := v.GetClaim().GetServer()
	for _, l := range b.lives(m.vm) {
		if l.Server == at && l.Died.IsZero() && !l.Incoming && l.Seen.After(m.asked) {
			return "restarted"
		}
	}
	switch at {
	case m.source:
		return "stayed"
	case m.target:
		return "moved"
	}
	return "on " + at
}

// TestMatrixOfCrashesDuringALiveMigration lets things die at moments of a live migration of a busy guest with HA: the
// guest never runs twice, is never lost, and is always settled within a bound. Without -matrix, twelve cases by a seed.
func TestMatrixOfCrashesDuringALiveMigration(t *testing.T) {
	b := prepare(t)
	type cell struct{ crash, moment int }
	var cells []cell
	for c := range crashes {
		for m := range moments {
			cells = append(cells, cell{c, m})
		}
	}
	if !*wholeMatrix {
		seed := *matrixSeed
		if seed == 0 {
			seed = uint64(time.Now().UnixNano()) % 1_000_000
		}
		fmt.Printf("    twelve cases of the matrix by -matrix.seed=%d\n", seed)
		random := rand.New(rand.NewPCG(seed, 1))
		random.Shuffle(len(cells), func(i, j int) { cells[i], cells[j] = cells[j], cells[i] })
		cells = cells[:12]
	}
	b.must(b.p.SetPool(within(t, 5*time.Second), "migrate-bandwidth", "16M"))
	t.Cleanup(func() {
		if err := b.p.SetPool(context.WithoutCancel(t.Context()), "migrate-bandwidth", "0"); err != nil {
			t.Log(err)
		}
	})
	vm := b.busy("vm", b.other(b.leader()), "ha=on")
	b.settle(vm)
	results := map[cell]string{}
	for _, c := range cells {
		name := fmt.Sprintf("%s, moment %d", crashes[c.crash].name, c.moment)
		ok := t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			here := *b
			here.t = t
			results[c] = here.once(vm, crashes[c.crash], c.moment)
			t.Log(results[c])
		})
		if !ok {
			results[c] = "FAILED"
		}
	}
	var table strings.Builder
	table.WriteString("| what dies |")
	for m := range moments {
		fmt.Fprintf(&table, " %d |", m+1)
	}
	table.WriteString("\n|---|" + strings.Repeat("---|", moments) + "\n")
	for c := range crashes {
		fmt.Fprintf(&table, "| %s |", crashes[c].name)
		for m := range moments {
			fmt.Fprintf(&table, " %s |", results[cell{c, m}])
		}
		table.WriteString("\n")
	}
	t.Logf("moments 1 to %d during the copy, the others in the hand-over\n%s", duringIt, &table)
	if *matrixTable != "" {
		if err := os.WriteFile(*matrixTable, []byte(table.String()), 0o644); err != nil {
			t.Error(err)
		}
	}
}

// once is one case of the matrix. The VM is wherever the case before left it.
func (b *bed) once(vm string, c crash, moment int) string {
	b.t.Helper()
	before := len(b.w.Overlaps())
	m := b.route(vm)
	m.asked = time.Now()
	op := b.moveOnce(m)
	b.await(m, moment)
	died := time.Now()
	c.at(b, m)
	outcome := b.after(m)
	b.outcome(op, settleWithin)
	took := time.Since(died)
	if again := b.after(m); again != outcome {
		outcome += ", then " + again
	}
	b.rising(m.vm)
	if all := b.w.Overlaps(); len(all) > before {
		b.t.Errorf("it executed twice: %v", all[before:])
	}
	return fmt.Sprintf("%s %.1f s", outcome, took.Seconds())
}

// moveOnce asks for a move as soon as the destination can take the VM: one that has just booted has to look at itself
// first.
func (b *bed) moveOnce(m moving) *pb.Operation {
	b.t.Helper()
	ctx := within(b.t, 40*time.Second)
	for {
		r, err := b.p.VMs.MigrateVM(ctx, &pb.MigrateVMRequest{Vm: m.vm, Server: m.target, Why: "matrix"})
		if err == nil {
			return r.GetOperation()
		}
		if ctx.Err() != nil || !strings.Contains(err.Error(), "cannot take") {
			b.t.Fatal(err)
		}
		linger(b.t, 200*time.Millisecond)
	}
}

// route makes everything well again, and says from where to where the VM goes next. The leader has no part in it.
func (b *bed) route(vm string) moving {
	b.t.Helper()
	ctx := within(b.t, 90*time.Second)
	for _, s := range b.l.Servers() {
		b.must(repair(ctx, s))
	}
	b.must(b.p.UntilUp(ctx))
	b.protected(vm)
	v, err := b.p.VM(ctx, vm)
	b.must(err)
	m := moving{vm: vm, source: v.GetClaim().GetServer()}
	if b.leader() == m.source {
		b.must(b.server(m.source).Stop(ctx, lab.Agent)) // it resigns
		b.must(b.server(m.source).Start(lab.Agent))
		b.must(b.p.UntilUp(ctx))
	}
	if m.bystander = b.leader(); m.bystander == m.source {
		b.t.Fatalf("%s leads again", m.source)
	}
	m.target = b.other(m.bystander, m.source)
	return m
}
