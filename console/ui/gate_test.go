package ui

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/holdfast-ha/holdfast/console/cli/fakepool"
	"github.com/holdfast-ha/holdfast/console/feed"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// closed are the ways in which the gate can be closed.
var closed = map[string]func(b *bench){
	"read-only": func(b *bench) { b.m.pool.ReadOnly, b.m.pool.ReadOnlyWhy = true, "started with --read-only" },
	"viewer": func(b *bench) {
		b.m.me = &pb.WhoAmIResponse{Name: "kim", Role: "viewer", Permitted: rpc.Permitted("viewer"), ReadOnly: true}
	},
	"stale":     func(b *bench) { b.link.Open = false; b.pass(6*time.Second, false) },
	"no leader": func(b *bench) { b.link.NoLeader = b.now; b.pass(time.Second, true) },
	"etcd lost": func(b *bench) { b.link.EtcdLost = b.now; b.pass(time.Second, true) },
	"frozen":    func(b *bench) { b.press("f") },
}

// insist presses everything that could confirm whatever is open.
func insist(b *bench) {
	for range 3 {
		b.press("tab", "enter")
		b.write("hv-06")
		b.press("tab", "enter", "tab", "enter", "enter", "y", "right", "enter")
	}
	b.press("esc", "esc", "esc", "esc")
}

func TestNothingPassesAClosedGateFromAnyScreen(t *testing.T) {
	for name, shut := range closed {
		for _, s := range screens {
			b := troubled(t)
			b.press(fmt.Sprint(int(s)))
			shut(b)
			again := func() {
				if name == "frozen" && b.m.still == nil {
					b.press("f") // Esc had let it go on
				}
			}
			for _, c := range keyMap {
				again()
				if c.Help().Desc != "quit: operations go on" && c.Keys()[0] != "f" {
					b.press(c.Keys()[0])
					insist(b)
				}
			}
			for _, a := range allActions {
				again()
				line := a.name
				if a.kind != nil {
					line += " " + map[*kind]string{vmKind: "web-01", serverKind: "hv-06", operationKind: "op-1"}[a.kind]
				}
				b.line(line)
				insist(b)
			}
			if len(b.sent) > 0 {
				t.Errorf("%s, screen %d: sent %v", name, s, b.sent)
			}
		}
	}
}

func TestARefusedActionStaysVisibleWithItsReason(t *testing.T) {
	b := troubled(t)
	closed["viewer"](b)
	b.press("3", "A")
	b.sees("ha off", "role viewer, which may not do this")
	b.press("esc", "H")
	b.sees("REFUSED", "Nothing was changed")
}

func TestEveryActionCanBeAskedForWhenNothingIsInTheWay(t *testing.T) {
	for _, a := range allActions {
		req := a.request(troubled(t).m, "x", inputs{}, "r")
		if feed.Method(req) == "" {
			t.Errorf("%s: %T belongs to no call of the API", a.name, req)
		}
		if a.about == nil || a.weigh == nil {
			t.Errorf("%s has no preview", a.name)
		}
	}
}

func TestEveryCallThatChangesSomethingHasAnAction(t *testing.T) {
	// What the console leaves to the command line: it takes files. So do identities, and a drill writes a report.
	elsewhere := []string{"RegisterVM", "UpdateServer"}
	have := strings.Join(elsewhere, " ")
	for _, a := range append(allActions, setAction("pool", nil, nil), setAction("x", nil, nil)) {
		have += " " + feed.Method(a.request(troubled(t).m, "x", inputs{}, ""))
	}
	for _, m := range rpc.Permitted("admin") {
		name := m[strings.LastIndexByte(m, '/')+1:]
		if !rpc.IsRead(m) && !strings.Contains(have, name) && !strings.Contains(m, "JoinService") && !strings.Contains(m, "IdentityService") && !strings.Contains(m, "DrillService") {
			t.Errorf("%s has no action", m)
		}
	}
}

func TestALightDialogNeedsMoreThanABlindEnter(t *testing.T) {
	b := troubled(t)
	b.press("2", "L")
	b.sees("Inbound lock on for hv-01 in prod-a (PROD)")
	b.press("L")
	b.press("enter")
	if len(b.sent) != 0 {
		t.Fatalf("sent %v", b.sent)
	}
	b.press("L", "tab", "enter")
	r, ok := b.one().Request.(*pb.SetInboundLockRequest)
	if !ok || r.GetServer() != "hv-01" || !r.GetOn() {
		t.Errorf("sent %v", b.sent)
	}
	b.sees("requested")
}

func TestAHeavyDialogWantsTheNameTyped(t *testing.T) {
	b := troubled(t)
	b.line("confirm-fenced hv-06")
	b.sees("run TWICE", "CORRUPTED", "Type hv-06 to enable")
	b.press("tab")
	b.write("hv-05")
	b.press("enter", "tab", "enter")
	if len(b.sent) != 0 {
		t.Fatalf("a wrong name was enough: %v", b.sent)
	}
	b.m.dialogs = nil
	b.line("confirm-fenced hv-06")
	b.press("tab")
	b.write("hv-06")
	b.press("enter", "tab", "enter")
	r, ok := b.one().Request.(*pb.ConfirmFencedRequest)
	if !ok || r.GetTypedName() != "hv-06" {
		t.Errorf("sent %v", b.sent)
	}
}

func TestAReasonIsDemandedForHAOff(t *testing.T) {
	b := troubled(t)
	b.line("ha off web-01")
	b.press("enter", "enter", "tab", "enter")
	if len(b.sent) != 0 {
		t.Fatal("sent without a reason")
	}
	b.m.dialogs = nil
	b.line("ha off web-01")
	b.write("SAN work")
	b.press("enter", "tab", "enter")
	if r, ok := b.one().Request.(*pb.SetVMHARequest); !ok || r.GetWhy() != "SAN work" || r.GetOn() {
		t.Errorf("sent %v", b.sent)
	}
}

func TestMarkedButHiddenRowsAreCounted(t *testing.T) {
	b := troubled(t)
	b.press("3", "j", " ", "/")
	b.write("web")
	b.press("enter", "g", " ", "m")
	b.sees("1 VM marked that the filter does not show")
}

func TestARequestIsShownAsRequestedUntilThePoolConfirmsIt(t *testing.T) {
	b := troubled(t)
	b.press("3", "j", "j", "j")
	b.line("start old")
	b.press("tab", "enter")
	s := b.one()
	b.sees("start requested")
	b.reduce(Reply{Session: 1, At: b.now, ID: s.ID, Message: &pb.StartVMResponse{Operation: &pb.Operation{Id: "op-9"}}})
	b.sees("start requested")
	b.delta(&pb.Delta{Operations: []*pb.Operation{{Id: "op-9", Kind: pb.OperationKind_OPERATION_KIND_START, Vm: "old", Outcome: pb.OperationOutcome_OPERATION_OUTCOME_RUNNING}}})
	b.seesNot("start requested")
}

func TestARefusalIsAnAnswer(t *testing.T) {
	b := troubled(t)
	b.line("start old")
	b.press("tab", "enter")
	b.reduce(Reply{Session: 1, At: b.now, ID: b.one().ID, Err: pool.Refuse("NO_PLACE", "free memory on hv-05", "no server has 4 GiB free")})
	b.sees("REFUSED: Start old", "no server has 4 GiB free", "free memory on hv-05")
}

func TestALostAnswerIsLookedForAndNeverSentAgain(t *testing.T) {
	for _, done := range []bool{true, false} {
		b := troubled(t)
		b.press("3", "j", "j", "j")
		b.line("start old")
		b.press("tab", "enter")
		s := b.one()
		b.reduce(Reply{Session: 1, At: b.now, ID: s.ID, Err: fmt.Errorf("the connection broke: %w", pool.ErrOutcomeUnknown)})
		b.sees("outcome unknown: start")
		b.link.Open = false
		b.pass(7*time.Second, false)
		b.line("start old")
		b.sees("REFUSED")
		b.press("esc")
		snap := fakepool.Troubled()
		if done {
			snap.Operations = append(snap.Operations, &pb.Operation{Id: "op-9", Vm: "old", RequestId: s.ID, Outcome: pb.OperationOutcome_OPERATION_OUTCOME_DONE})
		}
		b.snapshot(snap)
		if done {
			b.sees("was done although its answer was lost")
		} else {
			b.sees("outcome unknown: start")
			b.pass(7*time.Second, true)
			b.sees("no trace of it in the pool, so it was not done")
		}
		b.seesNot("looking for it")
		if len(b.sent) != 1 {
			t.Errorf("done %v: sent %d times", done, len(b.sent))
		}
	}
}

func TestAPreviewThatChangedHasToBeReadAgain(t *testing.T) {
	b := troubled(t)
	b.line("stop web-01 db-main")
	b.write("why not")
	b.press("enter", "tab")
	v := fakepool.Troubled().GetVms()[4]
	v.Claim.Server = "hv-05"
	b.delta(&pb.Delta{Vms: []*pb.VMView{v}})
	b.sees("this has changed since you opened it")
	b.press("enter")
	if len(b.sent) != 0 {
		t.Fatal("confirmed what was not read")
	}
	b.press("enter")
	if len(b.sent) != 2 {
		t.Errorf("sent %v", b.sent)
	}
}

func TestMigrationListsEveryServerAndGoesWhereItIsTold(t *testing.T) {
	b := troubled(t)
	b.line("migrate web-01")
	b.sees("hv-05", "ok, recommended", "no: inbound lock by kim", "(+2 more, e)", "N+1: OK -> OK")
	b.press("j", "tab", "enter")
	r, ok := b.one().Request.(*pb.MigrateVMRequest)
	if !ok || r.GetVm() != "web-01" || r.GetServer() != "hv-04" || r.GetPlanRevision() != 8812 || r.GetRequestId() == "" {
		t.Errorf("sent %v", b.sent)
	}
}

func TestMigrationToAServerThatCannotTakeItIsNotOffered(t *testing.T) {
	b := troubled(t)
	b.line("migrate web-01 hv-03")
	b.press("tab", "enter")
	if len(b.sent) != 0 {
		t.Errorf("sent %v", b.sent)
	}
	b.sees("hv-03: CPU lacks avx512f")
}

func TestAnEvacuationThatStrandsVMsWantsTheNameTypedAndRunsThePreviewedPlan(t *testing.T) {
	b := troubled(t)
	b.line("maintenance enter hv-02")
	b.sees("2 move live, 1 cannot leave", "gpu-1", "host device attached", "Type hv-02 to enable")
	b.m.top().(*confirm).focus = 2 //nolint:errcheck,forcetypeassert // it was just opened
	b.write("hv-02")
	b.press("enter", "tab", "enter")
	r, ok := b.one().Request.(*pb.EnterMaintenanceRequest)
	if !ok || r.GetPlanRevision() != 77 || r.GetServer() != "hv-02" {
		t.Errorf("sent %v", b.sent)
	}
}

func TestAPlanThatIsRefusedIsShownAndNothingCanBeStarted(t *testing.T) {
	b := troubled(t)
	b.held = true
	b.line("maintenance enter hv-02")
	b.sees("asking the pool's planner")
	b.reduce(Answer{Session: 1, At: b.now, Topic: "plan maintenance enter [hv-02]", Err: errors.New("no leader")})
	b.write("hv-02")
	b.press("tab", "enter", "tab", "enter", "tab", "enter")
	if len(b.sent) != 0 {
		t.Errorf("sent %v", b.sent)
	}
}

func TestAPlanThatChangesUnderTheReadersEyesIsMarkedAndReadAgain(t *testing.T) {
	b := troubled(t)
	b.line("maintenance enter hv-02")
	b.seesNot("! web-01", "! 1 web-01", "this has changed")
	c := b.m.top().(*confirm) //nolint:errcheck,forcetypeassert // it was just opened
	c.focus = 2
	b.write("hv-02")
	b.replies["PlanMaintenance"] = func(proto.Message) (proto.Message, error) {
		p := cannedPlan()
		p.PlanRevision, p.Moves[0].Target = 78, "hv-04"
		return p, nil
	}
	b.now = b.now.Add(2 * time.Second)
	b.held = true
	b.delta(&pb.Delta{Vms: []*pb.VMView{{Vm: &pb.VM{Id: "aaa"}}}})
	b.press("enter", "tab", "enter")
	b.sees("the pool has changed: being checked again")
	b.held = false
	r, err := b.replies["PlanMaintenance"](nil)
	b.reduce(Answer{Session: 1, At: b.now, Topic: c.topic(), Message: r, Err: err})
	b.sees("!  1 web-01", "hv-04", "this has changed since you opened it")
	b.seesNot("!  2 web-02")
	b.press("enter")
	if len(b.sent) != 0 {
		t.Fatalf("sent %v although nobody has read the new plan", b.sent)
	}
	b.sees("it had changed; Enter again")
	b.seesNot("!  1 web-01")
	b.press("enter")
	if r, ok := b.one().Request.(*pb.EnterMaintenanceRequest); !ok || r.GetPlanRevision() != 78 {
		t.Errorf("sent %v", b.sent)
	}
}

func TestLiveFiguresInAPreviewAreNoChangeOfIt(t *testing.T) {
	b := troubled(t)
	b.line("migrate web-01 hv-05")
	b.sees("LOAD", "hv-05")
	b.now = b.now.Add(2 * time.Second)
	b.figures(fakepool.Troubled(), 7)
	b.delta(&pb.Delta{Vms: []*pb.VMView{{Vm: &pb.VM{Id: "aaa"}}}})
	b.pass(2*time.Second, true)
	b.seesNot("this has changed")
}

func TestADialogSaysWhenTheAgentIsLate(t *testing.T) {
	b := troubled(t)
	b.line("inbound-lock on hv-01")
	b.seesNot("the agent is late")
	b.pass(3*time.Second, false)
	b.sees("the agent is late: what is shown is 3s old")
}

func TestDetailsOfAStalePoolSayWhenTheyWereTrue(t *testing.T) {
	b := troubled(t)
	b.line("vm show web-01")
	b.pass(6*time.Second, false)
	b.sees("as it was at 13:05:20")
	b.press("esc", "2")
	b.sees("as it was at 13:05:20")
}

func TestHelpPoolsScrollingAndQuittingWorkInEveryState(t *testing.T) {
	for state, set := range map[string]func(b *bench){
		"stale":     func(b *bench) { b.link.Open = false; b.pass(12*time.Second, false) },
		"resync":    func(b *bench) { b.link.Synced = false; b.pass(time.Second, true) },
		"no leader": func(b *bench) { b.link.NoLeader = b.now; b.pass(time.Second, true) },
		"etcd lost": func(b *bench) { b.link.EtcdLost = b.now; b.pass(time.Second, true) },
	} {
		t.Run(state, func(t *testing.T) {
			b := troubled(t)
			set(b)
			b.press("?")
			b.sees("HELP")
			b.press("esc", "p")
			b.sees("POOLS", "prod-b")
			b.press("esc", "3", "G")
			if l := b.m.list(); l.cursor != l.ids[len(l.ids)-1] {
				t.Errorf("the cursor is on %s", l.cursor)
			}
			b.line("pool prod-b")
			b.press("q")
			if n := len(b.others); n != 2 || b.others[0] != (Open{"prod-b"}) || b.others[1] != (Quit{}) {
				t.Errorf("effects %v", b.others)
			}
		})
	}
}
