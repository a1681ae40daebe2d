package ui

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/holdfast-ha/holdfast/console/cli/fakepool"
	"github.com/holdfast-ha/holdfast/console/feed"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

func TestTheCursorAndMarksFollowTheThingNotTheRow(t *testing.T) {
	b := troubled(t)
	b.press("3", "/")
	b.write("web")
	b.press("enter", "g", "j", " ")
	cursor := b.m.list().cursor
	marked := b.m.list().targets()
	b.delta(&pb.Delta{Vms: []*pb.VMView{{Vm: &pb.VM{Id: "aaa-web"}, Status: isRunning}}})
	if b.m.list().cursor != cursor || !slices.Equal(b.m.list().targets(), marked) {
		t.Errorf("cursor %s, marks %v; want %s and %v", b.m.list().cursor, b.m.list().targets(), cursor, marked)
	}
	b.delta(&pb.Delta{VmsRemoved: marked})
	b.sees("no longer there, unmarked: " + marked[0])
	b.delta(&pb.Delta{VmsRemoved: []string{cursor}})
	if b.m.list().index() < 0 {
		t.Error("the cursor is on nothing")
	}
}

func TestRowsDoNotJumpWhileSomebodyPressesKeys(t *testing.T) {
	b := troubled(t)
	b.press("2", "s", "s", "s") // by the number of VMs
	before := slices.Clone(b.m.list().ids)
	s := fakepool.Troubled().GetServers()[2]
	s.Vms = 99
	b.now = b.now.Add(time.Second)
	b.delta(&pb.Delta{Servers: []*pb.ServerView{s}})
	if !slices.Equal(b.m.list().ids, before) {
		t.Errorf("the rows jumped: %v, before %v", b.m.list().ids, before)
	}
	b.pass(4*time.Second, true)
	s.Vms = 98
	b.now = b.now.Add(time.Second)
	b.link.Heard = b.now
	b.delta(&pb.Delta{Servers: []*pb.ServerView{s}})
	if got := b.m.list().ids; got[len(got)-1] != "hv-03" {
		t.Errorf("not sorted again at rest: %v", got)
	}
}

func TestFilters(t *testing.T) {
	for _, c := range []struct {
		filter string
		want   string
	}{
		{"web", "web-01 web-02 web-03 web-08 web-11 web-evil\x1b[2J web-gpu"},
		{"web -state:running", "web-02 web-08 web-11 web-gpu"},
		{"server:hv-04", "batch-3 web-03"},
		{"mem>16G", "batch-3 db-main web-gpu"},
		{"mem<=4g state=running", "web-03 web-evil\x1b[2J"},
		{"/^db|old/", "db-main old"},
		{"ha:off", "lab-2 old"},
		{"state!=running priority:high", ""},
		{"priority:high", "db-main"},
	} {
		b := troubled(t)
		b.press("3", "/")
		b.write(c.filter)
		b.press("enter")
		if got := strings.Join(b.m.list().ids, " "); got != c.want {
			t.Errorf("%s: %q, want %q", c.filter, got, c.want)
		}
	}
	b := troubled(t)
	b.press("3", "/")
	b.write("colour:red")
	b.sees("VMs have no \"colour\"; there are vm, server, state")
	b.press("esc")
	b.sees("db-main")
	if b.m.list().filter.line != "" {
		t.Error("Esc keeps the filter")
	}
}

func TestThePaletteSpeaksAndCompletesTheCommandLine(t *testing.T) {
	b := troubled(t)
	b.press(":")
	b.write("inb")
	b.press("tab")
	if got := b.m.prompt.line.String(); got != "inbound-lock " {
		t.Errorf("completed to %q", got)
	}
	b.write("on hv-02")
	b.m.prompt.line.set("inbound-lock on hv-")
	b.m.prompt.offers = b.m.prompt.suggest(b.m)
	if len(b.m.prompt.offers) != 6 {
		t.Errorf("offers %v", b.m.prompt.offers)
	}
	b.press("esc")
	for line, want := range map[string]string{
		"nonsense":              "no command nonsense",
		"start nowhere":         "no VM nowhere",
		"plan lose hv-77":       "no server hv-77",
		"theme pink":            "no theme \"pink\"",
		"set web-01 priority":   "write KEY=VALUE",
		"ha on":                 "HA of the pool is on already",
		"set pool tolerate=1":   "Set tolerate=1",
		"holdfast vms":          "[3 VMs",
		"vm show db-main":       "VM db-main",
		"migrate web-01 hv-04":  "Migrate web-01",
		"plan lose hv-01":       "WHAT IF hv-01",
		"maintenance exit hv-1": "no server hv-1",
	} {
		b := troubled(t)
		b.line(line)
		b.sees(want)
	}
}

func TestHelpNamesEveryKeyOfTheMap(t *testing.T) {
	b := newBench(t, fakepool.Troubled(), 200, 60)
	b.press("?")
	text := plainText(b.m.top().(*pager).make(b.m)) //nolint:errcheck,forcetypeassert // it was just opened
	for _, c := range keyMap {
		if !strings.Contains(text, c.Help().Key) || !strings.Contains(text, c.Help().Desc) {
			t.Errorf("help does not name %s: %s", c.Help().Key, c.Help().Desc)
		}
	}
}

func TestStaleValuesAreMarkedAndFreshnessIsAlwaysShown(t *testing.T) {
	b := troubled(t)
	b.press("3")
	b.sees("* live 0.0s")
	b.pass(3*time.Second, false)
	b.sees("~ delayed 3s")
	b.seesNot("running?")
	b.pass(3*time.Second, false)
	b.sees("! STALE 6s", "STALE since 13:05:20", "running?", "N+1 unknown")
	b.press("m")
	b.sees("REFUSED", "what is shown is not the present")
}

func TestTheNextTryIsAnnouncedAndCanBeHurried(t *testing.T) {
	b := troubled(t)
	b.link.Open, b.link.Try, b.link.NextTry = false, 2, b.now.Add(5*time.Second)
	b.pass(time.Second, false)
	b.sees("reconnecting, try 3, next in 4s (r now)")
	b.press("r")
	if len(b.others) != 1 || b.others[0] != (Reconnect{}) {
		t.Errorf("effects %v", b.others)
	}
}

func TestComingBackSaysWhatWasMissed(t *testing.T) {
	b := troubled(t)
	before := b.m.view
	snap := fakepool.Troubled()
	snap.Vms[4].Claim.Server = "hv-05"
	b.merger.Fold(&pb.WatchPoolResponse{Revision: 9000, Change: &pb.WatchPoolResponse_Snapshot{Snapshot: snap}})
	b.news(feed.Update{View: b.merger.View(), Link: b.link, Back: &feed.Return{Before: before, After: b.merger.View(), Gone: 41 * time.Second}})
	b.sees("back after 41s: 1 VM moved")
}

func TestALeaderChangeIsShownForTenSeconds(t *testing.T) {
	b := troubled(t)
	p := fakepool.Troubled().GetPool()
	p.Leader = ""
	b.delta(&pb.Delta{Pool: p})
	q := fakepool.Troubled().GetPool()
	q.Leader = "hv-01"
	b.delta(&pb.Delta{Pool: q})
	for _, size := range sizes { // the narrow header makes room for it
		b.reduce(Size{size[0], size[1]})
		b.sees("leader hv-03 -> hv-01", "N+1 AT RISK", "HA ON")
	}
	b.pass(11*time.Second, true)
	b.sees("leader hv-01")
	b.seesNot("hv-03 -> hv-01")
}

func TestAFailoverOpensABannerThatCanBeSentAway(t *testing.T) {
	b := troubled(t)
	b.sees("FAILOVER hv-06", "9/14")
	b.press("esc")
	b.seesNot("FAILOVER hv-06")
	b.press("4")
	b.sees("failover hv-06")
}

func TestAnAlarmAndWhatToDoAboutItAreReadWholeAtEverySize(t *testing.T) {
	for _, size := range sizes {
		b := newBench(t, fakepool.Troubled(), size[0], size[1])
		text := strings.Join(strings.Fields(b.screen()), " ")
		for _, want := range []string{"WAITING FOR FENCING: hv-06 is lost and may still run 1 VM: its lease expired; fencing by guard, 2 s to go (Enter on it: what to do)", "FAILOVER hv-06 [######----] 9/14 running 0:08 - restarting VMs ("} {
			if !strings.Contains(text, want) {
				t.Errorf("%v: not shown: %s\n%s", size, want, b.screen())
			}
		}
		b.delta(unproven())
		b.line("server show hv-06")
		text = strings.Join(strings.Fields(strings.ReplaceAll(b.screen(), "|", " ")), " ")
		for _, want := range []string{
			"WAITING FOR FENCING: hv-06 is lost and may still run 1 VM: tried, and no proof: power, watchdog, guard (Enter on it: what to do)",
			"could run it twice, which corrupts its disks.", "you can bring it back; or make sure that it is off and say so: A, confirm-fenced",
			"power power fencing failed: fence_ipmilan: exit status 1", "watchdog no watchdog was armed", "guard its guard did not hold web-07 when the session ended",
		} {
			if !strings.Contains(text, want) {
				t.Errorf("%v: not shown: %s\n%s", size, want, b.screen())
			}
		}
	}
}

// TestWhatTheAlertOfAServerTellsIsNotToldForEachOfItsVMs: with many VMs the list of problems would be one text many times.
func TestWhatTheAlertOfAServerTellsIsNotToldForEachOfItsVMs(t *testing.T) {
	b := newBench(t, fakepool.Troubled(), 120, 40)
	d := unproven()
	v := fakepool.Troubled().GetVms()[4]
	v.Vm.Id, v.Claim.Server, v.Status = "web-07", "hv-06", pb.VMStatus_VM_STATUS_WAITING
	v.Reason = d.GetPool().GetAlerts()[2].GetText() + "; besides, no server could take it"
	d.Vms = append(d.Vms, v)
	b.delta(d)
	b.press("3", "/")
	b.write("web-07")
	b.press("enter", "z")
	b.sees("fencing hv-06 first; besides, no server")
}

func TestHAOffIsLoudOnEveryScreen(t *testing.T) {
	b := troubled(t)
	p := fakepool.Troubled().GetPool()
	p.Config.Ha, p.Config.HaMark.Why = false, "SAN work"
	b.delta(&pb.Delta{Pool: p})
	for _, s := range screens {
		b.press(fmt.Sprint(int(s)))
		b.sees("HA OFF by kim, 2d ago: SAN work", "hv-06 lost - HA IS OFF - nothing will be restarted", "N+1 n/a")
	}
}

func TestHAFrozenIsLoudOnEveryScreen(t *testing.T) {
	b := troubled(t)
	p := fakepool.Troubled().GetPool()
	p.Config.Frozen, p.Config.FrozenMark = true, &pb.Mark{By: "kim", At: timestamppb.New(b.now.Add(-time.Hour)), Why: "switch firmware"}
	b.delta(&pb.Delta{Pool: p})
	for _, s := range screens {
		b.press(fmt.Sprint(int(s)))
		b.sees("HA FROZEN", "by kim", "switch firmware", "nothing is fenced, moved or restarted")
	}
}

func TestSinceYouLookedIsToldAfterAnAbsence(t *testing.T) {
	b := troubled(t)
	b.press("3")
	b.pass(6*time.Minute, true)
	v := fakepool.Troubled().GetVms()[4]
	v.Claim.Server = "hv-05"
	b.delta(&pb.Delta{Vms: []*pb.VMView{v}, Events: []*pb.Event{{Id: "e9999", At: timestamppb.New(b.now), Text: "moved"}}})
	b.press("j")
	b.sees("since you looked, 6m ago: 1 VM moved, 1 event")
}

func TestTheDisplayCanBeFrozenAndSaysSo(t *testing.T) {
	b := troubled(t)
	b.press("3", "f")
	b.delta(&pb.Delta{VmsRemoved: []string{"db-main"}})
	b.sees("display frozen", "db-main")
	b.press("f")
	b.seesNot("display frozen", "db-main ")
}

func TestAnotherPoolCanBeChosen(t *testing.T) {
	b := troubled(t)
	b.press("p", "j", "enter")
	if len(b.others) != 1 || b.others[0] != (Open{"prod-b"}) {
		t.Fatalf("effects %v", b.others)
	}
	b.reduce(Opened{Pool: Pool{Name: "prod-b"}})
	b.sees("Connecting to prod-b")
	b.reduce(News{Session: 1, At: b.now, Update: feed.Update{View: b.merger.View(), Link: b.link}})
	b.sees("Connecting to prod-b") // news of the old pool are not shown as the new one's
}

func TestOutsideTextCannotDisturbTheScreen(t *testing.T) {
	evil := "a\x1b[2Jb\u202ec\u200d\U0001F468\u0301d\x00\u009b5m\xff"
	b := troubled(t)
	b.delta(&pb.Delta{Vms: []*pb.VMView{{Vm: &pb.VM{Id: evil}, Status: isRunning, Reason: evil}}, Events: []*pb.Event{{Id: "e9", Text: evil}}})
	for _, s := range screens {
		b.press(fmt.Sprint(int(s)))
		for _, c := range b.m.View() {
			if c != '\n' && harmful(c) {
				t.Fatalf("screen %d lets %q through", s, c)
			}
		}
	}
}

func TestNamesOfWideCharactersKeepTheColumns(t *testing.T) {
	b := troubled(t)
	b.m.setLook(Look{})
	b.delta(&pb.Delta{Vms: []*pb.VMView{{Vm: &pb.VM{Id: "\u6570\u636e\u5e93-01"}, Status: isRunning, Claim: &pb.Claim{Server: "hv-01"}}}})
	b.press("3", "G", "k", "g", "G")
	b.sees("\u6570\u636e\u5e93-01")
	for _, line := range strings.Split(b.screen(), "\n") {
		if cells(line) > 119 {
			t.Errorf("%d cells: %s", cells(line), line)
		}
	}
}

func TestPlainSaysEachChangeOnceAndAsksWithNumbers(t *testing.T) {
	b := troubled(t)
	p := NewPlain(b.m)
	p.Take(Tick{Session: 1, At: b.now, Link: b.link})
	first := p.Lines()
	if len(first) < 2 || !strings.Contains(first[0], "live, HA ON") {
		t.Errorf("first lines %q", first)
	}
	p.Take(Tick{Session: 1, At: b.now.Add(time.Second), Link: b.link})
	if again := p.Lines(); len(again) != 0 {
		t.Errorf("said again: %q", again)
	}
	p.Take(Typed("stop web-01"))
	if got := strings.Join(p.Lines(), "\n"); !strings.Contains(got, "-- Stop web-01 in prod-a (PROD)") || !strings.HasSuffix(got, "reason:") {
		t.Errorf("dialog:\n%s", got)
	}
	p.Take(Typed("maintenance"))
	if got := p.Lines(); got[len(got)-1] != "1 leave, 2 Stop" {
		t.Errorf("choices %q", got)
	}
	p.Take(Typed("2"))
	b.take()
	if r, ok := b.one().Request.(*pb.StopVMRequest); !ok || r.GetWhy() != "maintenance" {
		t.Errorf("sent %v", b.sent)
	}
}

func TestIncidentsAreAskedForWhileTheyAreShownAndFollowThePool(t *testing.T) {
	b := newBench(t, fakepool.Healthy(), 120, 40)
	asked := 0
	list := b.replies["ListIncidents"]
	b.replies["ListIncidents"] = func(r proto.Message) (proto.Message, error) { asked++; return list(r) }
	b.delta(&pb.Delta{Vms: []*pb.VMView{{Vm: &pb.VM{Id: "aaa"}}}})
	b.pass(5*time.Second, true)
	if asked != 0 {
		t.Errorf("asked %d times although nobody looks", asked)
	}
	b.press("6")
	b.sees("[6 Incidents]", "hv-06 was lost with 2 VMs", "open", "7.0 s", "guard")
	b.pass(5*time.Second, true)
	if asked != 1 {
		t.Errorf("asked %d times for a pool that does not change", asked)
	}
	b.delta(&pb.Delta{Vms: []*pb.VMView{{Vm: &pb.VM{Id: "aab"}}}})
	b.pass(2*time.Second, true)
	if asked != 2 {
		t.Errorf("asked %d times, want again after a change", asked)
	}
	b.press("enter")
	b.sees("INCIDENT 20261122T130512-hv-06", "TIME LINE", "web-08 runs on hv-05 again, after 7.0 s", "1 of 2; away: median 7.0 s, worst 7.0 s; 1 not yet", "waited: no free GPU anywhere")
	b.press("esc", "/")
	b.write("server:hv-02")
	b.press("enter")
	b.sees("no incidents match the filter")
	b.press("esc", "Y")
	b.line("incident show last")
	b.sees("INCIDENT 20261122T130512-hv-06")
	b.press("esc", "1")
	b.delta(&pb.Delta{Servers: []*pb.ServerView{fakepool.Troubled().GetServers()[5]}})
	before := asked
	b.delta(&pb.Delta{Vms: []*pb.VMView{{Vm: &pb.VM{Id: "aac"}}}})
	b.pass(2*time.Second, true)
	if asked != before+1 {
		t.Errorf("asked %d times while a server is lost, want 1", asked-before)
	}
	if want := "holdfast incident show 20261122T130512-hv-06"; len(b.copied) != 1 || b.copied[0] != want {
		t.Errorf("copied %q, want %q", b.copied, want)
	}
}

// TestTheBannerOfAFailoverDoesNotWaitForAnotherChangeOfThePool: the record of a restart comes after the restart, when the
// pool is at rest.
func TestTheBannerOfAFailoverDoesNotWaitForAnotherChangeOfThePool(t *testing.T) {
	b := newBench(t, fakepool.Troubled(), 120, 40)
	record := fakepool.Incident()
	row := record.GetVms()[0]
	told := proto.Clone(row)
	row.Recovery, row.Started, row.Downtime = pb.Recovery_RECOVERY_UNSPECIFIED, nil, nil
	asked := 0
	b.replies["ListIncidents"] = func(proto.Message) (proto.Message, error) {
		asked++
		return &pb.ListIncidentsResponse{Incidents: []*pb.Incident{record}}, nil
	}
	d := fencedNow()
	v := fakepool.Troubled().GetVms()[7]
	v.Status, v.Claim.Epoch = pb.VMStatus_VM_STATUS_RUNNING, row.GetEpoch()+1
	d.Vms = append(d.Vms, v)
	b.delta(d)
	b.pass(2*time.Second, true)
	b.sees("0 of 2 restarted")
	record = fakepool.Incident()
	record.GetVms()[0], _ = told.(*pb.IncidentVM)
	b.pass(2*time.Second, true)
	b.sees("1 of 2 restarted")
	before := asked
	b.pass(5*time.Second, true)
	if asked != before {
		t.Errorf("asked %d times more although the record tells what the pool shows", asked-before)
	}
}

func TestDetailsOfAVMTellItsDefinitionDisksPlacesAndHistory(t *testing.T) {
	b := newBench(t, fakepool.Troubled(), 120, 40)
	b.line("vm show web-02")
	text := plainText(b.m.top().(*pager).make(b.m)) //nolint:errcheck,forcetypeassert // it was just opened
	b.press("esc")
	b.line("vm show web-01")                        // one that runs
	text += plainText(b.m.top().(*pager).make(b.m)) //nolint:errcheck,forcetypeassert // it was just opened
	for _, want := range []string{"vda on virtio, /pool/web-01.qcow2", "br0, 52:54:00:12:34:56", "WHERE IT COULD GO", "no: CPU lacks avx512f", "HISTORY",
		"operator kim asked to stop web-02", "DEFINITION", "\n  <name>web-01</name>\n  <devices>\n    <disk type='file' device='disk'>\n      <source"} {
		if !strings.Contains(text, want) {
			t.Errorf("details do not tell %q:\n%s", want, text)
		}
	}
}

func TestClosingSaysWhichOperationsGoOn(t *testing.T) {
	if got, want := troubled(t).m.Farewell(), "2 operations go on in prod-a, which closing the console does not stop: holdfast operations"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := newBench(t, fakepool.Healthy(), 80, 24).m.Farewell(); got != "" {
		t.Errorf("%q in a pool at rest", got)
	}
}

func TestPlainReadsAPlanOutWhenItHasCome(t *testing.T) {
	b := troubled(t)
	b.held = true
	p := NewPlain(b.m)
	heard := func(want ...string) {
		t.Helper()
		got := strings.Join(p.Lines(), "\n")
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("not said: %q; said:\n%s", w, got)
			}
		}
	}
	plan := func(option bool) {
		t.Helper()
		r := cannedPlan()
		if option {
			r.Moves[2].How = pb.LeaveBy_LEAVE_BY_RESTART
		}
		p.Take(Answer{Session: 1, At: b.now, Topic: "plan maintenance enter [hv-02]", Message: r})
	}
	p.Take(Typed("maintenance enter hv-02"))
	heard("asking the pool's planner")
	p.Take(Typed("2"))
	heard("the answer is on its way")
	plan(false)
	heard("-- Maintenance of hv-02", "gpu-1", "stop VMs that cannot move live, and start them elsewhere? 1 no, 2 yes:")
	p.Take(Typed("2"))
	heard("asking the pool's planner")
	plan(true)
	heard("1 restarts elsewhere", "reason:")
	p.Take(Typed("power supply"))
	heard("type hv-02 to enable it:")
	p.Take(Typed("hv-02"))
	heard("1 leave, 2 Maintenance")
	p.Take(Typed("2"))
	b.take()
	if r, ok := b.one().Request.(*pb.EnterMaintenanceRequest); !ok || !r.GetRestartUnmovable() || r.GetWhy() != "power supply" {
		t.Errorf("sent %v", b.sent)
	}
}

func TestAZoomedListHasTheWholeWidth(t *testing.T) {
	b := troubled(t)
	b.press("2")
	b.sees("hv-01.example.net:7400") // details beside the list
	b.press("z")
	b.seesNot("hv-01.example.net:7400")
	b.sees("NOTE", "LOCK by kim")
	b.press("z")
	b.sees("hv-01.example.net:7400")
}

func TestSortingRunsAtMostOnceASecond(t *testing.T) {
	b := troubled(t)
	b.press("2", "s", "s", "s") // by the number of VMs
	b.pass(5*time.Second, true)
	change := func(server int, vms int32, after time.Duration) []string {
		b.now = b.now.Add(after)
		s := fakepool.Troubled().GetServers()[server]
		s.Vms = vms
		b.delta(&pb.Delta{Servers: []*pb.ServerView{s}})
		return slices.Clone(b.m.list().ids)
	}
	first := change(0, 98, time.Second)
	if got := change(1, 99, 200*time.Millisecond); !slices.Equal(got, first) {
		t.Errorf("sorted again after a fifth of a second: %v, before %v", got, first)
	}
	if got := change(2, 1, time.Second); got[len(got)-1] != "hv-02" {
		t.Errorf("not sorted again after more than a second: %v", got)
	}
}

func TestCopyingTakesTheNameOrTheCommand(t *testing.T) {
	b := troubled(t)
	b.press("3", "j", "y", "Y")
	if len(b.copied) != 2 || b.copied[0] != "db-main" || !strings.HasPrefix(b.copied[1], "holdfast ") || !strings.Contains(b.copied[1], "db-main") {
		t.Errorf("copied %q", b.copied)
	}
}

// TestBeforeTheRecordHasComeVMsCountAsAwayFromTheLastSignOfTheirServer: not from the end of its lease, which is later.
func TestBeforeTheRecordHasComeVMsCountAsAwayFromTheLastSignOfTheirServer(t *testing.T) {
	b := newBench(t, fakepool.Troubled(), 120, 40)
	b.replies["ListIncidents"] = func(proto.Message) (proto.Message, error) { return &pb.ListIncidentsResponse{}, nil }
	d := fencedNow()
	v := fakepool.Troubled().GetVms()[7]
	v.Status, v.Since = pb.VMStatus_VM_STATUS_RUNNING, timestamppb.New(fakepool.Now.Add(-8*time.Second))
	d.Vms = append(d.Vms, v)
	b.delta(d)
	b.line("server show hv-06")
	b.sees("lost         13:05:10.0, last sign of it 13:05:05.0", "worst 7.0 s")
}
