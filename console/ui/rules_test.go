package ui

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/holdfast-ha/holdfast/console/cli/fakepool"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// What asks for a name to be typed, or ends a guest or a server, has no key of its own: it is found in the actions of the
// thing and in the palette only.
func TestDangerousActionsAreReachedByNoKeyOfTheirOwn(t *testing.T) {
	m := newBench(t, fakepool.Troubled(), 120, 40).m
	harmless := []string{"ha on", "ha off", "inbound-lock on", "inbound-lock off", "maintenance enter", "maintenance exit", "migrate", "operation cancel"}
	keys := map[string]bool{}
	for _, c := range keyMap {
		if c.group == "Change" {
			for _, k := range c.Keys() {
				keys[k] = true
			}
		}
	}
	if got, want := slices.Sorted(maps.Keys(keys)), []string{"A", "H", "L", "M", "X", "m"}; !slices.Equal(got, want) {
		t.Errorf("keys that change something: %v, want %v", got, want)
	}
	for _, a := range allActions {
		if a.key == "" {
			continue
		}
		if !slices.Contains(harmless, a.name) {
			t.Errorf("%s has the key %s", a.name, a.key)
		}
		if a.kind == nil {
			continue // HA of the pool: its name is typed, and the key works on Overview alone
		}
		for _, id := range []string{"db-main", "hv-06"} {
			if a.weigh(m, []string{id}) == named {
				t.Errorf("%s asks for a name to be typed and has the key %s", a.name, a.key)
			}
		}
	}
}

// Columns leave one after the other as a line gets shorter, in the order that they say, never the name nor the state, and
// none is there that was gone on a longer line.
func TestColumnsLeaveInTheirOrderAtAnyWidth(t *testing.T) {
	m := newBench(t, fakepool.Troubled(), 220, 60).m
	for _, k := range []*kind{vmKind, serverKind, operationKind, eventKind} {
		var longer []string
		dropped := map[string]int{}
		for w := 217; w >= 57; w-- {
			cols := k.layout(m, w)
			var names []string
			for _, c := range cols {
				names = append(names, c.name)
				if c.x+c.w > w {
					t.Fatalf("%s at %d cells: column %s ends at %d", k.name, w, c.name, c.x+c.w)
				}
			}
			if longer != nil {
				for _, n := range names {
					if !slices.Contains(longer, n) {
						t.Errorf("%s at %d cells: column %s comes back", k.name, w, n)
					}
				}
				for _, n := range longer {
					if !slices.Contains(names, n) {
						dropped[n] = w
					}
				}
			}
			longer = names
		}
		for _, a := range k.cols {
			at, gone := dropped[a.name]
			if a.drop == 0 && gone {
				t.Errorf("%s: column %s must stay and is gone at %d cells", k.name, a.name, at)
			}
			for _, b := range k.cols {
				if a.drop > 0 && b.drop > a.drop && at > dropped[b.name] {
					t.Errorf("%s: %s leaves at %d cells, before %s at %d", k.name, a.name, at, b.name, dropped[b.name])
				}
			}
		}
	}
}

func TestWhoCancelsAnEvacuationIsToldThatWhatHasMovedStays(t *testing.T) {
	b := newBench(t, fakepool.Troubled(), 120, 40)
	b.press("4", "X")
	b.sees("What is done stays done: VMs that have moved", "stay where they are.")
	for _, call := range b.others {
		t.Errorf("done already: %s", fmt.Sprint(call))
	}
}

// TestWhatIsDoneMostTakesFewerThanFiveKeysAndHelpTellsThem counts the keys from the first screen to the dialog, or to the
// answer where nothing is changed. Somebody new finds each key in the help.
func TestWhatIsDoneMostTakesFewerThanFiveKeysAndHelpTellsThem(t *testing.T) {
	haOff := func(b *bench) {
		p := fakepool.Troubled().GetPool()
		p.Config.Ha = false
		b.delta(&pb.Delta{Pool: p})
	}
	for _, c := range []struct {
		task  string
		begin func(*bench)
		keys  []string
		sees  []string
		help  string
	}{
		{"migrate a VM", nil, []string{"3", "j", "m"}, []string{"Migrate db-main in prod-a (PROD)", "recommended", "[Migrate]"}, "migrate VMs"},
		{"evacuate a server", nil, []string{"2", "M"}, []string{"Maintenance of hv-01 in prod-a (PROD)", "3 VMs:", "PREVIEW, nothing has started"}, "maintenance on or off"},
		{"explain an unprotected VM", nil, []string{"3", "j", "j", "e"}, []string{"WHY: lab-2", "HA is off for this VM"}, "explain:"},
		{"explain a failed VM", nil, []string{"3", "e"}, []string{"WHY: batch-3", "clear it: A on it, clear"}, "explain:"},
		{"protect a VM again", nil, []string{"3", "j", "j", "H"}, []string{"lab-2", "[HA on]"}, "HA on or off: VMs in their list, the pool on Overview"},
		{"switch the pool's HA on again", haOff, []string{"H"}, []string{"prod-a (PROD)", "[Pool HA on]"}, "HA on or off: VMs in their list, the pool on Overview"},
	} {
		t.Run(c.task, func(t *testing.T) {
			for _, size := range sizes {
				b := newBench(t, fakepool.Troubled(), size[0], size[1])
				if c.begin != nil {
					c.begin(b)
				}
				if len(c.keys) >= 5 {
					t.Errorf("%d keys", len(c.keys))
				}
				last := len(c.keys) - 1
				b.press(c.keys[:last]...)
				b.press("?", "y", "esc")
				if told := strings.Join(strings.Fields(b.copied[len(b.copied)-1]), " "); !strings.Contains(told, " "+c.keys[last]+" "+c.help) {
					t.Errorf("the help does not name %s for it:\n%s", c.keys[last], told)
				}
				b.press(c.keys[last])
				b.sees(c.sees...)
			}
		})
	}
}

// TestThePreviewOfAnEvacuationComesAliveAndLeavingItEndsNothing follows one from its confirmation to its end.
func TestThePreviewOfAnEvacuationComesAliveAndLeavingItEndsNothing(t *testing.T) {
	b := newBench(t, fakepool.Troubled(), 120, 40)
	startEvacuation(b)
	b.sees("Maintenance of hv-02 in prod-a (PROD), under way", "0 of 3", "queued", "stays    host device attached")
	b.delta(evacuating())
	b.sees("0 of 3, 1 moving, 2:10", "62% attempt 2, 5s left, 600M/s")

	b.press("X")
	b.sees("Cancel operation op-9", "VMs that have moved", "stay where they are.", "[Cancel operation]")
	b.press("esc")
	b.sees("under way")
	if n := len(b.sent); n != 1 {
		t.Errorf("%d requests were sent, want the one for the maintenance", n)
	}

	plan := b.replies["PlanMaintenance"]
	b.replies["PlanMaintenance"] = func(proto.Message) (proto.Message, error) {
		return &pb.PlanMaintenanceResponse{Moves: []*pb.PlannedMove{{Vm: "web-02", How: pb.LeaveBy_LEAVE_BY_WAITS, Reason: "no server has 8 GiB free"}}}, nil
	}
	b.pass(2*time.Second, true)
	b.delta(blocked())
	b.sees("evacuating, 2 VMs still here", "moved    in 0:12, attempt 2", "waits    no server has 8 GiB free", "stays    host device attached")
	b.replies["PlanMaintenance"] = plan

	b.link.Open, b.link.Lost = false, b.now
	b.pass(12*time.Second, false)
	b.sees("as it was at")
	b.link.Open = true
	b.delta(emptied())
	b.sees("hv-02 in maintenance, safe to power off", "3 of 3")
	b.press("esc", "2", "j")
	b.sees("[2 Servers", "hv-02     up, maintenance", "safe to power off")
	if n := len(b.sent); n != 1 {
		t.Errorf("%d requests were sent", n)
	}
}

// TestAShutdownAndARemovalOfferOnlyWhatThePoolCanDo: VMs that cannot move go down with a server that is shut down, and may
// be restarted elsewhere if it is removed.
func TestAShutdownAndARemovalOfferOnlyWhatThePoolCanDo(t *testing.T) {
	b := newBench(t, fakepool.Troubled(), 120, 40)
	b.line("shutdown hv-02")
	b.sees("SHUT DOWN hv-02", "Those that cannot leave are shut down with it.", "gpu-1")
	if strings.Contains(b.screen(), "start them elsewhere") {
		t.Error("a shutdown offers to restart VMs elsewhere, which the pool cannot do then")
	}
	b.press("esc")
	b.line("remove-server hv-02")
	b.sees("REMOVE SERVER hv-02", "must join anew", "start them elsewhere")
	b.press(" ", "tab")
	b.write("sold")
	b.press("enter")
	b.write("hv-02")
	b.press("enter", "tab", "enter")
	if len(b.sent) != 1 {
		t.Fatalf("%d requests", len(b.sent))
	}
	r, _ := b.sent[0].Request.(*pb.RemoveServerRequest)
	if r.GetServer() != "hv-02" || !r.GetEvacuate() || !r.GetRestartUnmovable() || r.GetPlanRevision() != 77 || r.GetWhy() != "sold" {
		t.Errorf("asked for %v", r)
	}
	b.sees("REMOVE SERVER hv-02 in prod-a (PROD), under way")
	b.reduce(Reply{Session: b.m.sessionNo, At: b.now, ID: b.sent[0].ID, Err: &pool.Refusal{Code: "PLAN_CHANGED", Reason: "the plan has changed", Remedy: "look at the plan again"}})
	b.sees("REFUSED", "the plan has changed")
	b.press("esc")
	if strings.Contains(b.screen(), "under way") {
		t.Error("what was refused is shown as under way")
	}
}
