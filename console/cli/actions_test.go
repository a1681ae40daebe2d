package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/holdfast-ha/holdfast/console/cli/fakepool"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// changing lists a command for each call of the API that changes something.
var changing = map[string][]string{
	"UpdatePool":     {"set pool tolerate=1 --why audit", "pool set tolerate=1"},
	"SetPoolHA":      {"ha off --why test", "ha on"},
	"SetFreeze":      {"freeze --why switch", "unfreeze"},
	"SetInboundLock": {"inbound-lock on hv-02 --why SAN", "inbound-lock off hv-02"},
	"ConfirmFenced":  {"confirm-fenced hv-03 --yes-i-am-sure hv-03 --why unplugged"},
	"UpdateServer":   {"server label hv-02 rack=7", "server fence hv-02 none"},
	"RemoveServer":   {"remove-server hv-03 --why sold", "server remove hv-03 --evacuate"},

	"EnterMaintenance":  {"maintenance enter hv-02 --why disks", "maintenance enter hv-02 --plan 7 --restart"},
	"ExitMaintenance":   {"maintenance exit hv-02 --why mended"},
	"ShutdownServer":    {"server shutdown hv-02 --evacuate --why sold", "server reboot hv-02", "reboot hv-02 --evacuate", "shutdown hv-02"},
	"RegisterVM":        {"vm register new-vm --server hv-02 --set priority=high --request-id r"},
	"UpdateVM":          {"set web-01 priority=high restarts=2", "vm set web-01 prefer=hv-01,hv-02"},
	"RemoveVM":          {"remove old", "vm remove old"},
	"SetVMHA":           {"ha on old --why prod", "ha off web-01 web-02"},
	"StartVM":           {"start old", "vm start old --why needed"},
	"StopVM":            {"stop web-01", "vm stop web-01 --request-id x"},
	"KillVM":            {"kill web-01", "vm kill web-01"},
	"RestartVM":         {"restart web-01", "vm restart web-01"},
	"ClearVM":           {"clear web-01 --why fixed", "vm clear web-01"},
	"MigrateVM":         {"migrate web-01 hv-02 --why heat", "vm migrate web-01", "migrate web-01 --plan 4711"},
	"RelocateVM":        {"relocate web-01 hv-02", "vm relocate web-01 hv-02 --request-id r"},
	"CreateLogin":       {"identity invite anna --role viewer --ttl 2h --request-id r"},
	"RevokeCertificate": {"identity revoke anna --why lost", "identity revoke --serial 4f", "identity revoke --server wit-1"},
	"CancelOperation":   {"operation cancel op-none --why mistake"},
}

func TestEveryCallThatChangesSomethingHasACommand(t *testing.T) {
	known := map[string]bool{}
	for _, file := range []protoreflect.FileDescriptor{
		pb.File_holdfast_v1_pool_service_proto, pb.File_holdfast_v1_server_service_proto, pb.File_holdfast_v1_vm_service_proto,
		pb.File_holdfast_v1_operation_service_proto, pb.File_holdfast_v1_event_service_proto, pb.File_holdfast_v1_identity_service_proto,
	} {
		methods := file.Services().Get(0).Methods()
		for i := range methods.Len() {
			name := string(methods.Get(i).Name())
			if rpc.IsRead("/"+name) || name == "RenewCertificate" { // login --renew: package contexts calls it
				continue
			}
			known[name] = true
			if len(changing[name]) == 0 {
				t.Errorf("no command for %s", name)
			}
		}
	}
	for name, lines := range changing {
		if !known[name] {
			t.Errorf("the API has no %s", name)
		}
		for _, line := range lines {
			t.Run(line, func(t *testing.T) {
				b := newBench(t, fakepool.Healthy(), 1)
				b.must(ExitOK, strings.Fields(line)...)
				if n := len(b.pool.Calls(name)); n != 1 {
					t.Errorf("%d calls of %s, want 1", n, name)
				}
			})
		}
	}
}

func TestWhyIsRecordedWhereTheAPIRecordsIt(t *testing.T) {
	for name, lines := range changing {
		if name == "UpdateVM" || name == "RemoveVM" || name == "UpdateServer" || name == "RegisterVM" {
			continue // the API has no place for it there
		}
		line := lines[0]
		if !strings.Contains(line, "--why") {
			line += " --why because"
		}
		b := newBench(t, fakepool.Healthy(), 1)
		b.must(ExitOK, strings.Fields(line)...)
		for _, call := range b.pool.Calls(name) {
			field := call.Body.ProtoReflect().Descriptor().Fields().ByName("why")
			if field == nil || call.Body.ProtoReflect().Get(field).String() == "" {
				t.Errorf("%s: no reason in the request %v", line, call.Body)
			}
		}
	}
}

func TestTheShortAndTheLongFormSendTheSame(t *testing.T) {
	for _, pair := range [][2]string{
		{"start old --request-id r", "vm start old --request-id r"}, {"set web-01 priority=low", "vm set web-01 priority=low"},
		{"set pool tolerate=1", "pool set tolerate=1"}, {"remove old", "vm remove old"},
	} {
		var bodies [2]string
		for i, line := range pair {
			b := newBench(t, fakepool.Healthy(), 1)
			b.must(ExitOK, strings.Fields(line)...)
			for _, c := range b.pool.Calls("") {
				if !rpc.IsRead(c.Method) {
					bodies[i] += c.Method + " " + fmt.Sprint(c.Body)
				}
			}
		}
		if bodies[0] != bodies[1] {
			t.Errorf("%q sends %s, %q sends %s", pair[0], bodies[0], pair[1], bodies[1])
		}
	}
}

func TestACommandWaitsForItsOperationAndTellsHowItEnded(t *testing.T) {
	b := newBench(t, fakepool.Healthy(), 1)
	r := b.must(ExitOK, "restart", "web-01")
	contains(t, "stdout", r.out, "web-01: restarted, runs on hv-01")
	contains(t, "progress", r.err, "web-01: restarting, under way")
}

func TestAFailedOperationIsExit5WithItsReason(t *testing.T) {
	b := newBench(t, fakepool.Healthy(), 1)
	b.pool.Script("old", &pb.Operation{Phase: "failed", Outcome: pb.OperationOutcome_OPERATION_OUTCOME_FAILED, Error: "QEMU ended with status 1"})
	r := b.must(ExitFailed, "start", "old")
	contains(t, "stderr", r.err, "old: starting failed: QEMU ended with status 1")
}

func TestWaitingEndsWithItsTimeoutAndTheOperationGoesOn(t *testing.T) {
	b := newBench(t, fakepool.Healthy(), 1)
	b.pool.Script("old", &pb.Operation{Phase: "waiting", Outcome: pb.OperationOutcome_OPERATION_OUTCOME_RUNNING, Error: "no server has 32 GiB free"})
	r := b.must(ExitStillRunning, "start", "old", "--timeout", "300ms")
	contains(t, "stderr", r.err, "old: still starting", "no server has 32 GiB free", "holdfast operation wait op-new-1")
}

func TestAnInterruptedWaitSaysThatTheOperationGoesOn(t *testing.T) {
	b := newBench(t, fakepool.Healthy(), 1)
	b.pool.Script("old", &pb.Operation{Phase: "waiting", Outcome: pb.OperationOutcome_OPERATION_OUTCOME_RUNNING})
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	r := b.runCtx(ctx, "start", "old")
	if r.code != ExitStillRunning {
		t.Errorf("exit %d, want %d: %s", r.code, ExitStillRunning, r.err)
	}
	contains(t, "stderr", r.err, "it goes on")
}

func TestNoWaitPrintsOnlyTheOperationsID(t *testing.T) {
	b := newBench(t, fakepool.Healthy(), 1)
	r := b.must(ExitOK, "stop", "web-01", "web-02", "--no-wait")
	if r.out != "op-new-1\nop-new-2\n" {
		t.Errorf("stdout = %q", r.out)
	}
	if r := b.must(ExitOK, "operation", "wait", "op-new-1", "op-new-2"); !strings.Contains(r.out, "web-02: done") {
		t.Errorf("waiting later: %q", r.out)
	}
}

func TestOneRefusalDoesNotKeepTheOthersFromStarting(t *testing.T) {
	b := newBench(t, fakepool.Healthy(), 1)
	b.pool.Fail("StartVM", fakepool.Fault{Err: pool.Refuse("VM_FAILED", "find out why, then: holdfast clear old", "old has failed: it crashed 4 times")})
	r := b.must(ExitRefused, "start", "old", "web-01")
	contains(t, "stderr", r.err, "holdfast: old: refused: old has failed: it crashed 4 times\n  way out: find out why, then: holdfast clear old\n")
	contains(t, "stdout", r.out, "web-01: started")
}

func TestErrorsOfTheAPIHaveTheirExitCodes(t *testing.T) {
	tests := []struct {
		err  error
		code int
		want string
	}{
		{pool.Refuse("X", "do this", "because"), ExitRefused, "refused: because\n  way out: do this"},
		{errors.Join(errors.New("no vm x"), pool.ErrNotFound), ExitRefused, "no vm x"},
		{errors.Join(errors.New("priority=huge"), pool.ErrInvalid), ExitUsage, "priority=huge"},
		{pool.ErrStale, ExitRefused, "ask again"},
		{pool.ErrUnavailable, ExitUnreachable, "no agent can do this now"},
		{pool.ErrOutcomeUnknown, ExitUnknown, "outcome unknown"},
		{errors.New("surprise"), ExitRefused, "surprise"},
	}
	for _, tt := range tests {
		b := newBench(t, fakepool.Healthy(), 1)
		b.pool.Fail("SetFreeze", fakepool.Fault{Err: tt.err})
		r := b.must(tt.code, "freeze")
		contains(t, "stderr", r.err, tt.want)
	}
}

func TestARequestWhoseAnswerWasLostIsFoundAgainAndNotRepeated(t *testing.T) {
	b := newBench(t, fakepool.Healthy(), 2)
	b.pool.Fail("StartVM", fakepool.Fault{Die: true, Done: true})
	r := b.must(ExitOK, "start", "old")
	contains(t, "stderr", r.err, "not known whether this was done", "looking for it")
	contains(t, "stdout", r.out, "old: started")
	if n := len(b.pool.Calls("StartVM")); n != 1 {
		t.Errorf("sent %d times, want once", n)
	}
}

func TestAChangeWhoseAnswerWasLostIsExit4(t *testing.T) {
	b := newBench(t, fakepool.Healthy(), 2)
	b.pool.Fail("SetFreeze", fakepool.Fault{Die: true})
	r := b.must(ExitUnknown, "freeze")
	contains(t, "stderr", r.err, "not known whether this was done")
	if n := len(b.pool.Calls("SetFreeze")); n != 1 {
		t.Errorf("sent %d times, want once", n)
	}
}

func TestARequestThatLeftNoTraceIsExit4WithTheWayToRepeatIt(t *testing.T) {
	b := newBench(t, fakepool.Healthy(), 2)
	b.pool.Fail("StartVM", fakepool.Fault{Die: true})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	r := b.runCtx(ctx, "start", "old", "--request-id", "my-1")
	if r.code != ExitUnknown {
		t.Errorf("exit %d, want %d", r.code, ExitUnknown)
	}
	contains(t, "stderr", r.err, "--request-id my-1 is safe")
}

func TestARequestIDOfAnotherRequestIsRefused(t *testing.T) {
	b := newBench(t, fakepool.Healthy(), 1)
	b.must(ExitOK, "stop", "web-01", "--request-id", "r")
	r := b.must(ExitUsage, "stop", "web-02", "--request-id", "r")
	contains(t, "stderr", r.err, "request r was stop of web-01")
}

func TestReadsGoToAnotherAgentWhenOneDies(t *testing.T) {
	b := newBench(t, fakepool.Healthy(), 3)
	if err := b.pool.Kill(0); err != nil {
		t.Fatal(err)
	}
	b.pool.Fail("ListServers", fakepool.Fault{Err: pool.ErrUnavailable})
	contains(t, "stdout", b.must(ExitOK, "servers").out, "hv-01")
}

func TestWhenNothingAnswersItIsSaidWhatWasTried(t *testing.T) {
	b := newBench(t, fakepool.Healthy(), 2)
	b.pool.Close()
	for _, args := range []string{"status", "vms", "freeze", "start old", "vms --watch"} {
		r := b.must(ExitUnreachable, strings.Fields(args)...)
		contains(t, "stderr", r.err, append(b.pool.Addresses(), "connection refused", "asked: addresses from the environment")...)
	}
}

func TestConfirmFencedWantsTheServersName(t *testing.T) {
	tests := []struct {
		name, args, stdin string
		terminal          bool
		code              int
		err               string
	}{
		{"typed", "confirm-fenced hv-06", "hv-06\n", true, ExitOK, "CORRUPTS THEIR DISKS"},
		{"typed wrongly", "confirm-fenced hv-06", "hv-05\n", true, ExitUsage, "nothing was done"},
		{"just Enter", "confirm-fenced hv-06", "\n", true, ExitUsage, "nothing was done"},
		{"end of input", "confirm-fenced hv-06", "", true, ExitUsage, "nothing was done"},
		{"a script", "confirm-fenced hv-06 --yes-i-am-sure hv-06", "", false, ExitOK, ""},
		{"a script with another name", "confirm-fenced hv-06 --yes-i-am-sure hv-05", "", false, ExitUsage, "nothing was done"},
		{"nobody to ask", "confirm-fenced hv-06", "hv-06\n", false, ExitUsage, "--yes-i-am-sure hv-06"},
		{"no such server", "confirm-fenced hv-99", "hv-99\n", true, ExitRefused, "no server hv-99"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, fakepool.Troubled(), 1)
			b.stdin, b.answers = tt.stdin, tt.terminal
			r := b.must(tt.code, strings.Fields(tt.args)...)
			contains(t, "stderr", r.err, tt.err)
			if sent := len(b.pool.Calls("ConfirmFenced")) > 0; sent != (tt.code == ExitOK) {
				t.Errorf("sent: %v", sent)
			}
		})
	}
	b := newBench(t, fakepool.Troubled(), 1)
	b.stdin, b.answers = "hv-06\n", true
	contains(t, "the question", b.must(ExitOK, "confirm-fenced", "hv-06").err, "it is lost: its lease expired", "its VMs (1): lab-2")
}

func TestAReadOnlyContextSendsNoChange(t *testing.T) {
	b := newBench(t, fakepool.Healthy(), 1)
	dir := filepath.Join(b.env["HOME"], ".config", "holdfast")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	file := "contexts:\n  - name: look\n    agents: [\"" + b.pool.Addresses()[0] + "\"]\n    read_only: true\n"
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	delete(b.env, "HOLDFAST_AGENTS")
	for name, lines := range changing {
		r := b.must(ExitRefused, strings.Fields(lines[0])...)
		contains(t, "stderr", r.err, "read-only", "nothing was sent")
		if n := len(b.pool.Calls(name)); n != 0 {
			t.Errorf("%s was sent", name)
		}
	}
	b.must(ExitOK, "vms")
}

func TestRegisterTakesAFileStandardInputOrAName(t *testing.T) {
	b := newBench(t, fakepool.Healthy(), 1)
	path := filepath.Join(t.TempDir(), "shop.xml")
	if err := os.WriteFile(path, []byte("<domain><name>shop</name></domain>"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := b.must(ExitOK, "vm", "register", path, "--set", "priority=high")
	contains(t, "stdout", r.out, "note: autostart was switched off", "shop: registered, 2 CPUs, 4G memory")
	b.stdin = "<domain><name>piped</name></domain>"
	contains(t, "stdout", b.must(ExitOK, "vm", "register", "-").out, "piped: registered")
	contains(t, "stdout", b.must(ExitOK, "vm", "register", "adopted", "--server", "hv-01").out, "adopted: registered")
	for _, bad := range []string{"vm register ./nothing.xml", "vm register " + path + " --server hv-01", "vm register x --set priority", "vm register x --set priority=huge"} {
		b.must(ExitUsage, strings.Fields(bad)...)
	}
}

func TestFenceDevicesComeFromAFile(t *testing.T) {
	b := newBench(t, fakepool.Healthy(), 1)
	path := filepath.Join(t.TempDir(), "fence.yaml")
	write := func(s string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("- agent: fence_ipmilan\n  params: {ip: 10.0.9.1}\n  secretFiles: {password: /etc/holdfast/p}\n  timeout: 20s\n")
	contains(t, "stdout", b.must(ExitOK, "server", "fence", "hv-01", path).out, "1 power device")
	for _, bad := range []string{"- agnet: x\n", "[]\n", "agent: x\n", "- params: {ip: a}\n"} {
		write(bad)
		b.must(ExitUsage, "server", "fence", "hv-01", path)
	}
}

func TestWordsThatMakeNoSenseAreExit2AndSendNothing(t *testing.T) {
	for _, line := range []string{
		"frobnicate", "vm frobnicate", "vm stort old", "statsu", "start", "ha", "ha maybe", "ha maybe web-01", "inbound-lock on", "inbound-lock perhaps hv-01",
		"set web-01", "set web-01 priority", "set web-01 =x", "set web-01 priority=low priority=high", "set web-01 colour=red", "set web-01 priority=low --why x",
		"set pool colour=red", "vms --state happy", "vms -o xml", "events --limit -1", "events --limit many", "status extra", "freeze now", "start old --timeout soon",
		"--context nowhere status", "--agents 10.0.0.1:7400 status", "--agents nonsense status", "--config /nowhere/x.yaml status",
	} {
		b := newBench(t, fakepool.Healthy(), 1)
		r := b.run(strings.Fields(line)...)
		if r.code != ExitUsage {
			t.Errorf("holdfast %s: exit %d, want %d: %s%s", line, r.code, ExitUsage, r.out, r.err)
		}
		if r.err == "" {
			t.Errorf("holdfast %s: not a word about it", line)
		}
		for _, c := range b.pool.Calls("") {
			if !rpc.IsRead(c.Method) && c.Method != "UpdateVM" && c.Method != "UpdatePool" {
				t.Errorf("holdfast %s sent %s", line, c.Method)
			}
		}
	}
}

func TestSimilarCommandsAreSuggested(t *testing.T) {
	b := newBench(t, fakepool.Healthy(), 1)
	contains(t, "stderr", b.must(ExitUsage, "statsu").err, "did you mean status?")
	contains(t, "stderr", b.must(ExitUsage, "vm", "stort", "old").err, "did you mean start")
}

func TestHelpDocumentsExitCodesAndContexts(t *testing.T) {
	b := newBench(t, fakepool.Healthy(), 1)
	contains(t, "help exit-codes", b.must(ExitOK, "help", "exit-codes").out, "0  done", "6  the operation still runs")
	contains(t, "help contexts", b.must(ExitOK, "help", "contexts").out, "HOLDFAST_AGENTS", "read_only")
}
