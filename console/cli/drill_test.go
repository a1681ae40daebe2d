package cli

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/console/cli/fakepool"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

func TestADrillPlaysItsLevelsRemovesTheCanaryAndWritesAReport(t *testing.T) {
	b := newBench(t, fakepool.Healthy(), 2)
	file := filepath.Join(t.TempDir(), "drill.md")
	r := b.must(ExitOK, "drill", "--isolate", "hv-03", "--report", file, "--why", "new switch")
	contains(t, "output", r.out, "qemu", "agent is back", "stopped there", "runs again", "verdict: ok")
	if c := len(b.pool.Calls("HitCanary")); c != 4 { // the isolation is ended as well
		t.Errorf("%d hits, want 4", c)
	}
	if c := len(b.pool.Calls("RemoveCanary")); c != 1 {
		t.Errorf("%d removals, want 1", c)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	contains(t, "report", string(text), "# Drill of pool prod-a", "| isolation | hv-03 | hv-01 | runs again |", "| 8.62 s |")
	for _, name := range []string{"CreateCanary", "HitCanary", "RemoveCanary"} {
		call := b.pool.Calls(name)[0]
		if field := call.Body.ProtoReflect().Descriptor().Fields().ByName("why"); call.Body.ProtoReflect().Get(field).String() != "new switch" {
			t.Errorf("%s does not say why: %v", name, call.Body)
		}
	}
}

func TestADrillThatGoesWrongSaysSoAndStillRemovesTheCanary(t *testing.T) {
	b := newBench(t, fakepool.Healthy(), 1)
	b.pool.Drills(true, false)
	file := filepath.Join(t.TempDir(), "drill.json")
	r := b.must(ExitFailed, "drill", "--level", "agent", "--report", file)
	contains(t, "output", r.out, "did not run on", "verdict: failed")
	if c := len(b.pool.Calls("RemoveCanary")); c != 1 {
		t.Errorf("%d removals, want 1", c)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var report drillReport
	if err := json.Unmarshal(data, &report); err != nil || report.Verdict != outcomeFailed || len(report.Levels) != 1 || report.Levels[0].Server != "hv-03" {
		t.Errorf("%v: %+v", err, report)
	}
}

func TestADrillWhoseCanaryDoesNotStartEndsAtOnceWithTheReason(t *testing.T) {
	b := newBench(t, fakepool.Healthy(), 1)
	b.pool.CanaryFails("it failed on every server: no machine type pc-q35-99")
	r := b.must(ExitFailed, "drill")
	contains(t, "errors", r.err, "it does not start: it failed on every server: no machine type pc-q35-99")
	if hits, removals := len(b.pool.Calls("HitCanary")), len(b.pool.Calls("RemoveCanary")); hits != 0 || removals != 1 {
		t.Errorf("%d hits and %d removals, want none and one", hits, removals)
	}
}

func TestAnInterruptedDrillRemovesTheCanary(t *testing.T) {
	b := newBench(t, fakepool.Healthy(), 1)
	b.pool.Drills(false, true)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int, 1)
	var out, errs lockedBuffer
	go func() { done <- b.start(ctx, &out, &errs, "drill", "--level", "qemu") }()
	for len(b.pool.Calls("HitCanary")) == 0 {
		if !waitFor(t.Context(), time.Millisecond) {
			t.Fatal("no hit")
		}
	}
	cancel()
	if code := <-done; code != ExitFailed {
		t.Errorf("exit %d, want %d: %s", code, ExitFailed, errs.String())
	}
	if c := len(b.pool.Calls("RemoveCanary")); c != 1 {
		t.Errorf("%d removals, want 1", c)
	}
	contains(t, "errors", errs.String(), "interrupted: removing "+fakepool.Canary)
}

func TestADrillIsRefusedBeforeAnythingIsDoneWhereOthersCouldSuffer(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
	}{
		{[]string{"drill", "--isolate", "hv-01"}, ExitRefused},
		{[]string{"drill", "--level", "agent", "--server", "hv-01"}, ExitRefused},
		{[]string{"drill", "--isolate", "hv-09"}, ExitRefused},
		{[]string{"drill", "--isolate", "hv-03", "--server", "hv-02"}, ExitUsage},
		{[]string{"drill", "--level", "fire"}, ExitUsage},
	} {
		b := newBench(t, fakepool.Healthy(), 1)
		b.must(c.code, c.args...)
		if n := len(b.pool.Calls("CreateCanary")); n != 0 {
			t.Errorf("%v: a canary was made", c.args)
		}
	}
}

func TestWithoutAnEmptyServerADrillSkipsTheAgentAndSaysWhy(t *testing.T) {
	state := fakepool.Healthy()
	for _, v := range state.GetVms()[1:2] {
		v.Claim = &pb.Claim{Vm: "old", Server: "hv-03", Phase: pb.ClaimPhase_CLAIM_PHASE_HELD}
		v.Protected = true
	}
	b := newBench(t, state, 1)
	r := b.must(ExitOK, "drill")
	contains(t, "output", r.out, "skipped", "--beside-others")
	if n := len(b.pool.Calls("HitCanary")); n != 1 {
		t.Errorf("%d hits, want 1", n)
	}
}

func TestWhatAnEarlierDrillLeftIsShownAndRemoved(t *testing.T) {
	state := fakepool.Healthy()
	state.Vms[1].Vm.Canary = true
	b := newBench(t, state, 1)
	contains(t, "vms", b.must(ExitOK, "vms").out, "canary of a drill")
	contains(t, "refusal", b.must(ExitRefused, "drill").err, "holdfast drill clean")
	contains(t, "output", b.must(ExitOK, "drill", "clean", "--why", "left over").out, "old: removed with its disk")
	contains(t, "output", b.must(ExitOK, "drill", "clean").out, "no drill has left a canary")
}

func TestADrillsBudgetIsTheLeasesArithmetic(t *testing.T) {
	timing, err := pool.NewTiming(5 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		level    pool.DrillLevel
		watchdog time.Duration
		want     pool.DrillBudget
	}{
		{pool.DrillQEMU, 0, pool.DrillBudget{Detected: time.Second, Recovered: 3 * time.Second}},
		{pool.DrillAgent, 0, pool.DrillBudget{Recovered: 4 * time.Second}},
		{pool.DrillIsolation, 0, pool.DrillBudget{Stopped: 5 * time.Second, Detected: 6 * time.Second, Fenced: 6625 * time.Millisecond, Recovered: 8625 * time.Millisecond}},
		{pool.DrillIsolation, 10 * time.Second, pool.DrillBudget{Stopped: 5 * time.Second, Detected: 6 * time.Second, Fenced: 17 * time.Second, Recovered: 19 * time.Second}},
	} {
		if got := timing.DrillBudget(c.level, c.watchdog); got != c.want {
			t.Errorf("%v, watchdog %v: %+v, want %+v", c.level, c.watchdog, got, c.want)
		}
	}
}
