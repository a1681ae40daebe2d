package virt

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/agent/virt/process"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// stop is how a domain ended, as an event of libvirt told it.
type stop struct {
	exit     local.Exit
	detail   string
	panicked bool
}

// power is who began a shutdown.
type power int

const (
	powerNone power = iota
	powerGuest
	powerHost
)

// record is what is known of one domain.
type record struct {
	name, uuid string
	qemu       process.QEMU
	state      local.DomainState
	marker     *local.Marker
	disks      []string
	// changes counts the events that told of a change of disks or devices.
	changes int
	// stop was told by an event; nil until then. asked: who began a shutdown. killed: by Kill of this adapter.
	stop     *stop
	asked    power
	panicked bool
	killed   bool
	// left: its monitor said that it ends because it has moved. leaving: libvirt has not said so yet; it answers no
	// question about the domain until the process is dead and it has noticed.
	left, leaving bool
	// ended: the process is seen dead, or libvirt knows the domain no more and no process was ever seen.
	ended   bool
	endedAt pool.Instant
}

// records is the adapter's memory of domains, without any libvirt. Safe for concurrent use; it never blocks.
type records struct {
	mu     sync.Mutex
	byName map[string]*record
	dirty  map[string]bool
	// owed holds the domains, by name with their UUIDs, that were forgotten before libvirt's word of their end came.
	owed map[string]owed
}

type owed struct {
	uuid string
	at   pool.Instant
}

func newRecords() *records {
	return &records{byName: map[string]*record{}, dirty: map[string]bool{}, owed: map[string]owed{}}
}

// seen is one active domain as libvirt shows it. qemu is zero if no process was found.
type seen struct {
	name, uuid string
	qemu       process.QEMU
	state      local.DomainState
	marker     *local.Marker
	disks      []string
}

// observe takes over what libvirt shows of a domain. It reports whether the process is a new one, to be watched.
func (r *records) observe(s seen) (fresh bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.byName[s.name]
	if old != nil && old.ended && (s.qemu.PID == 0 || s.qemu.Process == old.qemu.Process) && strings.EqualFold(old.uuid, s.uuid) {
		return false // libvirt has not noticed the end yet
	}
	if old == nil || old.ended || old.uuid != s.uuid || (s.qemu.PID != 0 && old.qemu.PID != 0 && s.qemu.Process != old.qemu.Process) {
		r.byName[s.name] = &record{name: s.name, uuid: s.uuid, qemu: s.qemu, state: s.state, marker: s.marker, disks: s.disks}
		return s.qemu.PID != 0
	}
	fresh = old.qemu.PID == 0 && s.qemu.PID != 0
	if fresh {
		old.qemu = s.qemu
	}
	old.state, old.marker = s.state, s.marker
	if s.disks != nil {
		old.disks = s.disks
	}
	return fresh
}

// missing notes that libvirt does not list a domain any more. One whose process lives on is kept: it may write.
func (r *records) missing(name string, now pool.Instant) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rec := r.byName[name]; rec != nil && rec.qemu.PID == 0 {
		rec.end(now)
	}
}

func (rec *record) end(now pool.Instant) {
	if !rec.ended {
		rec.ended, rec.endedAt = true, now
	}
}

// processEnded notes that a process is seen dead. It reports whether that is news.
func (r *records) processEnded(p guard.Process, now pool.Instant) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	news := false
	for name, rec := range r.byName {
		if rec.qemu.Process == p && !rec.ended {
			rec.end(now)
			r.dirty[name] = true
			news = true
		}
	}
	return news
}

// mark asks for a domain to be read again.
func (r *records) mark(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dirty[name] = true
}

// forgetDisks asks for a domain's disks to be read again.
func (r *records) forgetDisks(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dirty[name] = true
	if rec := r.byName[name]; rec != nil {
		rec.disks = nil
		rec.changes++
	}
}

// stopped notes why a domain ended, as an event tells it. Only a process's death makes it ended.
func (r *records) stopped(name, uuid string, s stop, now pool.Instant) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dirty[name] = true
	rec := r.byName[name]
	if r.owed[name].uuid == uuid {
		delete(r.owed, name)
		return
	}
	if rec == nil {
		// It came and went between two readings; keep how it ended.
		rec = &record{name: name, uuid: uuid}
		r.byName[name] = rec
	}
	if rec.uuid != uuid || rec.stop != nil {
		return
	}
	rec.stop, rec.leaving = &s, false
	if rec.qemu.PID == 0 {
		rec.end(now)
	}
}

// shutdown notes who began to power a domain off. The process may have been seen dead before the event came: until libvirt
// says that the run has stopped, the event is about it.
func (r *records) shutdown(name string, by power) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dirty[name] = true
	if rec := r.byName[name]; rec != nil && rec.stop == nil {
		rec.asked = by
	}
}

// panickedNow notes that a guest panicked.
func (r *records) panickedNow(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dirty[name] = true
	if rec := r.byName[name]; rec != nil {
		rec.panicked = true
	}
}

// started notes that a new run has begun: what events told before was about an earlier one. Events come in order.
func (r *records) started(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dirty[name] = true
	delete(r.owed, name)
	if rec := r.byName[name]; rec != nil {
		rec.leaving = false
	}
	if rec := r.byName[name]; rec != nil && !rec.ended {
		rec.stop, rec.asked, rec.panicked = nil, powerNone, false
	}
}

// leaves notes that a process said of itself that it ends because its guest has moved.
func (r *records) leaves(name string, p guard.Process) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rec := r.byName[name]; rec != nil && rec.qemu.Process == p && rec.stop == nil {
		rec.left, rec.leaving = true, true
	}
}

// stays notes that libvirt's call for a VM's migration has returned: it answers about the VM again.
func (r *records) stays(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rec := r.byName[name]; rec != nil {
		rec.leaving = false
	}
	r.dirty[name] = true
}

// putsAway reports whether libvirt has yet to notice that the last run of a VM here has ended. It cannot take a new one
// in before. After limit nothing is waited for.
func (r *records) putsAway(name string, now pool.Instant, limit time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o, ok := r.owed[name]; ok {
		return now.Sub(o.at) < limit
	}
	rec := r.byName[name]
	return rec != nil && rec.ended && rec.stop == nil && now.Sub(rec.endedAt) < limit
}

// killing notes that this adapter is about to kill a process.
func (r *records) killing(p guard.Process) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rec := range r.byName {
		if rec.qemu.Process == p {
			rec.killed = true
		}
	}
}

// setMarker notes a marker that was just written.
func (r *records) setMarker(name string, m local.Marker) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rec := r.byName[name]; rec != nil {
		rec.marker = &m
	}
}

// takeDirty returns the names to read again, sorted, and clears them. Those that libvirt would not answer about yet stay.
func (r *records) takeDirty() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	names := make([]string, 0, len(r.dirty))
	for n := range r.dirty {
		if rec := r.byName[n]; rec != nil && rec.leaving {
			continue
		}
		names = append(names, n)
		delete(r.dirty, n)
	}
	slices.Sort(names)
	return names
}

// names returns all names that are not ended.
func (r *records) names() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var names []string
	for n, rec := range r.byName {
		if !rec.ended {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names
}

// get returns a copy of what is known of a domain.
func (r *records) get(name string) (record, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.byName[name]
	if rec == nil {
		return record{}, false
	}
	return *rec, true
}

// forget drops a domain that ended; false if there is none.
func (r *records) forget(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.byName[name]
	if rec == nil || !rec.ended {
		return false
	}
	if rec.stop == nil {
		r.owed[name] = owed{rec.uuid, rec.endedAt}
	}
	delete(r.byName, name)
	return true
}

// reconnected notes that libvirt's word of earlier ends will not come any more.
func (r *records) reconnected() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.owed)
	for _, rec := range r.byName {
		rec.leaving = false
	}
}

// diskPaths returns the disks of the domains that carry a marker.
func (r *records) diskPaths() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, rec := range r.byName {
		if rec.marker != nil && !rec.ended {
			all = append(all, rec.disks...)
		}
	}
	return all
}

// list returns the domains sorted by name. One whose process has just ended is shown as shutting down until an
// event says why, at most for settle; connected false means that no event will come.
func (r *records) list(now pool.Instant, settle time.Duration, connected bool) []local.Domain {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]local.Domain, 0, len(r.byName))
	for _, rec := range r.byName {
		all = append(all, rec.domain(now, settle, connected))
	}
	slices.SortFunc(all, func(a, b local.Domain) int { return strings.Compare(string(a.VM), string(b.VM)) })
	return all
}

func (rec *record) domain(now pool.Instant, settle time.Duration, connected bool) local.Domain {
	d := local.Domain{VM: pool.VMID(rec.name), UUID: strings.ToLower(rec.uuid), Process: rec.qemu.Process, State: rec.state, Panicked: rec.panicked}
	if rec.marker != nil {
		m := *rec.marker
		d.Marker = &m
	}
	if len(rec.qemu.Monitors) > 0 {
		d.Monitor = rec.qemu.Monitors[0]
	}
	if !rec.ended {
		return d
	}
	s, known := rec.why()
	if !known && connected && now.Sub(rec.endedAt) < settle {
		d.State = local.DomainShuttingDown
		return d
	}
	d.State, d.Exit, d.ExitDetail, d.Panicked = local.DomainGone, s.exit, s.detail, s.panicked || rec.panicked
	return d
}

// why says how a domain ended; known is false while an event may still tell.
func (rec *record) why() (s stop, known bool) {
	host := stop{exit: local.ExitDestroyed, detail: "QEMU was ended by a signal from its server"}
	switch {
	case rec.killed:
		return stop{exit: local.ExitDestroyed, detail: "killed by Holdfast"}, true
	case rec.left:
		return stop{exit: local.ExitMigrated, detail: "it migrated to another server"}, true
	case rec.stop != nil && rec.stop.exit == local.ExitGuest && rec.asked == powerHost:
		return host, true
	case rec.stop != nil:
		return *rec.stop, true
	case rec.asked == powerGuest:
		return stop{exit: local.ExitGuest, detail: "the guest powered off"}, true
	case rec.asked == powerHost:
		return host, true
	}
	return stop{exit: local.ExitUnknown, detail: "QEMU ended and nobody saw why"}, false
}
