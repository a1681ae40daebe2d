package guard_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/test/stopwatch"
)

func TestTwentyProcessesDieTogether(t *testing.T) {
	stopwatch.Within(t, 900*time.Millisecond, "to kill 20 processes", func() time.Duration { return killTwenty(t) })
}

// killTwenty has a new guard kill 20 processes, and returns how long after the stop time the last one was dead.
func killTwenty(t *testing.T) time.Duration {
	t.Helper()
	_, client := realGuard(t, t.TempDir())
	lease := shortLease(7, 3*time.Second)
	must(t, client.Extend(t.Context(), lease))
	var vms []pool.VMID
	for n := range 20 {
		vms = append(vms, pool.VMID("vm-"+strconv.Itoa(n)))
	}
	took := wantDead(t, lease, hold(t, client, 7, vms...)...)
	t.Logf("the last of 20 processes was dead %v after the stop time", took)
	eventually(t, "the guard lists the killed", func() bool {
		st, err := client.Status(t.Context())
		return err == nil && len(st.Held) == 0 && len(st.Killed) == 20
	})
	return took
}

func TestVMsLiveOnWhileTheAgentRenewsAndDieAfterIt(t *testing.T) {
	for name, end := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "stopped": syscall.SIGSTOP} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			_, client := realGuard(t, dir)
			agent := role(t, dir, "agent")
			eventually(t, "the agent renews", func() bool { return agent.renewals() > 0 })
			vms := hold(t, client, 7, "vm-1", "vm-2")
			before := agent.renewals()
			pause(t, 2*life)
			eventually(t, "the agent renews on", func() bool { return agent.renewals() > before+4 })
			for _, vm := range vms {
				if !vm.alive() {
					t.Fatal("a VM died while its session was renewed")
				}
			}
			ended := clock.Real().Now()
			agent.signal(t, end)
			for _, vm := range vms {
				died := vm.diedAt(t)
				t.Logf("dead %v after the agent was %s", died.Sub(ended), name)
			}
		})
	}
}

func TestAgentWedgedInTheMiddleOfARequestChangesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, client := realGuard(t, dir)
	lease := shortLease(7, life)
	must(t, client.Extend(t.Context(), lease))
	vms := hold(t, client, 7, "vm-1")
	for n := range 40 { // more than the guard takes connections at a time
		conn, err := net.Dial("unix", socketIn(dir))
		must(t, err)
		defer conn.Close()
		half := binary.BigEndian.AppendUint32(nil, 1000)
		if n%2 == 0 {
			half = half[:2]
		}
		_, err = conn.Write(half)
		must(t, err)
	}
	wantDead(t, lease, vms...)
	eventually(t, "the guard answers others again", func() bool {
		_, err := client.Status(t.Context())
		return err == nil
	})
}

func TestSessionsHaveTheirOwnStopTimes(t *testing.T) {
	t.Parallel()
	_, client := realGuard(t, t.TempDir())
	short, long := shortLease(7, life), shortLease(9, 4*life)
	must(t, client.Extend(t.Context(), short))
	must(t, client.Extend(t.Context(), long))
	first, second := hold(t, client, 7, "vm-1"), hold(t, client, 9, "vm-2")
	wantDead(t, short, first...)
	wantDead(t, long, second...)
}

func TestNobodyIsKilledForAVMThatWasLetGo(t *testing.T) {
	t.Parallel()
	_, client := realGuard(t, t.TempDir())
	lease := shortLease(7, life)
	must(t, client.Extend(t.Context(), lease))
	kept, free := hold(t, client, 7, "vm-1"), hold(t, client, 7, "vm-2")
	must(t, client.LetGo(t.Context(), "vm-2"))
	wantDead(t, lease, kept...)
	pause(t, 200*time.Millisecond)
	if !free[0].alive() {
		t.Error("a VM that was let go was killed")
	}
}

func TestRestartedGuardReadsBackAndKillsInTime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	g, client := realGuard(t, dir)
	lease := shortLease(7, 2*time.Second)
	must(t, client.Extend(t.Context(), lease))
	vms := hold(t, client, 7, "vm-1", "vm-2")
	g.signal(t, syscall.SIGKILL)
	g.diedAt(t)
	_, client = realGuard(t, dir)
	if st, err := client.Status(t.Context()); err != nil || len(st.Held) != 2 {
		t.Errorf("after the restart: %+v, %v", st, err)
	}
	wantDead(t, lease, vms...)
}

func TestRestartedGuardKillsWhereItCannotKnow(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, state string){
		"damaged":   func(t *testing.T, state string) { must(t, os.WriteFile(state, []byte("{}"), 0o600)) },
		"cut short": func(t *testing.T, state string) { must(t, os.Truncate(state, 100)) },
		"missing":   func(t *testing.T, state string) { must(t, os.Remove(state)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			g, client := realGuard(t, dir)
			lease := shortLease(7, time.Hour)
			must(t, client.Extend(t.Context(), lease))
			vms, stranger := hold(t, client, 7, "vm-1", "vm-2"), qemu(t)
			g.signal(t, syscall.SIGKILL)
			g.diedAt(t)
			spoil(t, filepath.Join(dir, "guard", "boots", "this-boot", "state.json"))
			realGuard(t, dir)
			for _, vm := range vms {
				vm.diedAt(t)
			}
			if !stranger.alive() {
				t.Error("a process that nobody held was killed")
			}
		})
	}
}

// The state names a process that has ended, and its PID belongs to another one by now.
func TestPIDThatIsUsedAgainIsNotKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, client := realGuard(t, dir)
	must(t, client.Extend(t.Context(), shortLease(7, life)))
	other := qemu(t)
	p := other.process(t)
	p.StartTicks--
	if err := client.Hold(t.Context(), guard.Held{VM: "vm-1", Process: p, Session: 7}); !errors.Is(err, guard.ErrNoProcess) {
		t.Errorf("Hold says %v", err)
	}
	procs := guard.NewPidfds()
	must(t, procs.Kill(p))
	if dead, err := procs.Dead(p); !dead || err != nil {
		t.Errorf("Dead says %v, %v", dead, err)
	}
	pause(t, 50*time.Millisecond)
	if !other.alive() {
		t.Error("the process that has the PID now was killed")
	}
}

// Nobody reaps this one: it is dead all the same.
func TestZombieIsDead(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sleep", "600")
	must(t, cmd.Start())
	defer func() { _ = cmd.Wait() }()
	ticks, err := guard.StartTicks(cmd.Process.Pid)
	must(t, err)
	p := guard.Process{PID: cmd.Process.Pid, StartTicks: ticks}
	procs := guard.NewPidfds()
	must(t, procs.Open(p))
	if dead, err := procs.Dead(p); dead || err != nil {
		t.Fatalf("Dead says %v, %v of a living process", dead, err)
	}
	must(t, procs.Kill(p))
	eventually(t, "it is seen dead", func() bool {
		dead, err := procs.Dead(p)
		return dead && err == nil
	})
	procs.Close(p)
	if err := procs.Open(p); !errors.Is(err, guard.ErrNoProcess) {
		t.Errorf("Open of a zombie says %v", err)
	}
}

func TestSecondGuardOnTheSameFolderIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, client := realGuard(t, dir)
	err := guard.Run(t.Context(), guard.Config{Socket: socketIn(dir), Dir: filepath.Join(dir, "guard"), BootID: "this-boot",
		Log: slog.New(slog.DiscardHandler)})
	if !errors.Is(err, pool.ErrRefused) {
		t.Errorf("got %v", err)
	}
	if _, err := client.Status(t.Context()); err != nil {
		t.Errorf("the first guard does not answer any more: %v", err)
	}
}

func TestErrorsOfTheGuardKeepTheirKindOverTheSocket(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	down := guard.NewClient(socketIn(dir), clock.Real())
	if _, err := down.Status(t.Context()); !errors.Is(err, pool.ErrUnavailable) {
		t.Errorf("no guard: %v", err)
	}
	_, client := realGuard(t, dir)
	old := shortLease(7, time.Minute)
	must(t, client.Extend(t.Context(), shortLease(7, time.Minute)))
	if err := client.Extend(t.Context(), old); !errors.Is(err, guard.ErrOutdated) {
		t.Errorf("older deadline: %v", err)
	}
	if err := client.Extend(t.Context(), guard.Lease{}); !errors.Is(err, pool.ErrInvalid) {
		t.Errorf("empty lease: %v", err)
	}
	vm := qemu(t)
	if err := client.Hold(t.Context(), guard.Held{VM: "vm-1", Process: vm.process(t), Session: 8}); !errors.Is(err, guard.ErrLate) {
		t.Errorf("unknown session: %v", err)
	}
}

func TestStoppedGuardMakesItsCallersWaitNoLongerThanTheySaid(t *testing.T) {
	t.Parallel()
	g, client := realGuard(t, t.TempDir())
	g.signal(t, syscall.SIGSTOP)
	eventually(t, "the guard is stopped", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", g.cmd.Process.Pid))
		return err == nil && strings.Contains(string(stat), ") T ")
	})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	old := shortLease(7, time.Minute)
	if err := client.Extend(ctx, old); !errors.Is(err, pool.ErrOutcomeUnknown) && !errors.Is(err, pool.ErrUnavailable) {
		t.Errorf("a stopped guard answers %v", err)
	}
	pause(t, 100*time.Millisecond)
	g.signal(t, syscall.SIGCONT)
	vm := qemu(t)
	eventually(t, "the guard answers again", func() bool {
		_, err := client.Status(t.Context())
		return err == nil
	})
	if err := client.Hold(t.Context(), guard.Held{VM: "vm-1", Process: vm.process(t), Session: 7}); !errors.Is(err, guard.ErrLate) {
		t.Errorf("the request that was given up has taken effect: Hold says %v", err)
	}
}

func TestOtherUsersAreTurnedAway(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can act as another user")
	}
	dir := t.TempDir()
	_, client := realGuard(t, dir)
	// Let it reach the socket, so that what turns it away is not the file's mode.
	must(t, os.Chmod(filepath.Dir(dir), 0o755))
	must(t, os.Chmod(dir, 0o755))
	must(t, os.Chmod(socketIn(dir), 0o666))
	conn := exec.Command("/proc/self/exe")
	conn.Env = append(os.Environ(), "GUARD_TEST_ROLE=agent", "GUARD_TEST_DIR="+dir)
	conn.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	stranger := spawn(t, conn)
	pause(t, 500*time.Millisecond)
	if !stranger.alive() || stranger.renewals() > 0 {
		t.Errorf("the stranger lives: %v, and was answered %d times", stranger.alive(), stranger.renewals())
	}
	vm := qemu(t)
	if err := client.Hold(t.Context(), guard.Held{VM: "vm-1", Process: vm.process(t), Session: 7}); !errors.Is(err, guard.ErrLate) {
		t.Errorf("the stranger's session is known: %v", err)
	}
}

func TestHardenedGuardRunsAndKills(t *testing.T) {
	t.Setenv("GUARD_TEST_HARDEN", "yes")
	g, client := realGuard(t, t.TempDir())
	lease := shortLease(7, life)
	must(t, client.Extend(t.Context(), lease))
	wantDead(t, lease, hold(t, client, 7, "vm-1")...)
	pid := g.cmd.Process.Pid
	if score := strings.TrimSpace(read(t, "/proc/%d/oom_score_adj", pid)); may(t, capSysResource) && score != "-1000" {
		t.Errorf("oom_score_adj is %s", score)
	}
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	must(t, err)
	for _, task := range tasks {
		stat := read(t, "/proc/%d/task/"+task.Name()+"/stat", pid)
		fields := strings.Fields(stat[strings.LastIndex(stat, ")")+1:])
		if policy := fields[38]; may(t, capSysNice) && policy != "1" { // field 41; 1 is SCHED_FIFO
			t.Errorf("thread %s has scheduling policy %s", task.Name(), policy)
		}
	}
	for line := range strings.Lines(read(t, "/proc/%d/status", pid)) {
		if strings.HasPrefix(line, "VmLck") && may(t, capIPCLock) && strings.Fields(line)[1] == "0" {
			t.Error("no memory is locked")
		}
		if strings.HasPrefix(line, "VmRSS") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

// Capabilities by number, see capabilities(7).
const (
	capIPCLock     = 14
	capSysNice     = 23
	capSysResource = 24
)

// may reports whether this process, and so its children, has a capability.
func may(t *testing.T, capability int) bool {
	t.Helper()
	for line := range strings.Lines(read(t, "/proc/%d/status", os.Getpid())) {
		if value, ok := strings.CutPrefix(line, "CapEff:"); ok {
			set, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
			must(t, err)
			return set&(1<<capability) != 0
		}
	}
	return false
}

func read(t *testing.T, path string, pid int) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf(path, pid))
	must(t, err)
	return string(b)
}
