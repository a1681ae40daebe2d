package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// qmp is a connection to one QEMU's own monitor (QEMU docs,
// interop/qmp-spec): commands in order, events in between.
type qmp struct {
	conn    net.Conn
	events  func(name string, at time.Time)
	replies chan qmpMessage
	ended   chan struct{}
	mu      sync.Mutex // one command at a time
	// owed counts commands whose time ran out: their answers come later and
	// belong to nobody.
	owed int
}

type qmpMessage struct {
	QMP       json.RawMessage `json:"QMP"`
	Return    json.RawMessage `json:"return"`
	Error     *qmpError       `json:"error"`
	Event     string          `json:"event"`
	Timestamp struct {
		Seconds      int64 `json:"seconds"`
		Microseconds int64 `json:"microseconds"`
	} `json:"timestamp"`
}

type qmpError struct {
	Class string `json:"class"`
	Desc  string `json:"desc"`
}

var (
	// errSilent means that QEMU's main loop did not answer in time; it is busy,
	// stopped, or another program holds the socket.
	errSilent = errors.New("QEMU does not answer")
	errClosed = errors.New("QEMU closed the connection")
)

// qmpTimeout bounds one command.
const qmpTimeout = 200 * time.Millisecond

// dialQMP connects and negotiates. events, which may be nil, is called from the
// connection's own goroutine with QEMU's own time of the event.
func dialQMP(socket string, events func(name string, at time.Time)) (*qmp, error) {
	conn, err := net.DialTimeout("unix", socket, qmpTimeout)
	if err != nil {
		return nil, err
	}
	if events == nil {
		events = func(string, time.Time) {}
	}
	q := &qmp{conn: conn, events: events, replies: make(chan qmpMessage, 16), ended: make(chan struct{})}
	go q.read()
	if _, err := q.await(); err != nil { // the greeting
		q.close()
		return nil, err
	}
	if err := q.do("qmp_capabilities", nil); err != nil {
		q.close()
		return nil, err
	}
	return q, nil
}

func (q *qmp) close() { _ = q.conn.Close() }

func (q *qmp) read() {
	defer close(q.ended)
	for dec := json.NewDecoder(q.conn); ; {
		var m qmpMessage
		if err := dec.Decode(&m); err != nil {
			return
		}
		if m.Event == "" {
			q.replies <- m
			continue
		}
		q.events(m.Event, time.Unix(m.Timestamp.Seconds, m.Timestamp.Microseconds*1000))
	}
}

// do sends a command and reads its answer into result.
func (q *qmp) do(command string, result any) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.owed > 0 {
		if _, err := q.await(); err != nil {
			return err
		}
		q.owed--
	}
	if err := q.conn.SetWriteDeadline(time.Now().Add(qmpTimeout)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(q.conn, "{\"execute\":%q}\n", command); err != nil {
		return err
	}
	m, err := q.await()
	if errors.Is(err, errSilent) {
		q.owed++
	}
	if err != nil {
		return err
	}
	if m.Error != nil {
		return fmt.Errorf("%s: %s: %s", command, m.Error.Class, m.Error.Desc)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(m.Return, result)
}

func (q *qmp) await() (qmpMessage, error) {
	timer := time.NewTimer(qmpTimeout)
	defer timer.Stop()
	select {
	case m := <-q.replies:
		return m, nil
	case <-q.ended:
		return qmpMessage{}, errClosed
	case <-timer.C:
		return qmpMessage{}, errSilent
	}
}

// status is QEMU's run state: whether the guest's CPUs execute, and the state's
// name (running, paused, inmigrate, postmigrate, ...).
func (q *qmp) status() (running bool, name string, err error) {
	var s struct {
		Running bool   `json:"running"`
		Status  string `json:"status"`
	}
	err = q.do("query-status", &s)
	return s.Running, s.Status, err
}
