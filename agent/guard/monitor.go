package guard

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"
)

// Monitors pauses VMs through their QMP sockets (QEMU, "QMP Protocol Specification"). "stop" returns after QEMU has
// stopped the CPUs and completed all disk requests; query-status then proves it. A monitor serves one client at a
// time, so the path must not be libvirt's.
type Monitors struct{}

var _ Pauser = Monitors{}

// Pause implements Pauser.
func (Monitors) Pause(ctx context.Context, h Held) error {
	if h.Monitor == "" {
		return errors.New("no monitor is known")
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", h.Monitor)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	q := qmp{conn, bufio.NewReader(conn)}
	if _, err := q.read("QMP"); err != nil {
		return err
	}
	for _, command := range []string{"qmp_capabilities", "stop"} {
		if _, err := q.ask(command); err != nil {
			return err
		}
	}
	answer, err := q.ask("query-status")
	if err != nil {
		return err
	}
	var state struct{ Running *bool }
	if err := json.Unmarshal(answer, &state); err != nil {
		return fmt.Errorf("qmp query-status: %w", err)
	}
	if state.Running == nil || *state.Running {
		return fmt.Errorf("qmp: after stop the state is %s", answer)
	}
	return nil
}

// qmp is one conversation with a monitor.
type qmp struct {
	conn net.Conn
	r    *bufio.Reader
}

func (q qmp) ask(command string) (json.RawMessage, error) {
	if _, err := fmt.Fprintf(q.conn, "{\"execute\":%q}\n", command); err != nil {
		return nil, fmt.Errorf("qmp %s: %w", command, err)
	}
	answer, err := q.read("return")
	if err != nil {
		return nil, fmt.Errorf("qmp %s: %w", command, err)
	}
	return answer, nil
}

// read returns the value of field in the next message that is not an event.
func (q qmp) read(field string) (json.RawMessage, error) {
	for {
		line, err := q.r.ReadBytes('\n')
		if err != nil {
			return nil, err
		}
		var m map[string]json.RawMessage
		if err := json.Unmarshal(line, &m); err != nil {
			return nil, err
		}
		if v, ok := m[field]; ok {
			return v, nil
		}
		if e, ok := m["error"]; ok {
			return nil, fmt.Errorf("the monitor answers %s", e)
		}
		if _, event := m["event"]; !event {
			return nil, fmt.Errorf("the monitor answers %s", line)
		}
	}
}
