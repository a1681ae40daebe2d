package guard_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/agent/guard"
)

// qmpServer answers one client as QEMU does; answers maps commands to replies.
func qmpServer(t *testing.T, answers map[string]string) guard.Held {
	t.Helper()
	path := filepath.Join(t.TempDir(), "qmp")
	l, err := net.Listen("unix", path)
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprintln(conn, `{"QMP":{"version":{"qemu":{"major":7}},"capabilities":["oob"]}}`)
		for in := bufio.NewScanner(conn); in.Scan(); {
			for command, answer := range answers {
				if strings.Contains(in.Text(), `"`+command+`"`) {
					fmt.Fprintln(conn, answer)
				}
			}
		}
	}()
	return guard.Held{VM: "vm-1", Monitor: path}
}

func TestPauseIsConfirmedByTheMonitorsOwnState(t *testing.T) {
	const ok, event = `{"return":{}}`, `{"event":"STOP","timestamp":{"seconds":1,"microseconds":2}}` + "\n"
	for name, c := range map[string]struct {
		stop, status string
		paused       bool
	}{
		"stops":               {event + ok, `{"return":{"running":false,"status":"paused"}}`, true},
		"says ok and runs on": {ok, `{"return":{"running":true,"status":"running"}}`, false},
		"refuses":             {`{"error":{"class":"GenericError","desc":"no"}}`, "", false},
		"says nothing of it":  {ok, ok, false},
		"hangs":               {"", "", false},
		"speaks nonsense":     {"hello", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			h := qmpServer(t, map[string]string{"qmp_capabilities": ok, "stop": c.stop, "query-status": c.status})
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			if err := (guard.Monitors{}).Pause(ctx, h); (err == nil) != c.paused {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestVMWithoutMonitorIsNotPaused(t *testing.T) {
	if err := (guard.Monitors{}).Pause(t.Context(), guard.Held{VM: "vm-1"}); err == nil {
		t.Error("paused without a monitor")
	}
}
