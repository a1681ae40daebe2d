package fence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// keeps is the beginning of every fake: it keeps what it was given, and the state in a file beside it.
const keeps = `#!/bin/sh
dir=%s
action= plug=
while IFS== read -r key value; do
	echo "$key=$value" >>"$dir/input"
	case $key in action) action=$value ;; plug) plug=$value ;; esac
done
echo "$action $plug" >>"$dir/calls"
echo "$0${*:+ $*}" >>"$dir/argv"
env >>"$dir/env"
status() { read -r now <"$dir/state$plug"; echo "Status: $now"; [ "$now" = OFF ] && exit 2; exit 0; }
`

// honest does what it is told.
const honest = `case $action in
off) echo OFF >"$dir/state$plug"; echo "Success: Powered OFF" ;;
on) echo ON >"$dir/state$plug" ;;
status) status ;;
*) exit 1 ;;
esac
`

type bench struct {
	*Fencer
	t   *testing.T
	dir string
	log bytes.Buffer
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir()}
	b.Fencer = &Fencer{Dir: []string{filepath.Join(b.dir, "none"), b.dir}, Log: slog.New(slog.NewTextHandler(&b.log, nil))}
	b.write("state", "ON\n", 0o600)
	return b
}

func (b *bench) write(name, text string, mode os.FileMode) string {
	b.t.Helper()
	path := filepath.Join(b.dir, name)
	// A lock against forks: a child that inherits the open file makes it busy for whoever runs it.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		b.t.Fatal(err)
	}
	return path
}

// program installs a fake and returns the server whose only power switch it is.
func (b *bench) program(name, body string) pool.Server {
	b.t.Helper()
	b.write(name, fmt.Sprintf(keeps, b.dir)+body, 0o755)
	return pool.Server{ID: "srv-1", Fence: []pool.FenceDevice{{Agent: name, Timeout: 20 * time.Second}}}
}

// kept is what the fakes wrote into a file, by line.
func (b *bench) kept(name string) []string {
	data, err := os.ReadFile(filepath.Join(b.dir, name))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(data)), "\n")
}

func (b *bench) calls(want ...string) {
	b.t.Helper()
	got := b.kept("calls")
	for i := range got {
		got[i] = strings.TrimSpace(got[i])
	}
	if !slices.Equal(got, want) {
		b.t.Errorf("programs were called to %q, want %q", got, want)
	}
}

// refused wants that nothing is proven, and an error that says the words.
func (b *bench) refused(server pool.Server, words ...string) {
	b.t.Helper()
	evidence, err := b.PowerOff(b.t.Context(), server)
	if err == nil || evidence != "" {
		b.t.Fatalf("PowerOff = %q, %v; want an error and no evidence", evidence, err)
	}
	b.says(err, words...)
}

func (b *bench) says(err error, words ...string) {
	b.t.Helper()
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			b.t.Errorf("the error %q does not say %q", err, w)
		}
	}
}

func TestAServerIsOffWhenItsDeviceDidItAndSaysSoTwice(t *testing.T) {
	b := newBench(t)
	evidence, err := b.PowerOff(t.Context(), b.program("fence_ipmilan", honest))
	if err != nil || evidence != "fence_ipmilan reports off, verified twice" {
		t.Errorf("PowerOff = %q, %v", evidence, err)
	}
	b.calls("off", "status", "status")
}

func TestADeviceThatRefusesIsToldTwiceAndQuoted(t *testing.T) {
	b := newBench(t)
	b.refused(b.program("fence_a", `echo "Unable to connect/login to fencing device" >&2; exit 1`),
		"srv-1", "fence_a", "exit status 1", "Unable to connect/login")
	b.calls("off", "off")
}

func TestADeviceThatFailsOnceIsToldAgain(t *testing.T) {
	b := newBench(t)
	server := b.program("fence_a", `[ "$action" = off ] && [ ! -e "$dir/once" ] && { : >"$dir/once"; exit 1; }`+"\n"+honest)
	if evidence, err := b.PowerOff(t.Context(), server); err != nil || evidence == "" {
		t.Errorf("PowerOff = %q, %v", evidence, err)
	}
	b.calls("off", "off", "status", "status")
}

func TestOffIsNotBelievedWhileTheDeviceSaysOn(t *testing.T) {
	b := newBench(t)
	b.refused(b.program("fence_liar", `case $action in off) exit 0 ;; status) status ;; esac`), "fence_liar says that it is on after it was switched off")
}

func TestOffIsNotBelievedWhileTheDeviceDoesNotTellItsState(t *testing.T) {
	for name, body := range map[string]string{
		"another exit status":          `[ "$action" = off ] || exit 8`,
		"off, but printing on":         `[ "$action" = off ] || { echo "Status: ON"; exit 2; }`,
		"on, but printing off":         `[ "$action" = off ] || { echo "off"; exit 0; }`,
		"ended by a signal":            `[ "$action" = off ] || kill -9 $$`,
		"off itself by a signal":       `[ "$action" = off ] && kill -9 $$; exit 2`,
		"off with the status of `off`": `exit 2`,
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.refused(b.program("fence_a", body), "fence_a")
		})
	}
}

func TestADeviceThatIsOnAgainWhenTheOthersAreOffProvesNothing(t *testing.T) {
	b := newBench(t)
	// It says off once, and on when asked again.
	b.refused(b.program("fence_a", `case $action in off) exit 0 ;; esac
[ -e "$dir/asked" ] && { echo ON; exit 0; }
: >"$dir/asked"; exit 2`), "verify that srv-1 is off", "says that it is on")
}

func TestAllDevicesMustBeOff(t *testing.T) {
	b := newBench(t)
	b.write("state1", "ON\n", 0o600)
	b.write("state2", "ON\n", 0o600)
	server := b.program("fence_pdu", `[ "$plug" = 2 ] && [ -e "$dir/broken" ] && exit 1`+"\n"+honest)
	device := server.Fence[0]
	server.Fence = nil
	for _, plug := range []string{"1", "2"} {
		device.Params = map[string]string{"plug": plug}
		server.Fence = append(server.Fence, device)
	}
	broken := b.write("broken", "", 0o600)
	b.refused(server, "fence_pdu #2")
	if got := b.kept("state1"); got[0] != "OFF" {
		t.Errorf("the first device is %v", got)
	}
	if err := errors.Join(os.Remove(broken), os.Remove(filepath.Join(b.dir, "calls"))); err != nil {
		t.Fatal(err)
	}
	evidence, err := b.PowerOff(t.Context(), server)
	if err != nil || evidence != "fence_pdu #1 and fence_pdu #2 report off, verified twice" {
		t.Errorf("PowerOff = %q, %v", evidence, err)
	}
	// All are off before any is asked again.
	got := b.kept("calls")
	slices.Sort(got[:4])
	slices.Sort(got[4:])
	if want := []string{"off 1", "off 2", "status 1", "status 2", "status 1", "status 2"}; !slices.Equal(got, want) {
		t.Errorf("programs were called to %q", got)
	}
}

func TestAServerWithoutDevicesIsNeverProvenOff(t *testing.T) {
	b := newBench(t)
	b.refused(pool.Server{ID: "srv-1"}, "srv-1 has no fence device")
}

func TestAProgramThatHangsIsKilledWithItsChildren(t *testing.T) {
	b := newBench(t)
	server := b.program("fence_a", `echo "opening the session"
sleep 1000 &
echo $! >>"$dir/children"
wait`)
	server.Fence[0].Timeout = time.Second
	b.refused(server, "fence_a did not finish off within 1s and was killed", "opening the session")
	children := b.kept("children")
	if len(children) != attempts {
		t.Fatalf("children %v, want one for each of %d attempts", children, attempts)
	}
	for _, pid := range children {
		var n int
		if _, err := fmt.Sscan(pid, &n); err != nil {
			t.Fatal(err)
		}
		for begun := time.Now(); alive(n); { // a signal takes a moment to be delivered
			if time.Since(begun) > 10*time.Second {
				t.Fatalf("process %d, a child of the program, is alive", n)
			}
			runtime.Gosched()
		}
	}
}

// alive tells whether a process still executes; a zombie does not.
func alive(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

func TestACallThatIsGivenUpEndsItsProgram(t *testing.T) {
	b := newBench(t)
	ctx, cancel := context.WithTimeoutCause(t.Context(), 300*time.Millisecond, errors.New("not leading any more"))
	defer cancel()
	_, err := b.PowerOff(ctx, b.program("fence_a", `exec sleep 1000`))
	if err == nil {
		t.Fatal("PowerOff succeeded")
	}
	b.says(err, "fence_a was stopped during off", "not leading any more")
	b.calls("off")
}

func TestSecretsComeFromFilesAndAppearNowhereElse(t *testing.T) {
	const secret = "s3cret=with spaces$HOME"
	t.Setenv("HOLDFAST_SOMETHING", "of the agent")
	b := newBench(t)
	server := b.program("fence_a", `echo "Parse error: ignoring unknown option 'password=`+"$(grep password $dir/input | tail -1 | cut -d= -f2-)"+`'" >&2; exit 1`)
	server.Fence[0].Params = map[string]string{"ip": "10.0.9.1", "username": "admin"}
	server.Fence[0].SecretFiles = map[string]string{"password": b.write("secret", secret+"\n", 0o600)}
	_, err := b.PowerOff(t.Context(), server)
	if err == nil {
		t.Fatal("PowerOff succeeded")
	}
	b.says(err, "unknown option", "***")
	if want := []string{"action=off", "ip=10.0.9.1", "username=admin", "password=" + secret}; !slices.Equal(b.kept("input")[:4], want) {
		t.Errorf("standard input was %q, want %q", b.kept("input")[:4], want)
	}
	for _, line := range b.kept("argv") {
		if line != filepath.Join(b.dir, "fence_a") {
			t.Errorf("the program was called as %q; want no arguments", line)
		}
	}
	for where, text := range map[string]string{"error": err.Error(), "log": b.log.String(), "environment": strings.Join(b.kept("env"), "\n")} {
		if strings.Contains(text, "s3cret") {
			t.Errorf("the secret is in the %s: %s", where, text)
		}
	}
	if strings.Contains(strings.Join(b.kept("env"), "\n"), "of the agent") {
		t.Error("the program got the agent's environment")
	}

	// It is read anew for each call.
	b.write("secret", "changed", 0o600)
	if _, err := b.Check(t.Context(), server); err == nil {
		t.Error("Check succeeded")
	}
	if got := b.kept("input"); got[len(got)-1] != "password=changed" {
		t.Errorf("after the secret changed the program got %q", got[len(got)-1])
	}
}

func TestAFileThatIsNoSecretIsRefusedAndNotQuoted(t *testing.T) {
	b := newBench(t)
	server := b.program("fence_a", honest)
	for _, text := range []string{"first\naction=on", "", strings.Repeat("x", maxSecret+1)} {
		server.Fence[0].SecretFiles = map[string]string{"password": b.write("secret", text, 0o600)}
		_, err := b.PowerOff(t.Context(), server)
		if err == nil || strings.Contains(err.Error(), "first") {
			t.Errorf("with a secret file of %d bytes: %v; want a refusal that does not quote it", len(text), err)
		}
	}
	server.Fence[0].SecretFiles = map[string]string{"password": filepath.Join(b.dir, "missing")}
	b.refused(server, "fence_a", "password", "missing")
	b.calls()
}

func TestAFloodOfOutputIsBoundedAndCleaned(t *testing.T) {
	b := newBench(t)
	server := b.program("fence_a", `printf '\033[2J\007\tit broke\n' >&2; i=0
while [ $i -lt 2000 ]; do echo "a hundred bytes of complaint ....................................................................... $i"; i=$((i+1)); done
printf '\033[31m\001end\n'; exit 1`)
	_, err := b.PowerOff(t.Context(), server)
	if err == nil {
		t.Fatal("PowerOff succeeded")
	}
	if n := len(err.Error()); n > 2*outputShown {
		t.Errorf("the error has %d bytes", n)
	}
	if strings.ContainsFunc(err.Error(), func(r rune) bool { return r < 0x20 }) {
		t.Errorf("the error %q has control characters", err)
	}
}

func TestASecretThatTheBoundCutsIsNotShown(t *testing.T) {
	secret := strings.Repeat("s3cret", 20)
	k := &keeper{}
	for _, p := range []string{strings.Repeat("x", outputKept-50), secret, "more"} {
		if n, err := k.Write([]byte(p)); n != len(p) || err != nil {
			t.Fatal(n, err)
		}
	}
	if text := k.text([]string{"short", secret}); strings.Contains(text, "s3cret") {
		t.Errorf("a part of the secret is left: %q", text[len(text)-100:])
	}
}

func TestAProgramThatCannotBeTrustedIsNotRun(t *testing.T) {
	one := func(agent string) pool.Server {
		return pool.Server{ID: "srv-1", Fence: []pool.FenceDevice{{Agent: agent}}}
	}
	b := newBench(t)
	b.refused(one("fence_ipmilan"), "program fence_ipmilan is not installed", b.dir, "install", "fence-agents-ipmilan")
	for _, name := range []string{"", "ipmilan", "../fence_a", "/usr/sbin/fence_a", "fence_a b", "fence_", "FENCE_A", "fence_a\n"} {
		b.refused(one(name), "such as fence_ipmilan")
	}
	b.program("fence_open", honest)
	if err := os.Chmod(filepath.Join(b.dir, "fence_open"), 0o777); err != nil {
		t.Fatal(err)
	}
	b.refused(one("fence_open"), "can be written by everybody")
	b.write("fence_plain", "", 0o644)
	b.refused(one("fence_plain"), "is not executable")
	if err := os.Mkdir(filepath.Join(b.dir, "fence_dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	b.refused(one("fence_dir"), "is not a file")
	b.calls()
}

func TestParametersCannotGiveAnotherAction(t *testing.T) {
	b := newBench(t)
	server := b.program("fence_a", honest)
	for _, params := range []map[string]string{{"action": "on"}, {"ACTION": "on"}, {"option": "on"}, {"ip": "1\naction=on"}, {"ip\naction": "on"}, {"a=b": ""}} {
		server.Fence[0].Params = params
		b.refused(server, "fence_a")
	}
	b.calls()
}

func TestCheckAsksAndChangesNothing(t *testing.T) {
	b := newBench(t)
	server := b.program("fence_a", honest)
	server.Fence = append(server.Fence, pool.FenceDevice{Agent: "fence_missing"})
	states, err := b.Check(t.Context(), server)
	if err == nil || !slices.Equal(states, []State{On, Unknown}) {
		t.Errorf("Check = %v, %v; want that the second is unknown", states, err)
	}
	b.says(err, "fence_missing")
	server.Fence = server.Fence[:1]
	if states, err := b.Check(t.Context(), server); err != nil || !slices.Equal(states, []State{On}) {
		t.Errorf("Check = %v, %v", states, err)
	}
	b.calls("status", "status")
}

func TestPowerOnIsConfirmedToo(t *testing.T) {
	b := newBench(t)
	b.write("state", "OFF\n", 0o600)
	server := b.program("fence_a", honest)
	if err := b.PowerOn(t.Context(), server); err != nil {
		t.Error(err)
	}
	b.calls("on", "status")
	server = b.program("fence_liar", `case $action in on) exit 0 ;; *) exit 2 ;; esac`)
	if err := b.PowerOn(t.Context(), server); err == nil {
		t.Error("a device that stays off was switched on")
	}
}
