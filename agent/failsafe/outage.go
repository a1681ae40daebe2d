package failsafe

import (
	"slices"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Outage is a stretch of time without etcd in which VMs of this server ran on by promises: past the stop time that their
// lease had given.
type Outage struct {
	// Since is when it was noticed, by the wall clock; Lasted is how long it took until etcd answered.
	Since  time.Time
	Lasted time.Duration
	// VMs are those that promises let run on, in order; By who promised.
	VMs []pool.VMID
	By  []pool.ServerID
	// Ended is when, after Since, the VMs met their stop time all the same; zero: never. Why says who did not promise.
	Ended time.Duration
	Why   string
}

// stretch is an Outage in the making. It belongs to the keeper's loop.
type stretch struct {
	since pool.Instant
	wall  time.Time
	// stop is the stop time that the lease gives, until the one that promises give.
	stop, until pool.Instant
	vms         []pool.VMID
	by          []pool.ServerID
	// why is what stood against the latest round; empty if all promised.
	why   string
	ended pool.Instant
}

// held notes a round in which all promised.
func (s *stretch) held(vms []pool.VMID, by []pool.ServerID, stop, until pool.Instant) {
	if s.ended != 0 {
		return
	}
	s.why = ""
	if len(vms) == 0 {
		return
	}
	s.vms, s.by, s.stop, s.until = vms, by, stop, until
}

// failed notes a round in which somebody did not promise. Once the stop time has passed, that was the end of it.
func (s *stretch) failed(why string, now pool.Instant) {
	if s.ended != 0 {
		return
	}
	s.why = why
	s.meet(now)
}

// meet notes whether the VMs have met their stop time.
func (s *stretch) meet(now pool.Instant) {
	if end := max(s.stop, s.until); s.ended == 0 && len(s.vms) > 0 && !now.Before(end) {
		s.ended = end
	}
}

// over returns what is to be told when etcd answers; ok is false if promises made no difference.
func (s *stretch) over(now pool.Instant) (Outage, bool) {
	if s.why != "" {
		s.meet(now)
	}
	last := now
	if s.ended != 0 {
		last = s.ended
	}
	if len(s.vms) == 0 || !s.stop.Before(last) {
		return Outage{}, false
	}
	o := Outage{Since: s.wall, Lasted: now.Sub(s.since), VMs: slices.Clone(s.vms), By: s.by}
	if s.ended != 0 {
		o.Ended, o.Why = s.ended.Sub(s.since), s.why
	}
	return o, true
}
