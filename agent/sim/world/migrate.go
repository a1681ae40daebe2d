package world

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/agent/sim/simnet"
	"github.com/holdfast-ha/holdfast/agent/sim/vtime"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Times of a migration, as docs/facts.md has measured them.
const (
	// jobTick is how often a job moves on.
	jobTick = 50 * time.Millisecond
	// longestPause is the most that a guest may stand still for the last of its memory.
	longestPause = 300 * time.Millisecond
	// keepalive is how long libvirtd waits for a silent peer.
	keepalive = 26 * time.Second
	// deathPoll is how often libvirtd looks whether the source's QEMU is dead.
	deathPoll = 200 * time.Millisecond
)

// stage is where a job stands.
type stage int

const (
	jobPrepare stage = iota
	// jobCopy: the guest runs, and its memory is copied in passes.
	jobCopy
	// jobFinish: the guest stands still, and the last of its memory is copied.
	jobFinish
	// jobReply: the copy is complete; the destination's answer is on its way.
	jobReply
	// jobEnded: nothing more happens.
	jobEnded
)

var (
	errUnreachable = errors.New("unable to connect to server: no route to host")
	errClosed      = errors.New("end of file while reading data: input/output error")
	errKeepalive   = errors.New("connection closed due to keepalive timeout")
	errAborted     = errors.New("operation aborted: migration out: canceled by client")
	errNoRoom      = errors.New("domain exists already on the destination")
)

// job is one migration inside the two libvirt daemons: it goes on when its caller is gone.
type job struct {
	w        *World
	m        local.Migration
	from, to *Server
	src, dst *QEMU
	stage    stage
	// lives are the daemons' and the agents' at its beginning.
	fromLife, toLife   int
	fromAgent, toAgent *vtime.Proc
	// relayed: its connections run through the agents, and end with them.
	relayed bool
	// closed: its connections were closed. abort: somebody asked for its end.
	closed, abort bool
	// paused: the guest was paused by hand before. resumed: it ran again after it had been suspended.
	paused, resumed bool

	done, total, left int64
	dirty             int64
	pass              int
	passed            time.Duration
	silent            time.Duration
	finish            time.Duration
	call              *hvCall
}

// Migrate has libvirtd copy a guest to another server.
func (h *Hypervisor) Migrate(ctx context.Context, m local.Migration) (local.Transfer, error) {
	s := h.s
	if !s.libvirtd {
		return local.Transfer{}, s.libvirt(ctx, h.p, time.Millisecond, func() error { return nil })
	}
	k := &hvCall{call: h.p.NewCall(), rest: h.p.NewCall()}
	s.calls = append(s.calls, k)
	j := &job{w: s.w, m: m, stage: jobPrepare, from: s, to: s.w.servers[string(m.To)], call: k, fromLife: s.daemon, fromAgent: s.agent, relayed: s.w.s.Rand().IntN(2) == 0}
	s.jobs = append(s.jobs, j)
	j.after(s.w.s.Between(30*time.Millisecond, 120*time.Millisecond), j.prepare)
	if err := k.call.Wait(ctx); err != nil {
		return local.Transfer{}, fmt.Errorf("migrate %s: %w: %w", m.VM, pool.ErrUnavailable, err)
	}
	if !k.returned {
		return local.Transfer{Clean: true, Rest: func(ctx context.Context) { _ = k.rest.Wait(ctx) }}, nil
	}
	if k.err != nil {
		return local.Transfer{}, fmt.Errorf("migrate %s: %w", m.VM, k.err)
	}
	t := local.Transfer{Clean: !j.resumed, Paused: j.paused}
	if j.resumed {
		t.Why = "its guest ran again after the copy was complete"
	}
	return t, nil
}

// Abort asks libvirtd to give a job up.
func (h *Hypervisor) Abort(ctx context.Context, vm pool.VMID) error {
	took := 200 * time.Millisecond
	if j := h.s.jobOf(vm); j != nil && j.stage == jobFinish {
		took = 6 * time.Second // its monitor does not answer
	}
	err := h.s.libvirt(ctx, h.p, took, func() error {
		if j := h.s.jobOf(vm); j != nil {
			j.abort = true
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("abort the migration of %s: %w", vm, err)
	}
	return nil
}

// Job says how a VM's job stands.
func (h *Hypervisor) Job(ctx context.Context, vm pool.VMID) (local.Job, error) {
	took := 5 * time.Millisecond
	if j := h.s.jobOf(vm); j != nil && j.stage == jobFinish {
		took = 3 * time.Second
	}
	var out local.Job
	err := h.s.libvirt(ctx, h.p, took, func() error {
		j := h.s.jobOf(vm)
		if j == nil {
			return nil
		}
		out = local.Job{Running: true, BytesDone: j.done, BytesTotal: j.total, BytesPerSecond: j.rate(), DirtyPerSecond: j.dirty, Pass: j.pass + 1}
		out.Downtime = time.Duration(float64(j.left) / float64(j.rate()) * float64(time.Second))
		return nil
	})
	if err != nil {
		return local.Job{}, fmt.Errorf("job of %s: %w", vm, err)
	}
	return out, nil
}

// PutsAway reports whether libvirtd has yet to notice the end of the VM's last run on its server.
func (h *Hypervisor) PutsAway(ctx context.Context, vm pool.VMID) (yes bool, err error) {
	err = h.s.libvirt(ctx, h.p, time.Millisecond, func() error { yes = h.s.jobOf(vm) != nil || h.s.find(vm) != nil; return nil })
	if err != nil {
		return false, fmt.Errorf("look for %s: %w", vm, err)
	}
	return yes, nil
}

// CloseWay closes the connections of an operation's job, if they run through its server's agent.
func (s *Server) CloseWay(op pool.OperationID) {
	for _, j := range s.jobs {
		if j.m.Operation == op && j.relayed {
			j.closed = true
		}
	}
}

// jobOf returns the running job of a VM.
func (s *Server) jobOf(vm pool.VMID) *job {
	for _, j := range s.jobs {
		if j.m.VM == vm {
			return j
		}
	}
	return nil
}

func (j *job) after(d time.Duration, f func()) {
	j.w.s.After(d, func() {
		if j.stage != jobEnded {
			f()
		}
	})
}

func (j *job) rate() int64 {
	rate := j.w.o.MigrateRate
	if j.m.Bandwidth > 0 {
		rate = min(rate, j.m.Bandwidth)
	}
	return max(rate, 1)
}

// prepare makes the incoming QEMU on the destination.
func (j *job) prepare() {
	if j.to != nil {
		j.toLife, j.toAgent = j.to.daemon, j.to.agent
	}
	j.src = j.from.find(j.m.VM)
	switch {
	case j.from.daemon != j.fromLife:
		j.end(nil)
		return
	case j.src == nil:
		j.end(local.ErrNoDomain)
		return
	case j.src.state != stateRunning && j.src.state != statePaused, j.from.jobOf(j.m.VM) != j:
		j.end(fmt.Errorf("domain %s cannot migrate in its state", j.m.VM))
		return
	case j.src.image.chain.copying:
		j.end(fmt.Errorf("domain %s has an active block job", j.m.VM))
		return
	case j.to == nil || !j.linked() || !j.to.libvirtd:
		j.end(errUnreachable)
		return
	case j.to.find(j.m.VM) != nil, j.to.jobOf(j.m.VM) != nil:
		j.end(errNoRoom)
		return
	case !j.to.storage:
		j.end(errors.New("cannot access storage file: input/output error"))
		return
	}
	marker := j.m.Marker
	j.dst = j.to.spawn(j.src.image, stateIncoming, &marker)
	j.dst.uuid, j.dst.disk = j.src.uuid, j.src.disk
	j.dst.tell("%s's memory begins to arrive on %s", j.m.VM, j.to.Name)
	j.paused = j.src.state == statePaused
	j.stage = jobCopy
	j.total = used(j.src.image.MemoryBytes)
	j.left, j.dirty = j.total, j.src.image.DirtyRate
	j.after(jobTick, j.tick)
}

// used is how much of its memory a guest has ever written: the first 2 GiB, and a fifth of what is above. Pages of
// zeros are not copied.
func used(memory int64) int64 {
	const small = 2 << 30
	if memory <= small {
		return memory
	}
	return small + (memory-small)/5
}

// linked reports whether the two hosts' connections carry data now.
func (j *job) linked() bool {
	if !j.from.booted || !j.to.booted || !j.w.net.Both(j.from.Name, j.to.Name, simnet.Mesh) {
		return false
	}
	return !j.relayed || !hung(j.fromAgent) && !hung(j.toAgent)
}

func hung(p *vtime.Proc) bool { return p != nil && p.Hung() }

func gone(p *vtime.Proc) bool { return p == nil || !p.Alive() }

// tick moves the job on.
func (j *job) tick() {
	if j.broken() {
		return
	}
	if !j.linked() {
		j.silent += jobTick
		// A guest that stands still for a host that vanished is stuck in a send, and nobody can reach its monitor.
		if j.silent > keepalive && (j.stage != jobFinish || j.to.booted) {
			j.fail(errKeepalive)
			return
		}
		j.after(jobTick, j.tick)
		return
	}
	j.silent = 0
	if j.stage == jobCopy {
		j.copySome()
	} else if j.finish -= jobTick; j.finish <= 0 {
		j.arrive()
		return
	}
	j.after(jobTick, j.tick)
}

// broken ends the job if one of its ends is gone or it was aborted.
func (j *job) broken() bool {
	switch {
	case !j.from.booted:
		j.lose()
	case j.from.daemon != j.fromLife:
		j.orphan()
	case j.src.state == stateDead:
		j.drop(12*time.Millisecond, "the source's QEMU is gone")
		j.end(fmt.Errorf("domain %s is not running any more", j.m.VM))
	case j.to.booted && j.dst.state == stateDead, j.to.booted && j.to.daemon != j.toLife:
		j.fail(errClosed)
	case j.closed, j.relayed && (gone(j.fromAgent) || j.to.booted && gone(j.toAgent)):
		j.fail(errClosed)
	case j.abort:
		j.fail(errAborted)
	default:
		return false
	}
	return true
}

// lose: the source's host is gone. The destination drops its copy when it notices.
func (j *job) lose() {
	j.drop(keepalive, "its source is gone")
	j.end(nil)
}

// orphan: the source's libvirtd died. What is not complete on the destination goes with the connection; the source's
// QEMU goes on by itself unless it has sent everything.
func (j *job) orphan() {
	if j.stage != jobReply {
		j.drop(20*time.Millisecond, "its connection was closed")
		j.back(60 * time.Millisecond)
	}
	j.end(nil)
}

// fail ends the job with the guest going on at its source. A complete copy may stay, paused, looking like a success.
func (j *job) fail(err error) {
	switch {
	case j.stage != jobReply, errors.Is(err, errAborted):
		j.drop(j.w.s.Between(10*time.Millisecond, 40*time.Millisecond), "its migration failed")
	case j.w.s.Rand().IntN(2) == 0:
		j.drop(j.w.s.Between(10*time.Millisecond, 5*time.Second), "its migration failed")
	}
	j.back(j.w.s.Between(5*time.Millisecond, 70*time.Millisecond))
	j.endIn(50*time.Millisecond, err)
}

// back lets the source's guest go on, if it stood still for the copy and its disks can be locked again.
func (j *job) back(in time.Duration) {
	src := j.src
	j.w.s.After(in, func() {
		if src.state != stateFinish && src.state != statePostMigrate {
			return
		}
		if j.paused {
			src.state = statePaused
			src.server.domainsChanged()
			return
		}
		if src.image.lock(src) {
			j.resumed = true
			src.run("goes on, its migration cancelled,")
		}
	})
}

// drop ends the destination's copy.
func (j *job) drop(in time.Duration, why string) {
	dst := j.dst
	if dst == nil {
		return
	}
	j.w.s.After(in, func() {
		if dst.state == stateIncoming || dst.state == stateArrived && !dst.ran {
			dst.end(local.ExitDestroyed, why)
		}
	})
}

// end answers the caller.
func (j *job) end(err error) { j.endIn(0, err) }

func (j *job) endIn(d time.Duration, err error) {
	j.stage = jobEnded
	life := j.fromLife
	j.w.s.After(d, func() {
		j.from.jobs = slices.DeleteFunc(j.from.jobs, func(o *job) bool { return o == j })
		if j.from.daemon != life {
			return // the caller has had its answer
		}
		j.from.calls = slices.DeleteFunc(j.from.calls, func(o *hvCall) bool { return o == j.call })
		j.call.err = err
		j.call.finish()
		j.from.domainsChanged()
	})
}

// copySome copies one tick's worth of memory.
func (j *job) copySome() {
	n := int64(float64(j.rate()) * jobTick.Seconds())
	j.left -= n
	j.done = min(j.done+n, j.total)
	j.passed += jobTick
	if j.left > 0 {
		return
	}
	dirty := j.dirty
	if j.src.state != stateRunning {
		dirty = 0
	}
	j.pass++
	j.left = min(int64(float64(dirty)*j.passed.Seconds()), j.total)
	j.done, j.passed = j.total-j.left, 0
	if j.m.AutoConverge && j.pass > 2 {
		j.dirty = max(j.dirty*7/10, j.src.image.DirtyRate/100)
	}
	if pause := time.Duration(float64(j.left) / float64(j.rate()) * float64(time.Second)); pause <= longestPause {
		j.suspend(pause)
	}
}

// suspend stops the guest for the last of its memory.
func (j *job) suspend(pause time.Duration) {
	j.stage = jobFinish
	j.finish = pause + j.w.s.Between(20*time.Millisecond, 100*time.Millisecond)
	if j.src.state == stateRunning {
		j.src.image.stood, j.src.image.stoodAt = j.src, j.w.s.Now()
		j.src.halt(stateFinish, "the last of its memory is being copied")
	}
}

// arrive: the memory is complete on the destination, whose guest never runs by itself. Neither QEMU locks the disk.
func (j *job) arrive() {
	j.stage = jobReply
	j.src.image.unlock(j.src)
	if j.src.state == stateFinish {
		j.src.state = statePostMigrate
	}
	j.dst.state, j.dst.stale = stateArrived, false
	j.dst.tell("%s's memory is complete on %s", j.m.VM, j.to.Name)
	j.after(j.w.s.Between(10*time.Millisecond, 40*time.Millisecond), j.reply)
}

// reply: the destination says that it has everything.
func (j *job) reply() {
	if j.broken() {
		return
	}
	if !j.linked() {
		if j.silent += jobTick; j.silent > keepalive {
			j.fail(errKeepalive)
			return
		}
		j.after(jobTick, j.reply)
		return
	}
	if spend(&j.src.image.MigrateFails) {
		j.fail(errors.New("internal error: the destination reports a failure (a simulated one)"))
		return
	}
	j.src.end(local.ExitMigrated, "its memory went to "+j.to.Name)
	if !j.paused && !j.resumed && j.w.s.Rand().IntN(4) != 0 {
		j.call.call.Finish() // its agent has heard QEMU say so, and seen it dead; libvirtd is yet to notice
	}
	j.endIn(deathPoll+j.w.s.Between(5*time.Millisecond, 25*time.Millisecond), nil)
}
