package simkv

import (
	"errors"
	"slices"
	"time"

	"github.com/holdfast-ha/holdfast/agent/sim/simnet"
)

var errServerTimeout = errors.New("etcdserver: request timed out")

// landsLate is how probable it is that a request whose caller gave up still takes effect once the way is open.
const landsLate = 0.4

// via returns the member that the request goes through.
func (r *request) via() string {
	if r.member != "" {
		return r.member
	}
	return r.cl.member
}

// passes reports whether the request may go on towards etcd now.
func (r *request) passes() bool {
	if r.cl.frozen && r.kind != kindLease {
		return false
	}
	return r.cl.c.serves(r.via(), r.cl.server)
}

// send starts the request on its way, or holds it.
func (r *request) send() {
	if !r.passes() {
		r.hold()
		return
	}
	d := r.cl.c.net.Delay(r.cl.server, r.via())
	if r.kind == kindWrite {
		d += r.cl.c.s.Between(500*time.Microsecond, 4*time.Millisecond)
	}
	r.cl.c.s.After(d, func() {
		switch {
		case r.doomed:
		case !r.passes():
			r.hold()
		default:
			r.do(r)
		}
	})
}

// reply sends the answer back, or holds it.
func (r *request) reply(err error) {
	r.answered, r.err = true, err
	r.back()
}

func (r *request) back() {
	m := r.via()
	if (r.cl.frozen && r.kind != kindLease) || !r.cl.c.net.Open(m, r.cl.server, simnet.Etcd) || r.cl.c.dead[m] {
		r.hold()
		return
	}
	r.cl.c.s.After(r.cl.c.net.Delay(m, r.cl.server), r.call.Finish)
}

func (r *request) hold() {
	r.cl.held = append(r.cl.held, r)
	r.cl.look()
	left := r.sent + requestLimit - r.cl.c.s.Now()
	if left > 0 {
		r.cl.c.s.After(left, r.expire)
	} else if !r.call.Abandoned() {
		r.expire()
	}
}

// expire is what the client library does with a request that got no answer for too long.
func (r *request) expire() {
	if r.call.Finished() || !slices.Contains(r.cl.held, r) {
		return
	}
	r.err = &lostError{errServerTimeout}
	r.call.Finish()
	r.settle()
}

// settle decides whether a request that nobody waits for any more may still land.
func (r *request) settle() {
	if !r.answered && !r.doomed && (r.kind == kindRead || r.cl.c.s.Rand().Float64() >= landsLate) {
		r.doomed = true
	}
}

// kick lets what is held try again.
func (cl *Client) kick() {
	if len(cl.held) == 0 {
		return
	}
	cl.look()
	held := cl.held
	cl.held = nil
	for _, r := range held {
		gone := r.call.Finished() || r.call.Abandoned()
		switch {
		case gone && (r.answered || r.doomed || r.cl.c.s.Now() > r.sent+lateLimit):
			// Nobody waits, and nothing is to be done.
		case r.answered:
			r.back()
		case !r.passes():
			cl.held = append(cl.held, r)
		default:
			r.send()
		}
	}
}

// look arranges that the client turns to another member if its present one does not serve it. A silent member
// takes a moment to be noticed.
func (cl *Client) look() {
	if cl.looking || len(cl.c.voters) == 0 || cl.c.serves(cl.member, cl.server) {
		return
	}
	cl.looking = true
	cl.c.s.After(cl.c.s.Between(200*time.Millisecond, 700*time.Millisecond), func() {
		cl.looking = false
		if m := cl.nearest(); m != cl.member {
			cl.member = m
			for _, w := range cl.c.watchers {
				w.kick()
			}
		}
		cl.kick()
	})
}

// nearest returns a member that serves this client: its own server's if possible; the present one if none does.
func (cl *Client) nearest() string {
	members := cl.c.members()
	ok := func(m string) bool {
		return cl.c.serves(m, cl.server) && cl.c.net.Open(m, cl.server, simnet.Etcd)
	}
	if slices.Contains(members, cl.server) && ok(cl.server) {
		return cl.server
	}
	for _, m := range members {
		if ok(m) {
			return m
		}
	}
	if cl.member != "" {
		return cl.member
	}
	return members[0]
}
