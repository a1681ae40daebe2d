package vtime

import (
	"context"
	"time"
)

// Call is one request of a coroutine to the simulated world. The edge arranges events that end in Finish and lets
// the caller Wait; the events happen whether or not the caller still waits, lives or is hung.
type Call struct {
	p        *Proc
	finished bool
	gaveUp   bool
	c        *coro
	gen      uint64
}

// NewCall opens a call of this process. It unwinds the caller if the process was killed.
func (p *Proc) NewCall() *Call {
	p.Check()
	return &Call{p: p}
}

// Finish lets Wait return. Calling it again, or after the caller gave up, does nothing.
func (k *Call) Finish() {
	if k.finished {
		return
	}
	k.finished = true
	if k.c != nil {
		k.c.wake(k.gen, whySet)
	}
}

// Finished reports whether Finish was called.
func (k *Call) Finished() bool { return k.finished }

// Abandoned reports whether nobody waits for the call any more, as its caller gave up or was killed.
func (k *Call) Abandoned() bool { return k.p.dead || k.gaveUp }

// Wait parks until Finish. It returns ctx's error if that ends first.
func (k *Call) Wait(ctx context.Context) error {
	k.p.Check()
	if k.finished {
		return nil
	}
	if err := ctx.Err(); err != nil {
		k.gaveUp = true
		return err
	}
	k.c = k.p.running("Call.Wait")
	k.gen = k.c.begin()
	v := watch(ctx, k.c, k.gen)
	w := k.c.park()
	unwatch(v, k.c)
	if w == whyContext && !k.finished {
		k.gaveUp = true
		return ctx.Err()
	}
	return nil
}

// Await parks for d, as an edge that only takes time; ctx's error if that ends first.
func (p *Proc) Await(ctx context.Context, d time.Duration) error { return p.Sleep(ctx, d) }
