package e2e

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/test/lab"
	"github.com/holdfast-ha/holdfast/test/lab/guest/record"

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
	linger(b.t, 500*time.Millisecond)
	b.must(s.Start(process))
}

// killQEMU kills a VM's process on a server, if there still is one. It returns once that is seen dead: what the pool says
// of the VM before is about the time before.
func (b *bed) killQEMU(vm, server string) {
	b.t.Helper()
	qemus, err := b.server(server).QEMUs()
	b.must(err)
	for _, q := range qemus {
		if q.VM == vm {
			_ = syscall.Kill(q.PID, syscall.SIGKILL) // it may have ended by itself
			b.must(b.w.Until(within(b.t, 10*time.Second), func(lives []lab.Life) bool {
				return !slices.ContainsFunc(lives, func(l lab.Life) bool { return l.Server == server && l.PID == q.PID && l.Died.IsZero() })
			}))
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

// await returns at a moment of a migration whose copy has begun to arrive.
func (b *bed) await(m moving, moment int) {
	b.t.Helper()
	if moment < duringIt {
		linger(b.t, time.Duration(moment)*stride)
		return
	}
	_, err := b.w.UntilStopped(within(b.t, 40*time.Second), m.vm)
	b.must(err)
	if moment > duringIt {
		linger(b.t, 250*time.Millisecond)
	}
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

// cell is one case of the matrix: the number of a crash, and of a moment.
type cell struct{ crash, moment int }

// matrix is what is to be played and what came of it.
type matrix struct {
	mu      sync.Mutex
	left    []cell
	results map[cell]string
}

// next takes one case out.
func (m *matrix) next() (c cell, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.left) == 0 {
		return c, false
	}
	c, m.left = m.left[0], m.left[1:]
	return c, true
}

func (m *matrix) note(c cell, result string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.results[c] = result
}

// TestMatrixOfCrashesDuringALiveMigration lets things die at moments of a live migration of a busy guest with HA: the
// guest never runs twice, is never lost, and is always settled within a bound. Without -matrix, twelve cases by a seed.
// Two guests on two pools share the cases.
func TestMatrixOfCrashesDuringALiveMigration(t *testing.T) {
	lab.Require(t)
	m := &matrix{left: chosen(), results: map[cell]string{}}
	began := time.Now()
	all := len(m.left)
	ok := t.Run("cases", func(t *testing.T) {
		for i := range abreast {
			t.Run(fmt.Sprint("guest ", i+1), m.play)
		}
	})
	failed := 0
	for _, r := range m.results {
		if r == failure {
			failed++
		}
	}
	t.Logf("%d cases, %d not settled safely, in %v", all, failed, time.Since(began).Round(time.Second))
	t.Logf("moments 1 to %d during the copy, the others in the hand-over\n%s", duringIt, m)
	if *matrixTable == "" || !ok && len(m.results) == 0 {
		return
	}
	if err := os.WriteFile(*matrixTable, []byte(m.document(failed)), 0o644); err != nil {
		t.Error(err)
	}
}

// chosen are the cases to play, in the order in which to.
func chosen() []cell {
	var cells []cell
	for c := range crashes {
		for m := range moments {
			cells = append(cells, cell{c, m})
		}
	}
	if *wholeMatrix {
		return cells
	}
	seed := *matrixSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano()) % 1_000_000
	}
	fmt.Printf("    twelve cases of the matrix by -matrix.seed=%d\n", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	random.Shuffle(len(cells), func(i, j int) { cells[i], cells[j] = cells[j], cells[i] })
	return cells[:12]
}

// play plays cases with one guest until none is left.
func (m *matrix) play(t *testing.T) {
	b := prepare(t)
	b.must(b.p.SetPool(within(t, 5*time.Second), "migrate-bandwidth", "16M"))
	t.Cleanup(func() {
		if err := b.p.SetPool(context.WithoutCancel(t.Context()), "migrate-bandwidth", "0"); err != nil {
			t.Log(err)
		}
	})
	// It fails more often than a VM may.
	vm := b.busy("vm", b.other(b.leader()), "ha=on", "restarts=1000", "relocations=1000")
	b.settle(vm)
	for c, ok := m.next(); ok; c, ok = m.next() {
		name := fmt.Sprintf("%s, moment %d", crashes[c.crash].name, c.moment+1)
		m.note(c, failure) // if it does not come back
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			here := *b
			here.t = t
			result := here.once(vm, crashes[c.crash], c.moment)
			t.Log(result)
			if !t.Failed() {
				m.note(c, result)
			}
		})
	}
}

// failure is the result of a case that was not settled safely.
const failure = "FAILED"

// String is the table.
func (m *matrix) String() string {
	var table strings.Builder
	table.WriteString("| what dies |")
	for n := range moments {
		fmt.Fprintf(&table, " %d |", n+1)
	}
	table.WriteString("\n|---|" + strings.Repeat("---|", moments) + "\n")
	for c := range crashes {
		fmt.Fprintf(&table, "| %s |", crashes[c].name)
		for n := range moments {
			fmt.Fprintf(&table, " %s |", m.results[cell{c, n}])
		}
		table.WriteString("\n")
	}
	return table.String()
}

// document is the table for docs, with what it means.
func (m *matrix) document(failed int) string {
	return fmt.Sprintf(matrixText, m, len(m.results), failed, settleWithin)
}

const matrixText = `# Crashes during a live migration

Written by ` + "`make lab-matrix`" + `, not by hand. A busy guest with HA moves live between real servers of the lab, with its
copy stretched to several seconds, while something dies. Moments 1 to 8 are spread over the copy, 0.45 s apart; 9 is the
moment at which the guest stands still on its source, 10 a quarter of a second later, in the hand-over. What dies in
libvirt or the agent is started again half a second later, as its unit would be; the network between the two servers
stays cut, and power stays off, until the case is over.

%s
*moved*: it runs on the destination. *stayed*: it runs on the source. Neither lost a count. *restarted*: its process was
lost, and it was booted once, somewhere. The time is from the crash until the VM executes in one place, under a settled
claim, and the migration's operation has ended.

%d cases, of which %d were not settled safely. Each case fails if QEMU processes of two servers ever execute the VM at
once, if the guest finds a write on its disk that it did not make (older memory would too), if it boots without having
been restarted, or if it is not settled after %v.
`

// once is one case of the matrix. The VM is wherever the case before left it.
func (b *bed) once(vm string, c crash, moment int) string {
	b.t.Helper()
	before := len(b.w.Overlaps())
	m := b.route(vm)
	boots := b.record(vm).Boots
	var op *pb.Operation
	for begun := false; !begun; begun = b.begun(m, op) {
		m.asked = time.Now()
		op = b.moveOnce(m)
	}
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
	now := b.record(vm)
	if restarted := strings.Contains(outcome, "restarted"); !restarted && now.Boots != boots {
		b.t.Errorf("it %s, and its guest booted %d times", outcome, now.Boots-boots)
	}
	if now.Foreign > 0 {
		b.t.Errorf("its guest found %d writes that it did not make", now.Foreign)
	}
	if all := b.w.Overlaps(); len(all) > before {
		b.t.Errorf("it executed twice: %v", all[before:])
	}
	return fmt.Sprintf("%s %.1f s", outcome, took.Seconds())
}

// record is what a guest wrote last.
func (b *bed) record(vm string) record.Record {
	b.t.Helper()
	r, err := lab.ReadRecord(b.l.Disk(vm))
	b.must(err)
	return r
}

// begun waits until a copy arrives. It is false if the migration ended before: the destination may still be clearing
// what the case before left there.
func (b *bed) begun(m moving, op *pb.Operation) bool {
	b.t.Helper()
	ctx := within(b.t, 40*time.Second)
	for {
		o, err := b.p.Operation(ctx, op.GetId())
		if b.arrives(m) {
			return true
		}
		if err == nil && o.GetOutcome() != pb.OperationOutcome_OPERATION_OUTCOME_RUNNING {
			b.t.Logf("asked again, since it did not begin: %s", o.GetError())
			linger(b.t, 500*time.Millisecond)
			return false
		}
		if ctx.Err() != nil {
			b.t.Fatalf("the migration neither began nor ended: %v, %v", o, err)
		}
		linger(b.t, 20*time.Millisecond)
	}
}

// arrives reports whether a copy was seen on the destination since the move was asked for.
func (b *bed) arrives(m moving) bool {
	return slices.ContainsFunc(b.w.Lives(), func(l lab.Life) bool {
		return l.VM == m.vm && l.Server == m.target && l.Incoming && l.Seen.After(m.asked)
	})
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
	v, err := b.p.UntilVM(ctx, vm, "is protected", func(v *pb.VMView) bool { return v.GetProtected() && v.GetClaim().GetArmed() })
	b.must(err)
	m := moving{vm: vm, source: v.GetClaim().GetServer()}
	if b.leader() == m.source {
		b.must(b.server(m.source).Stop(ctx, lab.Agent)) // it resigns
		b.must(b.server(m.source).Start(lab.Agent))
		b.must(b.p.UntilUp(ctx))
	}
	for { // who is asked may not have seen the change yet
		var err error
		if m.bystander, err = b.p.Leader(ctx); err == nil && m.bystander != "" && m.bystander != m.source {
			break
		}
		if ctx.Err() != nil {
			b.t.Fatalf("%q leads (%v), and %s should not", m.bystander, err, m.source)
		}
		linger(b.t, 200*time.Millisecond)
	}
	m.target = b.other(m.bystander, m.source)
	return m
}
