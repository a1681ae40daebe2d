package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/plan/plantest"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// rosters is a pool whose leader plans and whose members acknowledge rosters when the test says.
type rosters struct {
	t     *testing.T
	world *plantest.World
	now   pool.Instant
	lost  map[pool.ServerID]Sight
	cold  pool.Instant
}

// newRosters returns a pool of n servers, led by s1, whose roster has everybody in force.
func newRosters(t *testing.T, n int) *rosters {
	t.Helper()
	r := &rosters{t: t, world: plantest.New(), now: pool.Instant(100 * time.Second)}
	for i := range n {
		r.join(pool.ServerID(fmt.Sprintf("s%d", i+1)))
	}
	r.world.Lead("s1")
	r.plan()
	r.acknowledge()
	return r
}

func (r *rosters) join(id pool.ServerID) {
	r.world.Join(id, 1<<34, 8)
	r.change(id, func(m *pool.Member) { m.Failsafe = true })
}

func (r *rosters) change(id pool.ServerID, f func(m *pool.Member)) {
	m := r.world.Members[id]
	f(&m)
	m.Revision = r.world.Next()
	r.world.Members[id] = m
}

// acknowledge has members acknowledge the present roster; without names, all.
func (r *rosters) acknowledge(ids ...pool.ServerID) {
	if len(ids) == 0 {
		ids = slices.Sorted(maps.Keys(r.world.Members))
	}
	for _, id := range ids {
		r.change(id, func(m *pool.Member) { m.RosterRevision = r.world.Roster.Revision })
	}
}

// held has a server run a protected VM.
func (r *rosters) held(id pool.VMID, on pool.ServerID) {
	v := pool.DefaultVM(id)
	v.HA, v.DiskLocks, v.Desired, v.MemoryBytes = true, true, pool.DesiredRunning, 1<<30
	r.world.PutVM(v)
	r.world.PutClaim(pool.Claim{VM: id, Server: on, Session: r.world.Members[on].Session, Epoch: 1, Phase: pool.PhaseHeld, Armed: true})
	r.world.PutState(pool.VMState{VM: id, Server: on, Epoch: 1, State: pool.RunRunning})
}

// plan plans and applies once, and returns the plan.
func (r *rosters) plan() Result {
	r.t.Helper()
	snap := r.world.Snapshot()
	r.lost = Look(r.lost, snap, r.now)
	res := Plan(Input{Snapshot: snap, Leader: r.world.Leader, Now: r.now, Wall: plantest.Start.Add(time.Duration(r.now)), Lost: r.lost, ColdUntil: r.cold})
	for _, a := range res.Actions {
		if err := r.world.Apply(r.world.Leader, a.Change); err != nil {
			r.t.Fatalf("%s: %v", a.Key, err)
		}
	}
	return res
}

func (r *rosters) after(d time.Duration) Result {
	r.t.Helper()
	r.now = r.now.Add(d)
	return r.plan()
}

// want checks the roster, in words such as "s1 s2 (s3)": those in brackets are pending.
func (r *rosters) want(want string) {
	r.t.Helper()
	var words []string
	for _, id := range slices.Sorted(maps.Keys(r.world.Roster.Standing)) {
		if r.world.Roster.Standing[id] == pool.StandingPending {
			words = append(words, "("+string(id)+")")
		} else {
			words = append(words, string(id))
		}
	}
	if got := strings.Join(words, " "); got != want {
		r.t.Errorf("the roster is %q, want %q", got, want)
	}
}

// settle is L with the default lease, and a little.
const settle = 700 * time.Millisecond

func TestAPoolFromBeforeTheRosterGetsOneOnceEveryMemberObeysIt(t *testing.T) {
	r := newRosters(t, 0)
	for _, id := range []pool.ServerID{"s1", "s2", "s3"} {
		r.join(id)
	}
	r.world.PutServer(pool.Server{ID: "s4"})
	r.change("s3", func(m *pool.Member) { m.Failsafe = false })
	r.world.Lead("s1")
	r.plan()
	r.want("")
	r.change("s3", func(m *pool.Member) { m.Failsafe = true })
	r.plan()
	r.want("s1 s2 s3 s4")
}

func TestARosterThatAStrangerDeletedGrowsAnewInTwoSteps(t *testing.T) {
	r := newRosters(t, 3)
	r.world.Roster = pool.Roster{}
	r.plan()
	r.want("s1 (s2) (s3)")
	r.acknowledge()
	r.plan()
	r.want("s1 s2 s3")
}

func TestAnIdlePoolsRosterStays(t *testing.T) {
	r := newRosters(t, 3)
	r.want("s1 s2 s3")
	for range 3 {
		for _, a := range r.after(time.Hour).Actions {
			if a.Change.Roster != nil {
				t.Errorf("written again: %s", a.Why)
			}
		}
	}
}

func TestANewServerMayLeadOnlyOnceEveryMemberHasAcknowledgedThatItMustBeAsked(t *testing.T) {
	r := newRosters(t, 3)
	r.join("s4")
	r.plan()
	r.want("s1 s2 s3 (s4)")
	r.acknowledge("s1", "s2", "s4")
	r.plan()
	r.want("s1 s2 s3 (s4)")
	r.acknowledge("s3")
	r.plan()
	r.want("s1 s2 s3 s4")
}

// A server that has lost its session may still run its VMs by promises, until its guard has acted.
func TestWhoeverIsLostIsWaitedForUntilItsGuardMustHaveActed(t *testing.T) {
	r := newRosters(t, 3)
	r.held("v", "s3")
	r.join("s4")
	r.plan()
	r.world.Lose("s3")
	r.acknowledge()
	res := r.plan()
	r.want("s1 s2 s3 (s4)")
	if res.WakeAt == 0 {
		t.Error("it does not look again by itself")
	}
	r.after(settle)
	r.want("s1 s2 s3 s4")
	r.plan() // now enough are in force without it
	r.want("s1 s2 s4")
}

func TestAWatchdogIsWaitedForLonger(t *testing.T) {
	r := newRosters(t, 3)
	r.held("v", "s3")
	c := r.world.Claims["v"]
	c.Watchdog = 10 * time.Second
	r.world.PutClaim(c)
	r.join("s4")
	r.plan()
	r.world.Lose("s3")
	r.acknowledge()
	r.plan()
	r.after(10 * time.Second)
	r.want("s1 s2 s3 (s4)")
	r.after(2 * time.Second)
	r.want("s1 s2 s3 s4")
}

func TestAServerIsTakenOffTheRosterTogetherWithTheProofThatFencesIt(t *testing.T) {
	r := newRosters(t, 3)
	r.held("v", "s3")
	r.world.Lose("s3")
	r.plan()
	r.want("s1 s2 s3")
	for _, a := range r.after(settle).Actions {
		if a.Kind == RecordFence && (a.Change.Roster == nil || len(a.Change.Roster.Standing) != 2) {
			t.Errorf("the fence is written without the roster: %+v", a.Change)
		}
	}
	r.want("s1 s2")
}

func TestAServerThatWasShutDownLeavesTheRoster(t *testing.T) {
	r := newRosters(t, 3)
	r.world.Lose("s2")
	r.plan()
	r.after(settle)
	r.want("s1 s3")
}

func TestARemovedServerLeavesTheRoster(t *testing.T) {
	r := newRosters(t, 2)
	delete(r.world.Servers, "s2")
	r.world.Lose("s2")
	r.plan()
	r.want("s1")
}

func TestAServerThatComesBackBeginsAsPending(t *testing.T) {
	r := newRosters(t, 3)
	r.world.Lose("s3")
	r.plan()
	r.after(settle)
	r.join("s3")
	r.plan()
	r.want("s1 s2 (s3)")
	r.acknowledge()
	r.plan()
	r.want("s1 s2 s3")
}

// Otherwise those that were lost first could never lead again after the last one is lost, too.
func TestMoreThanHalfOfTheServersStayInForce(t *testing.T) {
	r := newRosters(t, 5)
	for _, id := range []pool.ServerID{"s2", "s3", "s4", "s5"} {
		r.world.Lose(id)
		r.plan()
		r.after(settle)
	}
	r.want("s1 s4 s5")
	two := newRosters(t, 2)
	two.world.Lose("s2")
	two.plan()
	two.after(settle)
	two.want("s1 s2")
}

func TestServersThatAreGivenTimeToBootStayOnTheRoster(t *testing.T) {
	r := newRosters(t, 3)
	r.cold = r.now.Add(2 * time.Minute)
	r.world.Lose("s3")
	r.plan()
	r.after(time.Minute)
	r.want("s1 s2 s3")
}

// A power-off proves a server harmless while its lease still lives.
func TestAServerThatIsSwitchedOffWithALiveLeaseLeavesAndStaysAway(t *testing.T) {
	r := newRosters(t, 3)
	r.world.PutFence(pool.Fence{Server: "s3", Session: pool.Session(r.world.Revision), Proof: pool.ProofPower})
	r.plan()
	r.want("s1 s2")
	r.plan()
	r.want("s1 s2")
}

func TestALeaderThatIsNotInForcePlansNothing(t *testing.T) {
	r := newRosters(t, 3)
	r.held("v", "s3")
	r.world.Roster.Standing["s1"] = pool.StandingPending
	r.world.Lose("s3")
	r.plan()
	if res := r.after(time.Minute); len(res.Actions) > 0 {
		t.Errorf("it planned %v", res.Actions)
	}
}

// Two servers are fenced by one plan: the second roster must not bring the first one back.
func TestTwoServersFencedAtOnceBothLeave(t *testing.T) {
	r := newRosters(t, 5)
	r.held("v", "s4")
	r.held("w", "s5")
	r.world.Lose("s4")
	r.world.Lose("s5")
	r.plan()
	r.after(settle)
	r.want("s1 s2 s3")
}
