//go:build libvirt_dlopen

package virt

import (
	"context"
	"errors"
	"sync"

	"libvirt.org/go/libvirt"

	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/agent/virt/host"
	"github.com/holdfast-ha/holdfast/agent/virt/process"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Adapter is libvirt as Holdfast uses it: a local.Hypervisor and local.Needs. Create it with New, run Run; every
// other method may be called from any goroutine, before Run too, and fails with pool.ErrUnavailable until connected.
type Adapter struct {
	opt     Options
	clock   clock.Clock
	changed clock.Signal
	procs   process.Table
	facts   host.Facts
	storage *host.Storage
	records *records
	moves   *moves
	calls   *calls[*libvirt.Connect]

	// life ends when Run returns; the watchers of processes run under it.
	life context.Context
	end  context.CancelCauseFunc
	// reading is held by whoever reads domains from libvirt.
	reading chan struct{}

	mu      sync.Mutex
	uri     string
	version string
	down    error // why it is not connected; nil while it is
	stale   bool  // everything must be read again
	synced  bool  // everything was read once
	readAt  pool.Instant
	// answers of this daemon that do not change while it runs.
	answers map[question]string
	// monitorsTried: the directory for second monitors is ready, or cannot be, as noMonitors says.
	monitorsTried bool
	noMonitors    string
}

var (
	_ local.Hypervisor = (*Adapter)(nil)
	_ local.Needs      = (*Adapter)(nil)
	_ local.Drifts     = (*Adapter)(nil)
)

var errNotYet = errors.New("not connected yet")

// New returns an Adapter that is not connected yet.
func New(o Options) *Adapter {
	o = o.complete()
	a := &Adapter{opt: o, clock: o.Clock, changed: o.Clock.NewSignal(), procs: process.Table{Run: o.RunDir},
		records: newRecords(), moves: newMoves(), reading: make(chan struct{}, 1), down: errNotYet, stale: true}
	a.life, a.end = o.Clock.WithCancel(context.Background())
	a.facts = host.Facts{Bounded: host.NewBounded(o.Clock, o.CallLimit)}
	a.storage = host.NewStorage(host.StorageConfig{Clock: o.Clock, Paths: o.StoragePaths,
		Derived: func() []string { return host.Derive(a.records.diskPaths()) }, Changed: a.changed.Set})
	a.calls = newCalls(o.Clock, a.open, a.shut, usable, a.changed.Set)
	return a
}

// Run keeps the connection, receives events and watches the storage until ctx ends. No VM is touched by its end.
// A call that hangs inside libvirt then is left behind.
func (a *Adapter) Run(ctx context.Context) error {
	defer a.end(nil)
	g := clock.NewGroup(a.clock)
	var err error
	g.Go("libvirt connection", func() { err = a.link(ctx) })
	g.Go("libvirt status files", func() { a.watchStatus(ctx) })
	g.Go("storage paths", func() { _ = a.storage.Run(ctx) }) // returns only with ctx
	g.Wait()
	a.calls.renew()
	return err
}

// Changed is set whenever a domain changed, appeared or ended, the connection came back, or storage was lost or found.
func (a *Adapter) Changed() clock.Signal { return a.changed }

// Health says what works. It never blocks.
func (a *Adapter) Health() Health {
	h := Health{Stuck: a.calls.hung(), StuckFiles: a.facts.Bounded.Running()}
	a.mu.Lock()
	defer a.mu.Unlock()
	h.Connected, h.URI, h.Version = a.down == nil, a.uri, a.version
	if a.down != nil {
		h.Reason = a.down.Error()
	}
	return h
}

// Kill ends a process by SIGKILL and returns once it is seen dead, without libvirt.
func (a *Adapter) Kill(ctx context.Context, p guard.Process) error {
	a.records.killing(p)
	if err := a.procs.Kill(ctx, p); err != nil {
		return err
	}
	a.ended(p)
	return nil
}

// Dead reports whether a process is seen dead, without libvirt.
func (a *Adapter) Dead(_ context.Context, p guard.Process) (bool, error) { return a.procs.Dead(p) }

// Absent reports whether no process of the VM with this UUID exists here, without libvirt.
func (a *Adapter) Absent(ctx context.Context, uuid string) (bool, error) {
	return a.procs.Absent(ctx, uuid)
}

// Forget drops what is remembered of a VM that ended.
func (a *Adapter) Forget(vm pool.VMID) {
	if a.records.forget(string(vm)) {
		a.removeMonitor(vm)
	}
}

// watch waits for the end of a process.
func (a *Adapter) watch(p guard.Process) {
	h, err := a.procs.Open(p)
	switch {
	case errors.Is(err, process.ErrNone):
		a.ended(p)
		return
	case err != nil:
		a.opt.Log.Error("a QEMU process cannot be watched", "process", p.String(), "err", err)
		return
	}
	a.clock.Go("watch "+p.String(), func() {
		defer h.Close()
		if h.Wait(a.life) == nil {
			a.ended(p)
		}
	})
}

// ended notes the death of a process and wakes the caller, now and when no more word of libvirt is waited for.
func (a *Adapter) ended(p guard.Process) {
	if !a.records.processEnded(p, a.clock.Now()) {
		return
	}
	a.changed.Set()
	a.clock.Go("settle", func() {
		if a.clock.Sleep(a.life, a.opt.Settle) == nil {
			a.changed.Set()
		}
	})
}
