package virt

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

type fakeConn struct{ broken, shut bool }

func fakeCalls(opened *atomic.Int32) *calls[*fakeConn] {
	return newCalls(clock.Real(), func() (*fakeConn, error) { opened.Add(1); return &fakeConn{}, nil },
		func(c *fakeConn) { c.shut = true }, func(c *fakeConn) bool { return !c.broken }, nil)
}

func ask(vm string) request {
	return request{what: "ask", vm: pool.VMID(vm), limit: time.Second}
}

func TestHangingCallIsBoundedAndBlocksNoOtherVM(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var opened atomic.Int32
		c := fakeCalls(&opened)
		release := make(chan struct{})
		hang := func(*fakeConn) (int, error) { <-release; return 1, nil }
		fine := func(*fakeConn) (int, error) { return 2, nil }
		if _, err := run(t.Context(), c, ask("a"), hang); !errors.Is(err, pool.ErrOutcomeUnknown) {
			t.Errorf("a change that hangs: %v", err)
		}
		if _, err := run(t.Context(), c, ask("a"), fine); !errors.Is(err, pool.ErrUnavailable) {
			t.Errorf("next call for the same VM: %v", err)
		}
		if v, err := run(t.Context(), c, ask("b"), fine); v != 2 || err != nil {
			t.Errorf("another VM: %d, %v", v, err)
		}
		look := ask("c")
		look.reads = true
		if _, err := run(t.Context(), c, look, hang); !errors.Is(err, pool.ErrUnavailable) {
			t.Errorf("a look that hangs: %v", err)
		}
		if hung := c.hung(); len(hung) != 2 || hung[0].VM != "a" || hung[0].What != "ask" {
			t.Errorf("hanging: %+v", hung)
		}
		close(release)
		synctest.Wait()
		if hung := c.hung(); len(hung) != 0 || len(c.slots) != 0 {
			t.Errorf("hanging after all came back: %+v, %d slots", hung, len(c.slots))
		}
		if v, err := run(t.Context(), c, ask("a"), fine); v != 2 || err != nil {
			t.Errorf("the VM is served again: %d, %v", v, err)
		}
	})
}

func TestHangingCallsNeverTakeAllOfTheDaemonsWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var opened atomic.Int32
		c := fakeCalls(&opened)
		release := make(chan struct{})
		var inside atomic.Int32
		for i := range 40 {
			_, err := run(t.Context(), c, ask(fmt.Sprint("vm", i)), func(*fakeConn) (int, error) { inside.Add(1); <-release; return 0, nil })
			if err == nil {
				t.Fatal("no error")
			}
		}
		if inside.Load() != maxCalls+maxStuck {
			t.Errorf("%d calls inside libvirt, want %d", inside.Load(), maxCalls+maxStuck)
		}
		close(release)
		synctest.Wait()
		if len(c.slots) != 0 || len(c.hung()) != 0 {
			t.Errorf("%d slots taken, hanging %v", len(c.slots), c.hung())
		}
	})
}

func TestConnectionsAreUsedAgainWhileTheyWork(t *testing.T) {
	var opened atomic.Int32
	c := fakeCalls(&opened)
	var last *fakeConn
	use := func() {
		t.Helper()
		if _, err := run(t.Context(), c, ask("a"), func(f *fakeConn) (int, error) { last = f; return 0, nil }); err != nil {
			t.Fatal(err)
		}
	}
	use()
	use()
	if opened.Load() != 1 {
		t.Errorf("opened %d", opened.Load())
	}
	last.broken = true
	use()
	if opened.Load() != 2 {
		t.Errorf("opened %d after one broke", opened.Load())
	}
	c.renew()
	use()
	if opened.Load() != 3 {
		t.Errorf("opened %d after the daemon restarted", opened.Load())
	}
}

func TestCallEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var opened atomic.Int32
		c := fakeCalls(&opened)
		ctx, cancel := context.WithCancel(t.Context())
		release := make(chan struct{})
		time.AfterFunc(time.Millisecond, cancel)
		if _, err := run(ctx, c, ask("a"), func(*fakeConn) (int, error) { <-release; return 0, nil }); err == nil {
			t.Error("no error")
		}
		close(release)
		synctest.Wait()
	})
}
