package virt

import (
	"errors"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/pkg/clock"
)

func TestTransferIsCleanOnlyIfTheGuestStoodStillToItsEnd(t *testing.T) {
	const lost turn = -1
	cases := map[string]struct {
		paused bool
		events []turn
		clean  bool
	}{
		"as it should be":                       {false, []turn{turnSuspended, turnMigrated}, true},
		"paused and resumed by hand during it":  {false, []turn{turnSuspended, turnRunning, turnSuspended, turnMigrated}, true},
		"paused before":                         {true, []turn{turnMigrated}, true},
		"paused before, resumed by hand":        {true, []turn{turnRunning, turnSuspended, turnMigrated}, true},
		"it ran on":                             {false, []turn{turnSuspended, turnRunning, turnMigrated}, false},
		"paused before, and ran on":             {true, []turn{turnRunning, turnMigrated}, false},
		"never seen to stop":                    {false, []turn{turnMigrated}, false},
		"the end was not seen":                  {false, []turn{turnSuspended}, false},
		"the end of another kind":               {false, []turn{turnSuspended, turnEnded}, false},
		"ended, then said to have moved":        {false, []turn{turnSuspended, turnEnded, turnMigrated}, false},
		"the connection broke before the end":   {false, []turn{turnSuspended, lost, turnMigrated}, false},
		"the connection broke at the beginning": {false, []turn{lost, turnSuspended, turnMigrated}, false},
		"another run began":                     {false, []turn{turnSuspended, turnStarted, turnMigrated}, false},
	}
	for name, c := range cases {
		ms := newMoves()
		clk := clock.Real()
		m, ok := ms.begin("web", clk.NewSignal())
		if !ok {
			t.Fatal("not watched")
		}
		if c.paused {
			m.wasPaused()
		}
		for _, e := range c.events {
			ms.event("other", turnRunning)
			if e == lost {
				ms.lost()
			} else {
				ms.event("web", e)
			}
		}
		got := m.verdict(t.Context(), clk, 10*time.Millisecond)
		if got.Clean != c.clean || got.Clean == (got.Why != "") {
			t.Errorf("%s: %+v, want clean %v", name, got, c.clean)
		}
	}
}

func TestGuestThatWasSeenToRunWasNotPausedBefore(t *testing.T) {
	ms := newMoves()
	m, _ := ms.begin("web", clock.Real().NewSignal())
	ms.event("web", turnRunning) // after libvirt was asked for the state, and before its answer
	m.wasPaused()
	ms.event("web", turnMigrated)
	if got := m.verdict(t.Context(), clock.Real(), 0); got.Clean || got.Paused {
		t.Errorf("%+v", got)
	}
}

func TestJobIsKnownToRunWhileItsCallWaits(t *testing.T) {
	ms := newMoves()
	silent := errors.New("no answer")
	if _, err := ms.known("web", local.Job{}, silent); !errors.Is(err, silent) {
		t.Errorf("without a call: %v", err)
	}
	m, _ := ms.begin("web", clock.Real().NewSignal())
	if _, again := ms.begin("web", clock.Real().NewSignal()); again {
		t.Error("watched twice")
	}
	seen, err := ms.known("web", local.Job{Running: true, BytesDone: 7}, nil)
	if err != nil || seen.BytesDone != 7 {
		t.Errorf("%+v, %v", seen, err)
	}
	if j, err := ms.known("web", local.Job{}, silent); err != nil || !j.Running || j.BytesDone != 7 {
		t.Errorf("while libvirt is silent: %+v, %v", j, err)
	}
	ms.end("web", m)
	if j, err := ms.known("web", local.Job{}, nil); err != nil || j.Running {
		t.Errorf("afterwards: %+v, %v", j, err)
	}
	if !ms.ask("web") || ms.ask("web") {
		t.Error("libvirt is asked again before it has answered")
	}
	ms.answered("web")
	if !ms.ask("web") {
		t.Error("libvirt is not asked again")
	}
}

func TestWordOfLibvirtsThatContradictsQEMUsCounts(t *testing.T) {
	for name, c := range map[string]struct {
		events []turn
		lost   bool
		clean  bool
	}{
		"stopped for the end":       {[]turn{turnSuspended}, false, true},
		"libvirt has noticed":       {[]turn{turnSuspended, turnMigrated}, false, true},
		"never seen to stop":        {nil, false, false},
		"ended by another's hand":   {[]turn{turnSuspended, turnEnded}, false, false},
		"it was seen to run on":     {[]turn{turnSuspended, turnRunning}, false, false},
		"the connection has broken": {[]turn{turnSuspended}, true, false},
	} {
		ms := newMoves()
		m, _ := ms.begin("web", clock.Real().NewSignal())
		if !ms.watched("web") || ms.watched("other") {
			t.Errorf("%s: not watched", name)
		}
		for _, e := range c.events {
			ms.event("web", e)
		}
		if c.lost {
			ms.lost()
		}
		select {
		case <-m.still:
		default:
			if c.events != nil {
				t.Errorf("%s: nobody is told that it stands still", name)
			}
		}
		if got := m.early(); got.Clean != c.clean {
			t.Errorf("%s: %+v, want clean %v", name, got, c.clean)
		}
	}
}
