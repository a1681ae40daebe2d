package virt

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/agent/guard"
)

// What QEMU 7.2 says on a second monitor.
const (
	saysFinishing = `{"return":{"status":"finish-migrate","singlestep":false,"running":false},"id":"holdfast-status"}`
	saysSent      = `{"return":{"status":"postmigrate","singlestep":false,"running":false},"id":"holdfast-status"}`
	saysPaused    = `{"return":{"status":"paused","running":false},"id":"holdfast-status"}`
	saysRunning   = `{"return":{"status":"running","running":true},"id":"holdfast-status"}`
	saysSwitching = `{"return":{"status":"pre-switchover","ram":{"total":92815360}},"id":"holdfast-migrate"}`
	saysDone      = `{"return":{"status":"completed","ram":{"total":92815360}},"id":"holdfast-migrate"}`
	doneNow       = `{"timestamp":{"seconds":1,"microseconds":2},"event":"MIGRATION","data":{"status":"completed"}}`
	failed        = `{"event":"MIGRATION","data":{"status":"failed"}}`
	resumed       = `{"event":"RESUME"}`
	stopped       = `{"event":"STOP"}`
	ends          = `{"event":"SHUTDOWN","data":{"guest":false,"reason":"host-signal"}}`
	quits         = `{"event":"SHUTDOWN","data":{"guest":false,"reason":"host-qmp-quit"}}`
	powersOff     = `{"event":"SHUTDOWN","data":{"guest":true,"reason":"guest-shutdown"}}`
	greeted       = `{"return":{}}`
)

func TestSourceHasLeftOnlyIfItStoodStillFromTheCopysEndToItsOwn(t *testing.T) {
	for name, c := range map[string]struct {
		says  []string
		clean bool
	}{
		"heard before the last of the memory":   {[]string{greeted, saysFinishing, saysSwitching, `{"event":"MIGRATION_PASS","data":{"pass":3}}`, doneNow, ends}, true},
		"heard after it":                        {[]string{greeted, saysSent, saysDone, ends}, true},
		"word of a stop that came before":       {[]string{stopped, greeted, saysFinishing, saysSwitching, doneNow, ends}, true},
		"it ran before, by an earlier word":     {[]string{resumed, stopped, greeted, saysSent, saysDone, ends}, true},
		"it went on":                            {[]string{greeted, saysFinishing, saysSwitching, doneNow, resumed, ends}, false},
		"it went on and stopped again":          {[]string{greeted, saysSent, saysDone, resumed, stopped, ends}, false},
		"it went on after it was told to end":   {[]string{greeted, saysSent, saysDone, ends, resumed}, false},
		"it was paused, not at a copy's end":    {[]string{greeted, saysPaused, saysDone, ends}, false},
		"it ran":                                {[]string{greeted, saysRunning, saysDone, ends}, false},
		"the copy failed":                       {[]string{greeted, saysFinishing, saysSwitching, failed, ends}, false},
		"the copy was never complete":           {[]string{greeted, saysFinishing, saysSwitching, ends}, false},
		"it crashed":                            {[]string{greeted, saysSent, saysDone}, false},
		"its guest powered off":                 {[]string{greeted, saysSent, saysDone, powersOff}, false},
		"somebody made it quit":                 {[]string{greeted, saysSent, saysDone, quits}, false},
		"an error in place of its state":        {[]string{greeted, `{"error":{"class":"GenericError"},"id":"holdfast-status"}`, saysDone, ends}, false},
		"nonsense":                              {[]string{greeted, saysSent, "what?", saysDone, ends}, false},
		"its state does not say whether it ran": {[]string{greeted, `{"return":{"status":"postmigrate"},"id":"holdfast-status"}`, saysDone, ends}, false},
	} {
		var f farewell
		for _, line := range c.says {
			f.take([]byte(line))
		}
		if f.clean() != c.clean {
			t.Errorf("%s: %+v, want clean %v", name, f, c.clean)
		}
	}
}

// leavingQEMU answers one client as a QEMU does that is asked for its state at the end of a copy, then hangs up.
func leavingQEMU(t *testing.T, after ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "qmp")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = fmt.Fprintln(conn, `{"QMP":{"version":{"qemu":{"major":7}},"capabilities":["oob"]}}`)
		in := bufio.NewScanner(conn)
		for _, answer := range []string{greeted, saysFinishing, saysSwitching} {
			if !in.Scan() {
				return
			}
			_, _ = fmt.Fprintln(conn, answer)
		}
		for _, line := range after {
			_, _ = fmt.Fprintln(conn, line)
		}
		if len(after) == 0 {
			in.Scan() // it says no more, and does not hang up
		}
	}()
	return path
}

func TestSourceIsHeardToItsEnd(t *testing.T) {
	me := guard.Process{PID: os.Getpid(), StartTicks: 1}
	for name, c := range map[string]struct {
		says  []string
		p     guard.Process
		clean bool
		why   string
	}{
		"it leaves":         {[]string{doneNow, ends}, me, true, "EOF"},
		"it goes on":        {[]string{doneNow, resumed}, me, false, "ran on"},
		"it says no more":   {nil, me, false, "timeout"},
		"it hangs up":       {[]string{doneNow}, me, false, "EOF"},
		"another's monitor": {[]string{doneNow, ends}, guard.Process{PID: os.Getpid() + 1, StartTicks: 1}, false, "the monitor is process"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if c.says == nil {
				stop := time.AfterFunc(50*time.Millisecond, cancel)
				defer stop.Stop()
			}
			var f farewell
			over := 0
			err := f.hear(ctx, leavingQEMU(t, c.says...), c.p, func() { over++ })
			if err == nil || !strings.Contains(err.Error(), c.why) {
				t.Errorf("got %v, want %q", err, c.why)
			}
			if f.clean() != c.clean || (over == 1) != c.clean {
				t.Errorf("%+v, told %d times; want clean %v", f, over, c.clean)
			}
		})
	}
}

func TestNobodyListensWhereNoMonitorIs(t *testing.T) {
	var f farewell
	if err := f.hear(t.Context(), filepath.Join(t.TempDir(), "none"), guard.Process{PID: 1}, func() { t.Error("told") }); err == nil || f.clean() {
		t.Errorf("%+v, %v", f, err)
	}
}
