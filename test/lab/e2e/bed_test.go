package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/plan"
	"github.com/holdfast-ha/holdfast/test/lab"
	"github.com/holdfast-ha/holdfast/test/lab/holdfast"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// servers is the size of a pool: one more than its etcd votes.
const servers = 4

// abreast is how many tests run at a time, each on a pool of its own: they wait more than they work.
const abreast = 2

// stand is a pool that tests use one after the other; it is made by the first one.
type stand struct {
	// name is the lab's.
	name   string
	lab    *lab.Lab
	pool   *holdfast.Pool
	number int
}

// stands are those that no test uses now. The one that was used last is taken first: whoever runs one test, or one at a
// time, needs one lab.
var stands struct {
	tickets chan struct{}
	mu      sync.Mutex
	free    []*stand
}

func take() *stand {
	<-stands.tickets
	stands.mu.Lock()
	defer stands.mu.Unlock()
	last := len(stands.free) - 1
	s := stands.free[last]
	stands.free = stands.free[:last]
	return s
}

func putBack(s *stand) {
	stands.mu.Lock()
	stands.free = append(stands.free, s)
	stands.mu.Unlock()
	stands.tickets <- struct{}{}
}

func TestMain(m *testing.M) {
	name := os.Getenv(lab.EnvName)
	stands.tickets = make(chan struct{}, abreast)
	for i := range abreast {
		stands.free = append(stands.free, &stand{name: name})
		stands.tickets <- struct{}{}
		// A lab's name has six letters at most.
		name = os.Getenv(lab.EnvName)[:min(5, len(os.Getenv(lab.EnvName)))] + string(rune('b'+i))
	}
	slices.Reverse(stands.free)
	code := m.Run()
	for _, s := range stands.free {
		if err := s.dismantle(); err != nil {
			fmt.Fprintln(os.Stderr, "take the lab down:", err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

func (s *stand) dismantle() error {
	if s.pool != nil {
		s.pool.Close()
	}
	if s.lab == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	l := s.lab
	s.lab, s.pool = nil, nil
	if os.Getenv("HOLDFAST_LAB_KEEP") != "" {
		return nil
	}
	return l.Down(ctx)
}

// bed is what one test works with.
type bed struct {
	t   *testing.T
	s   *stand
	l   *lab.Lab
	p   *holdfast.Pool
	w   *lab.Watcher
	vms []string
	// homes are the servers on which VMs were launched.
	homes map[string]string
	tag   string
	from  time.Time
}

// prepare gives a test a pool for itself, with every server up and no VM, and a Watcher that fails the test if a VM
// ever executes twice. The test runs beside others from here on.
func prepare(t *testing.T) *bed {
	t.Helper()
	lab.Require(t)
	t.Parallel()
	s := take()
	t.Cleanup(func() { putBack(s) })
	if s.pool == nil {
		if err := s.form(within(t, 3*time.Minute)); err != nil {
			if s.lab != nil {
				t.Logf("logs of the servers' processes, last lines:\n%s", s.lab.Tails(25))
			}
			t.Fatalf("make the pool: %v", errors.Join(err, s.dismantle()))
		}
	}
	s.number++
	b := &bed{t: t, s: s, l: s.lab, p: s.pool, homes: map[string]string{}, tag: fmt.Sprintf("t%d", s.number), from: time.Now()}
	t.Cleanup(b.restore)
	b.w = lab.Watched(t, b.l)
	t.Cleanup(b.finish)
	return b
}

func (s *stand) form(ctx context.Context) error {
	l, err := lab.Open(lab.Options{Name: s.name})
	if err != nil {
		return err
	}
	s.lab = l
	if err := l.Up(ctx, servers); err != nil {
		return err
	}
	began := time.Now()
	s.pool, err = holdfast.Form(ctx, l, holdfast.Options{HA: true})
	fmt.Printf("    pool of %d servers made in %s\n", servers, time.Since(began).Round(10*time.Millisecond))
	return err
}

// finish looks at what the guests themselves noticed, and tells about a failure while its traces are there.
func (b *bed) finish() {
	for _, vm := range b.vms {
		if r, err := lab.ReadRecord(b.l.Disk(vm)); err == nil && r.Foreign > 0 {
			b.t.Errorf("%s found %d writes on its disk that it did not make", vm, r.Foreign)
		}
	}
	b.noStrangers()
	if !b.t.Failed() {
		return
	}
	b.t.Logf("what the pool says:\n%s", b.report())
	b.t.Logf("logs of the servers' processes, last lines:\n%s", b.l.Tails(40))
}

// noStrangers looks whether the pool took what it wrote itself for a stranger's. A pool that does not answer says nothing.
func (b *bed) noStrangers() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	r, err := b.p.Events.ListEvents(ctx, &pb.ListEventsRequest{Kind: string(plan.AlertForeign)})
	if err != nil {
		return
	}
	for _, e := range r.GetEvents() {
		if e.GetAt().AsTime().After(b.from) {
			b.t.Errorf("taken for a stranger's: %s", e.GetText())
		}
	}
}

// report is the pool's own view: servers, VMs and the events of this test.
func (b *bed) report() string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var out strings.Builder
	if r, err := b.p.Servers.ListServers(ctx, &pb.ListServersRequest{}); err == nil {
		for _, s := range r.GetServers() {
			fmt.Fprintf(&out, "%s %v leader %v session %d guard %v %s\n", s.GetServer().GetId(), s.GetStates(), s.GetLeader(), s.GetSession(), s.GetMember().GetGuard(), s.GetReason())
		}
	} else {
		fmt.Fprintln(&out, err)
	}
	if r, err := b.p.VMs.ListVMs(ctx, &pb.ListVMsRequest{WithoutXml: true}); err == nil {
		for _, v := range r.GetVms() {
			fmt.Fprintln(&out, holdfast.Describe(v))
		}
	}
	if r, err := b.p.Events.ListEvents(ctx, &pb.ListEventsRequest{Limit: 60}); err == nil {
		for _, e := range r.GetEvents() {
			if at := e.GetAt().AsTime(); at.After(b.from) {
				fmt.Fprintf(&out, "%s %s %s: %s\n", at.Local().Format("15:04:05.000"), e.GetKind(), e.GetActor(), e.GetText())
			}
		}
	}
	return out.String()
}

// restore makes the pool as it was: power, network and processes everywhere, no VM. If that does not work, the next
// test makes a new pool.
func (b *bed) restore() {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Second)
	defer cancel()
	if err := b.restored(ctx); err != nil {
		b.t.Errorf("the pool did not recover from this test: %v\n%s", err, b.report())
		if err := b.s.dismantle(); err != nil {
			b.t.Errorf("take the lab down: %v", err)
		}
	}
}

func (b *bed) restored(ctx context.Context) error {
	for _, s := range b.l.Servers() {
		if err := repair(ctx, s); err != nil {
			return err
		}
	}
	if err := b.p.UntilUp(ctx); err != nil {
		return err
	}
	done := make(chan error, len(b.vms))
	for _, vm := range b.vms {
		go func() { done <- b.remove(ctx, vm) }()
	}
	var all error
	for range b.vms {
		all = errors.Join(all, <-done)
	}
	return all
}

func repair(ctx context.Context, s *lab.Server) error {
	if err := s.Heal(ctx); err != nil {
		return err
	}
	if !s.On() {
		return s.PowerOn(ctx)
	}
	for _, name := range []string{lab.Libvirtd, lab.Etcd, lab.Guard, lab.Agent} {
		if s.Running(name) {
			if err := s.Resume(name); err != nil {
				return err
			}
		} else if err := s.Start(name); err != nil {
			return err
		}
	}
	return nil
}

// remove ends and forgets a VM and deletes its disk.
func (b *bed) remove(ctx context.Context, vm string) error {
	if _, err := b.p.VM(ctx, vm); err == nil {
		if _, err := b.p.VMs.KillVM(ctx, &pb.KillVMRequest{Vm: vm}); err != nil {
			return fmt.Errorf("kill %s: %w", vm, err)
		}
		if _, err := b.p.UntilStatus(ctx, vm, pb.VMStatus_VM_STATUS_STOPPED); err != nil {
			return err
		}
		if _, err := b.p.VMs.RemoveVM(ctx, &pb.RemoveVMRequest{Vm: vm}); err != nil {
			return fmt.Errorf("remove %s: %w", vm, err)
		}
	}
	if err := os.Remove(b.l.Disk(vm)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// patience is how long a test waits at least for what must come: on a machine that others use too, or that stands still for
// seconds, a shorter limit says nothing about Holdfast.
const patience = 30 * time.Second

// within bounds a wait by d, or by patience if that is longer, and names the bound when it has passed.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	return lasting(t, max(d, patience))
}

// lasting ends after d.
func lasting(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), d, fmt.Errorf("%v have passed", d))
	t.Cleanup(cancel)
	return ctx
}

// linger lets time pass.
func linger(t *testing.T, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	<-ctx.Done()
}

func (b *bed) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) server(name string) *lab.Server {
	b.t.Helper()
	s, err := b.l.Server(name)
	b.must(err)
	return s
}

func (b *bed) off(name string) time.Time {
	b.t.Helper()
	at, err := b.server(name).PowerOff(within(b.t, 10*time.Second))
	b.must(err)
	return at
}

func (b *bed) on(name string) {
	b.t.Helper()
	b.must(b.server(name).PowerOn(within(b.t, 20*time.Second)))
}
