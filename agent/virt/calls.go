package virt

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Limits on calls at the same time. A libvirt daemon has 20 worker threads by default (max_workers); ours, hanging
// ones included, must leave some for everybody else.
const (
	maxCalls = 8
	maxStuck = 6
	maxIdle  = 4
)

// calls runs functions on connections of their own, each within a limit. C is the connection's type. Safe for
// concurrent use.
type calls[C any] struct {
	clock clock.Clock
	// open and shut make and end a connection; both may hang. usable tells whether a connection can serve
	// another call.
	open   func() (C, error)
	shut   func(C)
	usable func(C) bool
	// changed is called when a hanging call has come back after all.
	changed func()

	slots chan struct{}

	mu    sync.Mutex
	idle  []C
	age   int // connections of an earlier age are not used again
	stuck map[int]StuckCall
	next  int
}

func newCalls[C any](c clock.Clock, open func() (C, error), shut func(C), usable func(C) bool, changed func()) *calls[C] {
	return &calls[C]{clock: c, open: open, shut: shut, usable: usable, changed: changed,
		slots: make(chan struct{}, maxCalls), stuck: map[int]StuckCall{}}
}

// request describes one call for messages and limits.
type request struct {
	what string
	// vm is the VM it is about. One VM has at most one hanging call: later ones fail at once. Empty: none.
	vm    pool.VMID
	limit time.Duration
	// reads: it changes nothing, so that a lost reply is merely "unavailable".
	reads bool
}

func (r request) String() string {
	if r.vm == "" {
		return r.what
	}
	return r.what + " " + string(r.vm)
}

type outcome[T any] struct {
	value T
	err   error
}

// run calls f on a connection and returns its result, or an error once the limit or ctx ends: pool.ErrUnavailable
// if nothing was done, pool.ErrOutcomeUnknown if it may be done yet.
func run[C, T any](ctx context.Context, c *calls[C], r request, f func(C) (T, error)) (T, error) {
	var none T
	if s, ok := c.hanging(r.vm); ok {
		return none, fmt.Errorf("%v: an earlier call to libvirt (%s) hangs for %v: %w", r, s.What,
			c.clock.Now().Sub(s.Since).Round(time.Second), pool.ErrUnavailable)
	}
	ctx, cancel := c.clock.WithTimeout(ctx, r.limit)
	defer cancel()
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return none, fmt.Errorf("%v: too many calls to libvirt are under way: %w", r, pool.ErrUnavailable)
	}
	result := make(chan outcome[T], 1)
	began := c.clock.Now()
	flight := &flight{}
	c.clock.Go("libvirt "+r.what, func() {
		defer c.land(flight)
		conn, age, err := c.take()
		if err != nil {
			result <- outcome[T]{err: fmt.Errorf("%v: %w", r, err)}
			return
		}
		v, err := f(conn)
		c.give(conn, age)
		result <- outcome[T]{v, err}
	})
	select {
	case o := <-result:
		return o.value, o.err
	case <-ctx.Done():
		c.strand(flight, StuckCall{What: r.what, VM: r.vm, Since: began})
		kind := pool.ErrOutcomeUnknown
		if r.reads {
			kind = pool.ErrUnavailable
		}
		return none, fmt.Errorf("%v: libvirt has not answered for %v: %w", r, c.clock.Now().Sub(began).Round(time.Millisecond), kind)
	}
}

// flight is one running call's place among the slots.
type flight struct {
	landed, stranded, kept bool
	id                     int
}

// strand notes that a call hangs and frees its slot, unless too many hang already.
func (c *calls[C]) strand(f *flight, s StuckCall) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.landed {
		return
	}
	f.stranded, f.id = true, c.next
	f.kept = len(c.stuck) >= maxStuck
	c.next++
	c.stuck[f.id] = s
	if !f.kept {
		<-c.slots
	}
}

// land ends a call, however late.
func (c *calls[C]) land(f *flight) {
	c.mu.Lock()
	f.landed = true
	late := f.stranded
	if late {
		delete(c.stuck, f.id)
	}
	if !f.stranded || f.kept {
		<-c.slots
	}
	c.mu.Unlock()
	if late && c.changed != nil {
		c.changed()
	}
}

// hanging returns the hanging call of a VM.
func (c *calls[C]) hanging(vm pool.VMID) (StuckCall, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.stuck {
		if vm != "" && s.VM == vm {
			return s, true
		}
	}
	return StuckCall{}, false
}

// hung lists the hanging calls, oldest first.
func (c *calls[C]) hung() []StuckCall {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]StuckCall, 0, len(c.stuck))
	for _, s := range c.stuck {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b StuckCall) int { return int(a.Since - b.Since) })
	return all
}

func (c *calls[C]) take() (conn C, age int, err error) {
	for {
		c.mu.Lock()
		age = c.age
		n := len(c.idle)
		if n == 0 {
			c.mu.Unlock()
			conn, err = c.open()
			return conn, age, err
		}
		conn = c.idle[n-1]
		c.idle = c.idle[:n-1]
		c.mu.Unlock()
		if c.usable(conn) {
			return conn, age, nil
		}
		c.shut(conn)
	}
}

func (c *calls[C]) give(conn C, age int) {
	ok := c.usable(conn)
	c.mu.Lock()
	if ok && age == c.age && len(c.idle) < maxIdle {
		c.idle = append(c.idle, conn)
		c.mu.Unlock()
		return
	}
	c.mu.Unlock()
	c.shut(conn)
}

// renew lets no connection made so far serve another call.
func (c *calls[C]) renew() {
	c.mu.Lock()
	old := c.idle
	c.idle = nil
	c.age++
	c.mu.Unlock()
	for _, conn := range old {
		c.clock.Go("libvirt close", func() { c.shut(conn) })
	}
}
