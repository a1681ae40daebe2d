package vtime

import (
	"context"
	"time"
)

type contextKey struct{}

// vcontext is a context that ends in virtual time. The embedded context carries values, the Done channel and the
// cause; the tree of vcontexts beside it wakes coroutines, without goroutines.
type vcontext struct {
	context.Context
	cancel   context.CancelCauseFunc
	parent   *vcontext
	index    int
	children []*vcontext
	waiters  []waiter
	err      error
	deadline int64
	zero     time.Time
}

// WithTimeout is context.WithTimeout in this process's time.
func (p *Proc) WithTimeout(parent context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	v := p.newContext(parent)
	v.deadline = p.s.now + p.stretch(d)
	v.zero = p.time.Wall
	if d <= 0 {
		v.end(context.DeadlineExceeded, nil)
	} else if v.parent == nil || v.parent.deadline == 0 || v.deadline < v.parent.deadline {
		p.s.push(event{at: v.deadline, run: func() { v.end(context.DeadlineExceeded, nil) }})
	} else {
		v.deadline = v.parent.deadline
	}
	return v, func() { v.end(context.Canceled, nil) }
}

// WithCancel is context.WithCancelCause for this process's waits.
func (p *Proc) WithCancel(parent context.Context) (context.Context, context.CancelCauseFunc) {
	v := p.newContext(parent)
	if v.parent != nil {
		v.deadline, v.zero = v.parent.deadline, v.parent.zero
	}
	return v, func(cause error) { v.end(context.Canceled, cause) }
}

func (p *Proc) newContext(parent context.Context) *vcontext {
	v := &vcontext{}
	v.Context, v.cancel = context.WithCancelCause(parent)
	v.parent, _ = parent.Value(contextKey{}).(*vcontext)
	switch {
	case v.parent != nil && v.parent.err != nil:
		v.err = v.parent.err
	case v.parent != nil:
		v.index = len(v.parent.children)
		v.parent.children = append(v.parent.children, v)
	}
	return v
}

// Deadline returns when the context ends, by the wall clock of the process that made it.
func (v *vcontext) Deadline() (time.Time, bool) {
	if v.deadline == 0 {
		return v.Context.Deadline()
	}
	return v.zero.Add(time.Duration(v.deadline)), true
}

// Err returns why the context ended, nil before.
func (v *vcontext) Err() error {
	if v.err != nil {
		return v.err
	}
	return v.Context.Err()
}

// Value finds the nearest vcontext for this package, and everything else as usual.
func (v *vcontext) Value(key any) any {
	if key == (contextKey{}) {
		return v
	}
	return v.Context.Value(key)
}

func (v *vcontext) end(err, cause error) {
	if v.err != nil {
		return
	}
	if v.parent != nil && v.parent.err == nil {
		v.parent.forget(v)
	}
	if cause == nil {
		cause = err
	}
	v.finish(err, cause)
}

func (v *vcontext) finish(err, cause error) {
	v.err = err
	v.cancel(cause)
	for _, w := range v.waiters {
		w.c.wake(w.gen, whyContext)
	}
	v.waiters = nil
	for _, c := range v.children {
		if c.err == nil {
			c.finish(err, cause)
		}
	}
	v.children = nil
}

func (v *vcontext) forget(child *vcontext) {
	last := v.children[len(v.children)-1]
	v.children[child.index] = last
	last.index = child.index
	v.children[len(v.children)-1] = nil
	v.children = v.children[:len(v.children)-1]
}

// watch makes the end of ctx wake park gen of c. It returns what unwatch needs.
func watch(ctx context.Context, c *coro, gen uint64) *vcontext {
	v, _ := ctx.(*vcontext)
	if v == nil {
		if ctx.Done() == nil {
			return nil
		}
		if v, _ = ctx.Value(contextKey{}).(*vcontext); v == nil {
			return nil
		}
	}
	v.waiters = append(v.waiters, waiter{c, gen})
	return v
}

func unwatch(v *vcontext, c *coro) {
	if v == nil {
		return
	}
	for i := len(v.waiters) - 1; i >= 0; i-- {
		if v.waiters[i].c == c {
			v.waiters[i] = v.waiters[len(v.waiters)-1]
			v.waiters = v.waiters[:len(v.waiters)-1]
			return
		}
	}
}
