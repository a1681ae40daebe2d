package e2e

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/test/lab"
)

// Each level on real agents, guards, libvirt and QEMU; this test is the systemd that starts the agent again.
func TestADrillPlaysEveryLevelAndTouchesNothingElse(t *testing.T) {
	b := prepare(t)
	leader := b.leader()
	victim := b.other(leader)
	vm := b.launch("beside", b.other(leader, victim), "ha=on")
	b.settle(vm)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
	defer cancel()
	supervised := make(chan error, 1)
	go func() { supervised <- supervise(ctx, b.server(victim)) }()
	out, err := b.server(leader).Exec(ctx, "holdfast", "drill", "--isolate", victim, "-o", "json")
	cancel()
	if err := <-supervised; err != nil {
		t.Errorf("start the agent again: %v", err)
	}
	var report struct {
		Canary, Failure string
		Levels          []struct {
			Level, Server, To, Outcome, Why, Proof string
			Measures                               []struct {
				What                   string
				Seconds, BudgetSeconds float64
			}
		}
	}
	if jerr := json.Unmarshal([]byte(out), &report); jerr != nil {
		t.Fatalf("%v; %v:\n%s", err, jerr, out)
	}
	t.Logf("exit: %v\n%s", err, out)
	if len(report.Levels) != 3 || report.Failure != "" {
		t.Fatalf("%d levels, failure %q", len(report.Levels), report.Failure)
	}
	for _, l := range report.Levels {
		// Too slow is no failure here: the machine has other things to do.
		if l.Outcome != "ok" && l.Outcome != "slow" || l.Server != victim {
			t.Errorf("level %s on %s: %s %s", l.Level, l.Server, l.Outcome, l.Why)
		}
	}
	if last := report.Levels[2]; last.Level != "isolation" || last.To == victim {
		t.Errorf("after the isolation the canary ran on %s", last.To)
	}
	lives := b.lives(report.Canary)
	if len(lives) != 3 {
		t.Errorf("the canary had %d processes, want 3: %v", len(lives), lives)
	}
	if v, err := b.p.VM(within(t, 5*time.Second), report.Canary); err == nil {
		t.Errorf("the canary is left: %v", v)
	}
	b.startedTimes(vm, 1)
}

// supervise starts a server's agent again whenever it has died, until ctx ends.
func supervise(ctx context.Context, s *lab.Server) error {
	for {
		if !s.Running(lab.Agent) {
			if err := s.Start(lab.Agent); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(300 * time.Millisecond):
		}
	}
}
