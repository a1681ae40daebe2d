package feed

import (
	"errors"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// The pause between attempts: it doubles from firstPause to lastPause, and half of it is drawn at random so that
// many consoles do not come back at the same moment. The first is short: one agent's death must not be felt.
const (
	firstPause = 200 * time.Millisecond
	lastPause  = 8 * time.Second
)

// errSilent is why a stream was given up.
var errSilent = errors.New("the agent has gone silent")

// errEnded is why a stream that an agent ended is over.
var errEnded = errors.New("the agent ended the stream")

// errOther is why a stream that resumed is over: it is of another pool than the one that was seen.
var errOther = errors.New("the pool is another than before")

// machine decides what a feed does next. It knows no clock: now comes with each call. It belongs to one goroutine.
type machine struct {
	merger Merger
	view   *View
	link   Link
	// held is the highest revision seen, of which pool's data.
	held        int64
	incarnation string
	// resumed says that the open stream was asked for what changed after held. anew has the next one begin with a
	// snapshot: the last one that resumed said nothing of use.
	resumed, anew bool
	pause         time.Duration
	// random returns a number below 1.
	random func() float64
	// back is set when a stream had broken and the pool is there again: what was known before, and since when.
	before *View
	gap    time.Time
	back   *Return
	opened time.Time
}

// Return tells what a console that was cut off has missed.
type Return struct {
	Before, After *View
	Gone          time.Duration
}

// opening is called when an attempt begins. It returns the revision to go on from; 0: begin with a snapshot.
func (m *machine) opening() int64 {
	m.link.Try++
	m.link.NextTry = time.Time{}
	m.resumed = m.view != nil && !m.anew && m.merger.revision == m.held
	if !m.resumed {
		return 0
	}
	return m.held
}

// streams is called when a stream is open.
func (m *machine) streams(now time.Time) {
	m.link.Open, m.link.Synced = true, false
	m.opened = now
}

// goesOn reports whether the first message of a stream that resumed continues what is known: it names the same pool.
// One that was restored from a backup may count the same revisions anew.
func (m *machine) goesOn(r *pb.WatchPoolResponse) bool {
	p := r.GetDelta().GetPool()
	return p != nil && p.GetConfig().GetIncarnation() == m.incarnation && r.GetRevision() >= m.held
}

// message takes one message. It reports whether there is something new to draw, and fails if the stream is of no use.
func (m *machine) message(now time.Time, r *pb.WatchPoolResponse) (changed bool, err error) {
	first := !m.link.Synced
	if first && m.resumed && r.GetSnapshot() == nil && !m.goesOn(r) {
		return false, errOther
	}
	m.link.Heard = now
	m.link.Err, m.link.Denied = nil, false
	if s := r.GetSnapshot(); s != nil {
		if inc := s.GetPool().GetConfig().GetIncarnation(); inc != m.incarnation {
			m.incarnation, m.held = inc, 0
		}
	}
	// A later revision without a change of its own: something changed that is not streamed, such as an incident's record.
	later := m.link.Synced && r.GetRevision() > m.merger.revision
	changed = m.merger.Fold(r) || later
	if r.GetRevision() < m.held {
		return false, nil // an agent that lags: what was known stays on screen
	}
	m.held = r.GetRevision()
	lost := m.merger.pool.GetEtcdLost()
	if hb := r.GetHeartbeat(); hb != nil {
		lost = hb.GetEtcdLost()
	}
	changed = mark(&m.link.EtcdLost, lost, now) || changed
	changed = mark(&m.link.NoLeader, m.merger.pool.GetLeader() == "", now) || changed
	if m.merger.pool == nil {
		return changed, nil
	}
	if changed || first {
		m.view = m.merger.View()
	}
	if first {
		m.synced(now)
		return true, nil
	}
	return changed, nil
}

// mark keeps since when something is so; it reports a change.
func mark(since *time.Time, on bool, now time.Time) bool {
	if on == !since.IsZero() {
		return false
	}
	*since = time.Time{}
	if on {
		*since = now
	}
	return true
}

// synced is called when a new stream has told at least what was known.
func (m *machine) synced(now time.Time) {
	m.link.Synced, m.link.Try, m.link.Lost, m.pause = true, 0, time.Time{}, 0
	m.anew = false
	if m.before != nil {
		m.back = &Return{Before: m.before, After: m.view, Gone: now.Sub(m.gap)}
		m.before = nil
	}
}

// broken is called when a stream, or an attempt to open one, failed. It returns how long to wait; negative: until
// somebody asks.
func (m *machine) broken(now time.Time, err error) time.Duration {
	if m.link.Lost.IsZero() {
		m.link.Lost = now
		if m.before == nil && m.view != nil {
			m.before, m.gap = m.view, m.link.Heard
		}
	}
	if m.link.Open && m.resumed && !m.link.Synced {
		m.anew = true // the agent keeps that revision no more, or says nothing to it
	}
	m.link.Open, m.link.Synced, m.link.Err = false, false, err
	if m.link.Denied = Denied(err); m.link.Denied {
		m.link.NextTry = time.Time{}
		return -1
	}
	if errors.Is(err, pool.ErrGone) || errors.Is(err, errOther) {
		m.anew, m.link.NextTry = true, time.Time{}
		return 0 // nothing is the matter with the agent
	}
	m.pause = min(max(2*m.pause, firstPause), lastPause)
	wait := m.pause/2 + time.Duration(m.random()*float64(m.pause/2))
	m.link.NextTry = now.Add(wait)
	return wait
}

// silent reports whether the open stream has said nothing for too long.
func (m *machine) silent(now time.Time) bool {
	since := m.opened
	if m.link.Heard.After(since) {
		since = m.link.Heard
	}
	return m.link.Open && now.Sub(since) >= SilentAfter
}

// takeReturn returns what was missed, once.
func (m *machine) takeReturn() *Return {
	r := m.back
	m.back = nil
	return r
}

// Denied reports whether err says that the pool does not accept who asks, so that asking again is of no use: every
// agent tried must say so.
func Denied(err error) bool {
	var u *rpc.Unreachable
	if errors.As(err, &u) {
		for _, t := range u.Tried {
			if !identityTrouble(t.Err) {
				return false
			}
		}
		return len(u.Tried) > 0
	}
	return err != nil && identityTrouble(err)
}

func identityTrouble(err error) bool {
	switch status.Code(err) {
	case codes.PermissionDenied, codes.Unauthenticated:
		return true
	}
	s := err.Error()
	return strings.Contains(s, "authentication handshake failed") || strings.Contains(s, "x509:") || strings.Contains(s, "tls: ")
}
