package lab

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fakeQEMU answers one client by a script: what it says to each command, in turn.
func fakeQEMU(t *testing.T, answers ...string) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "qmp")
	l, err := net.Listen("unix", socket)
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
		_, _ = fmt.Fprintln(conn, `{"QMP":{"version":{},"capabilities":[]}}`)
		commands := bufio.NewScanner(conn)
		for _, a := range append([]string{`{"return":{}}`}, answers...) {
			if !commands.Scan() {
				return
			}
			if _, err := fmt.Fprintln(conn, a); err != nil {
				return
			}
		}
		commands.Scan() // until the client leaves
	}()
	return socket
}

func TestQMPTellsTheRunStateAndEvents(t *testing.T) {
	type event struct {
		name string
		at   time.Time
	}
	events := make(chan event, 1)
	socket := fakeQEMU(t, `{"event":"STOP","timestamp":{"seconds":100,"microseconds":250000}}`+"\n"+
		`{"return":{"running":false,"status":"paused"}}`)
	q, err := dialQMP(socket, func(name string, at time.Time) { events <- event{name, at} })
	if err != nil {
		t.Fatal(err)
	}
	defer q.close()
	running, status, err := q.status()
	if err != nil || running || status != "paused" {
		t.Errorf("status = %v %q %v, want paused", running, status, err)
	}
	if e := <-events; e.name != "STOP" || !e.at.Equal(time.Unix(100, 250e6)) {
		t.Errorf("event %+v", e)
	}
}

func TestQMPAnswerThatComesTooLateIsNotTakenForTheNext(t *testing.T) {
	// The first query goes unanswered; its answer comes with the second query's.
	socket := fakeQEMU(t, "", `{"return":{"running":true,"status":"running"}}`+"\n"+`{"return":{"running":false,"status":"postmigrate"}}`)
	q, err := dialQMP(socket, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer q.close()
	if _, _, err := q.status(); !errors.Is(err, errSilent) {
		t.Fatalf("unanswered query: %v, want errSilent", err)
	}
	// The late answer is awaited first, in vain: the fake says nothing unasked.
	if _, _, err := q.status(); !errors.Is(err, errSilent) {
		t.Fatalf("query behind an unanswered one: %v, want errSilent", err)
	}
}

func TestQMPErrorsAreToldInQEMUsWords(t *testing.T) {
	socket := fakeQEMU(t, `{"error":{"class":"GenericError","desc":"no such thing"}}`)
	q, err := dialQMP(socket, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer q.close()
	if _, _, err := q.status(); err == nil || !strings.Contains(err.Error(), "no such thing") {
		t.Errorf("status: %v", err)
	}
}
