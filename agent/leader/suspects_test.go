package leader

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/plan"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// ether says since when each server is silent; zero: it is not.
type ether struct {
	b     *bench
	since map[pool.ServerID]pool.Instant
	// asked counts questions.
	asked int
}

func (e *ether) Listen(pool.ServerID, time.Duration) {}

func (e *ether) Silence(s pool.ServerID) time.Duration {
	if at := e.since[s]; at != 0 {
		return e.b.proc.Now().Sub(at)
	}
	return 0
}

func (e *ether) AskSilence(ctx context.Context, witness, subject pool.ServerID) (time.Duration, error) {
	e.asked++
	if err := e.b.proc.Sleep(ctx, time.Millisecond); err != nil {
		return 0, err
	}
	if e.since[witness] != 0 {
		return 0, errors.New("no answer")
	}
	return e.Silence(subject), nil
}

// listening is a bench whose servers have power switches, and whose leader can listen.
func listening(t *testing.T) (*bench, *ether) {
	t.Helper()
	b := newBench(t)
	e := &ether{b: b, since: map[pool.ServerID]pool.Instant{}}
	for _, id := range []pool.ServerID{"s1", "s2", "s3"} {
		s := b.world.Servers[id]
		s.Fence = []pool.FenceDevice{{Agent: "fence_test"}}
		b.world.PutServer(s)
	}
	b.lead = New(Config{Clock: b.proc, Office: b, Pool: b, Fencer: b, Hearing: e, Log: slog.New(slog.DiscardHandler)})
	b.fencer = func(ctx context.Context, _ pool.Server) (string, error) {
		b.calls = append(b.calls, "power off")
		return "fence_test says off", b.proc.Sleep(ctx, 100*time.Millisecond)
	}
	return b, e
}

func TestASuspectIsFencedWhileItsMemberKeyIsStillThere(t *testing.T) {
	b, e := listening(t)
	b.held("web", "s2")
	b.start()
	b.at(10*time.Second, func() { e.since["s2"] = b.proc.Now() })
	b.until(11900 * time.Millisecond)
	b.want("web", "HELD s2 epoch 1")
	b.until(12300 * time.Millisecond)
	if c := b.world.Claims["web"]; c.Phase != pool.PhaseAssigned || c.Server == "s2" {
		t.Errorf("claim %s", b.claim("web"))
	}
	if f := b.world.Fences["s2"]; f.Proof != pool.ProofPower || f.Session < b.world.Members["s2"].Session {
		t.Errorf("fence %+v, member %+v", f, b.world.Members["s2"])
	}
}

func TestNoPowerIsCutOnTheWordOfAnOldSnapshot(t *testing.T) {
	b, e := listening(t)
	b.held("web", "s2")
	b.start()
	b.at(10*time.Second, func() { e.since["s2"] = b.proc.Now(); b.away = true }) // etcd does not answer
	b.until(20 * time.Second)
	if slices.Contains(b.calls, "power off") {
		t.Errorf("calls %v", b.calls)
	}
	b.at(20*time.Second, func() { b.away = false })
	b.until(21 * time.Second)
	if !slices.Contains(b.calls, "power off") {
		t.Errorf("etcd is back, and calls are %v", b.calls)
	}
}

func TestALeaderThatHearsNobodyAsksNobodyAndFencesNobody(t *testing.T) {
	b, e := listening(t)
	b.held("web", "s2")
	b.held("db", "s3")
	b.start()
	b.at(10*time.Second, func() { e.since["s2"], e.since["s3"] = b.proc.Now(), b.proc.Now() })
	b.until(time.Minute)
	b.want("web", "HELD s2 epoch 1")
	if e.asked > 0 || len(b.world.Fences) > 0 {
		t.Errorf("%d questions, fences %v", e.asked, b.world.Fences)
	}
}

func TestASilenceThatNobodyElseHearsIsNoSuspicion(t *testing.T) {
	b, e := listening(t)
	b.held("web", "s2")
	b.start()
	other := &ether{b: b, since: map[pool.ServerID]pool.Instant{}}
	b.lead.lookout.cfg.Hearing = halfDeaf{e, other}
	b.at(10*time.Second, func() { e.since["s2"] = b.proc.Now() })
	b.until(time.Minute)
	b.want("web", "HELD s2 epoch 1")
	if other.asked == 0 {
		t.Error("nobody was asked")
	}
	if len(b.world.Alerts) > 0 {
		t.Errorf("alerts %v", b.world.Alerts)
	}
}

// halfDeaf hears otherwise than the others.
type halfDeaf struct {
	*ether
	others *ether
}

func (h halfDeaf) AskSilence(ctx context.Context, witness, subject pool.ServerID) (time.Duration, error) {
	return h.others.AskSilence(ctx, witness, subject)
}

func TestAServerIsSwitchedOnAgainAfterItsVMsWereRecovered(t *testing.T) {
	b, e := listening(t)
	b.held("web", "s2")
	var at time.Duration
	b.switchOn = func(context.Context, pool.Server) error {
		at = b.sched.Now()
		b.world.Join("s2", 16*gib, 8)
		e.since["s2"] = 0
		b.changed()
		return nil
	}
	b.start()
	b.at(10*time.Second, func() { e.since["s2"] = b.proc.Now() })
	b.at(14*time.Second, func() { b.world.Lose("s2") })
	b.until(20 * time.Second)
	if at < 14*time.Second || at > 15*time.Second {
		t.Errorf("switched on at %v", at)
	}
	if f, kept := b.world.Fences["s2"]; !kept || f.Proof != pool.ProofNone || len(f.SwitchedOn) != 1 {
		t.Errorf("it is not remembered: %+v", f)
	}
	if len(b.world.Alerts) > 0 {
		t.Errorf("alerts %v", b.world.Alerts)
	}
}

func TestAPowerSwitchIsAskedSeldomAndItsTroubleTold(t *testing.T) {
	b, _ := listening(t)
	var asked []time.Duration
	wrong := false
	b.checkOn = func(_ context.Context, s pool.Server) error {
		if s.ID != "s3" {
			return nil
		}
		asked = append(asked, b.sched.Now())
		if wrong {
			return errors.New("fence_test: login failed")
		}
		return nil
	}
	b.start()
	b.at(5*time.Minute, func() { wrong = true })
	b.until(9 * time.Minute)
	if len(asked) != 1 || len(b.world.Alerts) > 0 {
		t.Errorf("asked at %v, alerts %v", asked, b.world.Alerts)
	}
	b.until(11 * time.Minute)
	if a := b.world.Alerts["power-switch-s3"]; a.Kind != plan.AlertSwitch || !strings.Contains(a.Text, "login failed") {
		t.Errorf("alert %+v", a)
	}
	b.at(12*time.Minute, func() { wrong = false })
	b.until(14 * time.Minute)
	if len(b.world.Alerts) > 0 {
		t.Errorf("it works again: alerts %v", b.world.Alerts)
	}
	n := len(asked)
	b.at(15*time.Minute, func() { b.world.PutServer(b.world.Servers["s3"]) }) // new settings
	b.until(16 * time.Minute)
	if len(asked) != n+1 {
		t.Errorf("asked at %v: new settings are tried soon", asked)
	}
}
