package leader

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/plan"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

func TestALostServersVMsAreAssignedElsewhereOnceItsGuardMustHaveActed(t *testing.T) {
	b := newBench(t)
	b.held("web", "s2")
	b.held("db", "s3")
	b.start()
	b.at(10*time.Second, func() { b.world.Lose("s2") })
	b.until(10*time.Second + 624*time.Millisecond)
	b.want("web", "HELD s2 epoch 1")
	b.until(10*time.Second + 650*time.Millisecond)
	b.want("web", "ASSIGNED s1 epoch 2")
	b.want("db", "HELD s3 epoch 1")
	if f := b.world.Fences["s2"]; f.Proof != pool.ProofGuard || f.By != "leader s1" {
		t.Errorf("fence: %+v", f)
	}
}

func TestAnIdlePoolIsWrittenToOnceForTheNewLeadership(t *testing.T) {
	b := newBench(t)
	b.held("web", "s2")
	b.start()
	b.until(10 * time.Minute)
	if got := strings.Join(b.calls, ", "); got != "catch up, commit 1, catch up" {
		t.Errorf("calls: %s", got)
	}
	for _, e := range b.world.Events {
		if e.Kind != "LEADER_CHANGED" || e.Text != "s1 leads the pool" {
			t.Errorf("event %+v", e)
		}
	}
}

func TestOneVMThatSomebodyElseChangedHoldsUpNoOther(t *testing.T) {
	b := newBench(t)
	for _, id := range []pool.VMID{"a", "b", "c"} {
		b.held(id, "s2")
	}
	once := false
	b.fail = func(changes []pool.Change, i int) (error, bool) {
		if claims := changes[i].Claims; len(claims) > 0 && claims[0].VM == "b" && !once {
			once = true
			return fmt.Errorf("somebody was faster: %w", pool.ErrStale), false
		}
		return nil, true
	}
	b.start()
	b.at(time.Second, func() { b.world.Lose("s2") })
	b.until(2 * time.Second)
	for _, id := range []pool.VMID{"a", "b", "c"} {
		if c := b.world.Claims[id]; c.Phase != pool.PhaseAssigned || c.Epoch != 2 {
			t.Errorf("%s: %s", id, b.claim(id))
		}
	}
	if !once {
		t.Error("nothing was made to fail")
	}
}

func TestOneRecordThatCanNeverBeWrittenHoldsUpNoOther(t *testing.T) {
	b := newBench(t)
	for _, id := range []pool.VMID{"a", "b", "c"} {
		b.held(id, "s2")
	}
	bad := func(c pool.Change) bool { return len(c.Claims) > 0 && c.Claims[0].VM == "b" }
	b.fail = func(changes []pool.Change, _ int) (error, bool) { // a transaction with it fails as a whole
		if slices.ContainsFunc(changes, bad) {
			return fmt.Errorf("request too large: %w", pool.ErrInvalid), false
		}
		return nil, true
	}
	b.start()
	b.at(time.Second, func() { b.world.Lose("s2") })
	b.until(30 * time.Second)
	b.want("b", "HELD s2 epoch 1")
	for _, id := range []pool.VMID{"a", "c"} {
		if c := b.world.Claims[id]; c.Phase != pool.PhaseAssigned {
			t.Errorf("%s: %s", id, b.claim(id))
		}
	}
	if len(b.calls) > 200 {
		t.Errorf("%d calls in 30 s: the loop is busy with what cannot work", len(b.calls))
	}
}

func TestAfterAnUnknownOutcomeThePoolIsReadBackBeforeAnythingElse(t *testing.T) {
	for _, landed := range []bool{true, false} {
		t.Run(fmt.Sprintf("landed=%v", landed), func(t *testing.T) {
			b := newBench(t)
			b.held("web", "s2")
			b.start()
			lost := 0
			b.at(time.Second, func() {
				b.world.Lose("s2")
				b.fail = func(changes []pool.Change, i int) (error, bool) {
					if len(changes[i].Claims) > 0 && lost == 0 {
						lost++
						b.behind = true // the mirror does not show it yet either
						b.calls = append(b.calls, "lost reply")
						return fmt.Errorf("no reply: %w", pool.ErrOutcomeUnknown), landed
					}
					return nil, true
				}
			})
			b.until(3 * time.Second)
			b.want("web", "ASSIGNED s1 epoch 2")
			i := slices.Index(b.calls, "lost reply")
			if i < 0 || i+1 >= len(b.calls) || b.calls[i+1] != "catch up" {
				t.Errorf("calls: %v", b.calls)
			}
		})
	}
}

func TestADeposedLeaderWritesNothing(t *testing.T) {
	b := newBench(t)
	b.held("web", "s2")
	b.start()
	b.until(time.Second)
	before := len(b.world.Events)
	b.world.Lead("s3") // the election has moved on, and this agent has not heard of it
	b.shown.Leader = b.office
	b.behind = true
	b.at(2*time.Second, func() {
		b.world.Lose("s2")
		b.shown = b.world.Snapshot()
		b.shown.Leader = b.office
	})
	b.until(10 * time.Second)
	b.want("web", "HELD s2 epoch 1")
	if len(b.world.Events) != before || len(b.world.Fences) != 0 {
		t.Error("a deposed leader has written")
	}
}

func TestWhatRestsOnAFenceIsNotDoneIfTheFenceCouldNotBeRecorded(t *testing.T) {
	b := newBench(t)
	b.held("web", "s2")
	b.fail = func(changes []pool.Change, i int) (error, bool) {
		if len(changes[i].Fences) > 0 {
			return fmt.Errorf("its member key is back: %w", pool.ErrStale), false
		}
		return nil, true
	}
	b.start()
	b.at(time.Second, func() { b.world.Lose("s2") })
	b.until(2 * time.Second)
	b.want("web", "HELD s2 epoch 1")
}

func TestANewLeadershipCountsAnew(t *testing.T) {
	b := newBench(t)
	b.held("web", "s2")
	b.start()
	b.at(time.Second, func() { b.world.Lose("s2") })
	b.at(time.Second+500*time.Millisecond, func() {
		b.world.Lead("s1")
		b.office = b.world.Leader
	})
	b.until(2*time.Second + 100*time.Millisecond)
	b.want("web", "HELD s2 epoch 1")
	b.until(2*time.Second + 200*time.Millisecond)
	b.want("web", "ASSIGNED s1 epoch 2")
}

func TestAfterTheWholePoolWasDownServersAreGivenTimeToBoot(t *testing.T) {
	b := newBench(t)
	b.held("web", "s2")
	b.held("db", "s3")
	b.held("here", "s1")
	for _, s := range []pool.ServerID{"s1", "s2", "s3"} {
		b.world.Lose(s)
	}
	b.world.Join("s1", 16*gib, 8) // the first to boot
	b.start()
	b.at(60*time.Second, func() { // s2 boots too, and its agent lets its VM go
		b.world.Join("s2", 16*gib, 8)
		b.world.PutClaim(pool.Claim{VM: "web", Phase: pool.PhaseUnassigned, Epoch: 1, LastServer: "s2", Cause: pool.CauseServerRestarted})
	})
	b.until(70 * time.Second)
	b.want("web", "ASSIGNED s2 epoch 2")
	b.want("db", "HELD s3 epoch 1")
	if a := b.world.Alerts["fencing-s3"]; !strings.Contains(a.Text, "given 2m0s to start") {
		t.Errorf("alert %q", a.Text)
	}
	b.until(121 * time.Second)
	if c := b.world.Claims["db"]; c.Phase != pool.PhaseAssigned {
		t.Errorf("s3 did not boot, and db is not restarted: %s", b.claim("db"))
	}
}

func TestTwoServersLostUnderTheLeadersEyesAreNoColdStart(t *testing.T) {
	b := newBench(t)
	b.held("web", "s2")
	b.held("db", "s3")
	b.start()
	b.at(7*time.Second, func() { b.world.Lose("s2"); b.world.Lose("s3") })
	b.at(7*time.Second+10*time.Millisecond, func() { // a new leadership of the same agent
		b.world.Lead("s1")
		b.office = b.world.Leader
	})
	b.until(8 * time.Second)
	b.want("web", "ASSIGNED s1 epoch 2")
	b.want("db", "ASSIGNED s1 epoch 2")
}

func TestPowerFencingRunsBesideTheLoopAndIsTriedAgain(t *testing.T) {
	b := newBench(t)
	b.held("web", "s2")
	vm := b.world.VMs["web"]
	vm.DiskLocks = false // the guard is no proof for it
	b.world.PutVM(vm)
	s := b.world.Servers["s2"]
	s.Fence = []pool.FenceDevice{{Agent: "fence_test"}}
	b.world.PutServer(s)
	b.held("db", "s3")
	var began []time.Duration
	b.fencer = func(ctx context.Context, s pool.Server) (string, error) {
		began = append(began, b.sched.Now())
		if err := b.proc.Sleep(ctx, time.Second); err != nil {
			return "", err
		}
		if len(began) < 3 {
			return "", errors.New("connection refused")
		}
		return "fence_test says off", nil
	}
	b.start()
	b.at(time.Second, func() { b.world.Lose("s2") })
	b.at(1500*time.Millisecond, func() { // a second loss does not wait for the first
		c := b.world.Claims["db"]
		c.Phase, c.Server, c.Session, c.LastServer, c.Cause = pool.PhaseUnassigned, "", 0, "s3", pool.CauseCrashed
		b.world.PutClaim(c)
	})
	b.until(1600 * time.Millisecond)
	b.want("db", "ASSIGNED s3 epoch 2")
	b.until(3 * time.Second)
	if a := b.world.Alerts["fencing-s2"]; !strings.Contains(a.Text, "power fencing failed: connection refused") {
		t.Errorf("alert %q", a.Text)
	}
	b.until(20 * time.Second)
	b.want("web", "ASSIGNED s1 epoch 2")
	if len(began) != 3 || began[1]-began[0] < 3*time.Second || began[2]-began[1] < 5*time.Second {
		t.Errorf("attempts at %v", began)
	}
	if f := b.world.Fences["s2"]; f.Proof != pool.ProofPower || f.Evidence != "fence_test says off (1.0 s, attempt 3)" {
		t.Errorf("fence %+v", f)
	}
}

func TestAPlanThatBreaksARuleIsNotTrusted(t *testing.T) {
	b := newBench(t)
	b.held("web", "s2")
	b.held("db", "s2")
	s := b.world.Snapshot()
	web, db := b.world.Claims["web"], b.world.Claims["db"]
	away := func(c pool.Claim, change func(*pool.Claim)) plan.Action {
		c.Server, c.Session, c.Phase, c.Epoch = "s1", b.world.Members["s1"].Session, pool.PhaseAssigned, c.Epoch+1
		if change != nil {
			change(&c)
		}
		return plan.Action{Key: "away " + string(c.VM), Change: pool.Change{Claims: []pool.Claim{c}}}
	}
	fence := plan.Action{Change: pool.Change{Fences: []pool.Fence{{Server: "s2", Session: web.Session, Proof: pool.ProofPower}}}}
	for _, tt := range []struct {
		name    string
		actions []plan.Action
		says    string
	}{
		{"sound", []plan.Action{fence, away(web, nil), away(db, nil)}, ""},
		{"no proof", []plan.Action{away(web, nil)}, "which no proof covers"},
		{"twice", []plan.Action{fence, away(web, nil), away(web, nil)}, "both change the claim of web"},
		{"old revision", []plan.Action{fence, away(db, func(c *pool.Claim) { c.Revision-- })}, "decided on revision"},
		{"nonsense", []plan.Action{fence, away(db, func(c *pool.Claim) { c.Server = "" })}, "without a server"},
	} {
		err := verify(s, tt.actions)
		if (err == nil) != (tt.says == "") || (err != nil && !strings.Contains(err.Error(), tt.says)) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.says)
		}
	}
	b.lead.resign(t.Context(), errors.New("test"))
	if b.resigned != 1 {
		t.Error("it did not resign")
	}
}
