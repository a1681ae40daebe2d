package local

import (
	"testing"

	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// libvirt shows a domain while it starts it, also one that a disk lock is about to refuse. What such an attempt came
// to is told by Create; what is seen of it besides says nothing.
func TestWhatIsSeenOfAnAttemptThatFailedIsNoFailureOfItsOwn(t *testing.T) {
	seen := func(state DomainState, pid int, made pool.Epoch) View {
		v := assigned()
		v.Domain, v.Made = paused(v), made
		v.Domain.State, v.Domain.Process = state, guard.Process{PID: pid}
		return v
	}
	for _, c := range []struct {
		name string
		view View
		want Step
	}{
		{"its process is not there yet", seen(DomainPaused, 0, 0), StepNone},
		{"it ended", seen(DomainGone, 0, 0), StepForget},
		{"it ended, and its process was seen", seen(DomainGone, 42, 0), StepForget},
		{"an earlier epoch was made here", seen(DomainGone, 42, 2), StepForget},
		{"this one was made, and ended before it ran", seen(DomainGone, 42, 3), StepRelease},
		{"this one was made", seen(DomainPaused, 42, 3), StepHold},
		{"an earlier agent made it", seen(DomainPaused, 42, 0), StepHold},
	} {
		if got := Decide(c.view); got.Step != c.want {
			t.Errorf("%s: %v (%s), want %v", c.name, got.Step, got.Why, c.want)
		}
	}
}
