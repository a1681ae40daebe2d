package lab

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-ha/holdfast/test/lab/inside"
)

// sampleEvery is how often a Watcher looks for new processes and asks the known
// ones for their state. What changes in between comes as QEMU's own events, with
// QEMU's own time, and deaths come from pidfds: the timeline is finer than this.
const sampleEvery = 20 * time.Millisecond

// pollEvery is how often a QEMU that has answered once is asked again, in case an
// event went missing.
const pollEvery = 5 * sampleEvery

// Watcher records, from outside, which server executes which VM from when to
// when. It takes nothing from libvirt or Holdfast: processes are found by
// cgroup, and each QEMU is asked over a private socket.
//
// Only one Watcher per lab may run at a time: a QEMU's watch socket serves one
// client. Methods are safe for concurrent use.
type Watcher struct {
	lab    *Lab
	cancel context.CancelFunc
	done   sync.WaitGroup
	mu     sync.Mutex
	lives  []*Life
	known  map[int]*tracked
	others map[int]int   // samples in which a PID was seen that is not QEMU
	change chan struct{} // closed and replaced at each change
}

// tracked is a living process and the three things that decide whether its
// guest executes.
type tracked struct {
	server           *Server
	life             *Life
	pidfd            int
	running, stopped bool
	// events counts QEMU's own reports; an answer that was asked for before the
	// latest of them is out of date.
	events int
}

// Watch starts to record. Stop it, or end ctx.
func (l *Lab) Watch(ctx context.Context) *Watcher {
	ctx, cancel := context.WithCancel(ctx)
	w := &Watcher{lab: l, cancel: cancel, known: map[int]*tracked{}, others: map[int]int{}, change: make(chan struct{})}
	w.sample(ctx)
	w.done.Go(func() { w.loop(ctx) })
	return w
}

// Stop ends the recording; what was recorded stays readable.
func (w *Watcher) Stop() {
	w.cancel()
	w.done.Wait()
}

func (w *Watcher) loop(ctx context.Context) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			w.sample(ctx)
		}
	}
}

// sample finds new processes and sees which of the known ones are stopped.
func (w *Watcher) sample(ctx context.Context) {
	seen := map[int]bool{}
	defer maps.DeleteFunc(w.others, func(pid, _ int) bool { return !seen[pid] })
	for _, s := range w.lab.Servers() {
		pids, err := s.cgroup().procs()
		if err != nil {
			continue // the server is going down right now
		}
		frozen := s.cgroup().event("frozen")
		for _, pid := range pids {
			seen[pid] = true
			w.seePID(ctx, s, pid, frozen)
		}
	}
}

func (w *Watcher) seePID(ctx context.Context, s *Server, pid int, frozen bool) {
	w.mu.Lock()
	t := w.known[pid]
	w.mu.Unlock()
	if t == nil {
		if w.worthALook(pid) {
			w.meet(ctx, s, pid)
		}
		return
	}
	state := procState(pid)
	stopped := frozen || state == 'T' || state == 't'
	w.note(t, time.Now(), func() { t.stopped = stopped })
}

// worthALook spares the processes that are clearly not going to become QEMU: a
// fork of libvirtd does so within milliseconds. Only the sampling goroutine uses
// the table.
func (w *Watcher) worthALook(pid int) bool {
	w.others[pid]++
	n := w.others[pid]
	return n < 50 || n%25 == 0
}

// meet starts to follow a new process. The pidfd is opened first, so that what
// is read about the PID afterwards is about that process. A process that is not
// QEMU may yet become QEMU (libvirt forks and executes): it is looked at again.
func (w *Watcher) meet(ctx context.Context, s *Server, pid int) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	q, ok := s.qemu(pid)
	if !ok {
		_ = unix.Close(fd)
		return
	}
	_ = inside.Weigh(pid) // best effort: libvirt gave it a session of its own
	t := &tracked{server: s, pidfd: fd, life: &Life{QEMU: q, Seen: time.Now()}}
	w.mu.Lock()
	w.known[pid] = t
	w.lives = append(w.lives, t.life)
	w.announce()
	w.mu.Unlock()
	w.done.Go(func() { w.awaitDeath(ctx, t) })
	w.done.Go(func() { w.follow(ctx, t) })
}

// awaitDeath notes the process's end the moment the kernel reports it.
func (w *Watcher) awaitDeath(ctx context.Context, t *tracked) {
	defer func() { _ = unix.Close(t.pidfd) }()
	for ctx.Err() == nil {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(t.pidfd), Events: unix.POLLIN}}, 100)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		if n <= 0 {
			continue
		}
		at := time.Now()
		w.mu.Lock()
		t.life.set(false, at)
		t.life.Died = at
		delete(w.known, t.life.PID)
		w.announce()
		w.mu.Unlock()
		return
	}
}

// follow keeps a connection to the process, hears its events, and asks for its
// state now and then.
func (w *Watcher) follow(ctx context.Context, t *tracked) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	var conn *qmp
	defer func() {
		if conn != nil {
			conn.close()
		}
	}()
	for w.alive(t) {
		if conn == nil {
			conn, _ = dialQMP(t.server.qmpSocket(t.life.QEMU, "watch"), func(name string, at time.Time) { w.event(t, name, at) })
		}
		if conn != nil {
			asked := w.eventsOf(t)
			if running, _, err := conn.status(); err == nil {
				w.note(t, time.Now(), func() {
					if t.events == asked {
						t.running = running
					}
				})
				tick.Reset(pollEvery)
			} else if !errors.Is(err, errSilent) {
				conn.close()
				conn = nil
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// event takes over the run state changes that QEMU tells by itself.
func (w *Watcher) event(t *tracked, name string, at time.Time) {
	switch name {
	case "RESUME":
		w.note(t, at, func() { t.running, t.events = true, t.events+1 })
	case "STOP", "SHUTDOWN":
		w.note(t, at, func() { t.running, t.events = false, t.events+1 })
	}
}

func (w *Watcher) eventsOf(t *tracked) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return t.events
}

func (w *Watcher) alive(t *tracked) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return t.life.Died.IsZero()
}

// note changes what is known of a process and brings its timeline up to date.
func (w *Watcher) note(t *tracked, at time.Time, change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !t.life.Died.IsZero() {
		return
	}
	before := t.life.executing()
	change()
	t.life.set(t.running && !t.stopped, at)
	if t.life.executing() != before {
		w.announce()
	}
}

// announce wakes everybody who waits for a change; the lock is held.
func (w *Watcher) announce() {
	close(w.change)
	w.change = make(chan struct{})
}

// Lives copies what was seen so far, in the order of appearance.
func (w *Watcher) Lives() []Life {
	w.mu.Lock()
	defer w.mu.Unlock()
	lives := make([]Life, len(w.lives))
	for i, l := range w.lives {
		lives[i] = *l
		lives[i].Spans = slices.Clone(l.Spans)
	}
	return lives
}

// Overlaps lists every stretch of time in which one VM executed twice. It must
// be empty, always.
func (w *Watcher) Overlaps() []Overlap {
	w.mu.Lock()
	defer w.mu.Unlock()
	return overlaps(w.lives, time.Now())
}

// String is the timeline for people.
func (w *Watcher) String() string { return renderTimeline(w.Lives()) }

// Until waits until found says yes to what was seen so far.
func (w *Watcher) Until(ctx context.Context, found func([]Life) bool) error {
	for {
		w.mu.Lock()
		change := w.change
		w.mu.Unlock()
		if found(w.Lives()) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not seen: %w; the timeline so far:\n%s", context.Cause(ctx), w)
		case <-change:
		}
	}
}

// UntilExecuting waits until the VM executes in a process that began to do so
// after a moment, and returns that process's life. Use the moment of the fault
// to time a failover.
func (w *Watcher) UntilExecuting(ctx context.Context, vm string, after time.Time) (Life, error) {
	var hit Life
	err := w.Until(ctx, func(lives []Life) bool {
		for _, l := range lives {
			if n := len(l.Spans); l.VM == vm && n > 0 && l.Died.IsZero() && l.Spans[n-1].To.IsZero() && l.Spans[n-1].From.After(after) {
				hit = l
				return true
			}
		}
		return false
	})
	if err != nil {
		err = fmt.Errorf("VM %s executing: %w", vm, err)
	}
	return hit, err
}

// UntilStopped waits until the VM executes nowhere and returns when it last did.
func (w *Watcher) UntilStopped(ctx context.Context, vm string) (time.Time, error) {
	var last time.Time
	err := w.Until(ctx, func(lives []Life) bool {
		for _, l := range lives {
			if l.VM != vm || len(l.Spans) == 0 {
				continue
			}
			if l.executing() {
				return false
			}
			last = later(l.Spans[len(l.Spans)-1].To, last)
		}
		return true
	})
	if err != nil {
		err = fmt.Errorf("VM %s stopped: %w", vm, err)
	}
	return last, err
}

// Executing names the servers on which the VM executes now.
func (w *Watcher) Executing(vm string) []string {
	var servers []string
	for _, l := range w.Lives() {
		if l.VM == vm && l.executing() {
			servers = append(servers, l.Server)
		}
	}
	return servers
}

// Starts counts the processes that ever executed the VM: guest boots, if none
// of them was an incoming migration.
func (w *Watcher) Starts(vm string) int {
	n := 0
	for _, l := range w.Lives() {
		if l.VM == vm && len(l.Spans) > 0 {
			n++
		}
	}
	return n
}
