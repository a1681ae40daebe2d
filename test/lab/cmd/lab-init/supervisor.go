//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/holdfast-ha/holdfast/test/lab/inside"
)

// supervisor starts processes, remembers them by name and reaps everything.
// It restarts nothing: the lab decides what dies and what comes back.
type supervisor struct {
	plan  inside.Plan
	mu    sync.Mutex
	known map[string]*inside.State
	order []string
}

func newSupervisor(plan inside.Plan) *supervisor {
	return &supervisor{plan: plan, known: map[string]*inside.State{}}
}

// serve answers requests for ever; the server ends when it is killed.
func (s *supervisor) serve(socket string) error {
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	go func() {
		for range children {
			s.reap()
		}
	}()
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go s.answer(conn)
	}
}

func (s *supervisor) answer(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	var req inside.Request
	var reply inside.Reply
	if err := json.NewDecoder(conn).Decode(&req); err != nil {
		return
	}
	if err := s.do(req); err != nil {
		reply.Error = err.Error()
	}
	reply.States = s.list()
	_ = json.NewEncoder(conn).Encode(reply)
}

func (s *supervisor) do(req inside.Request) error {
	switch req.Op {
	case inside.Start:
		return s.start(req.Process)
	case inside.Signal:
		return s.signal(req.Process.Name, syscall.Signal(req.Signal))
	case inside.List:
		return nil
	}
	return fmt.Errorf("unknown request %q", req.Op)
}

// start runs the program in a session of its own with its output in a log. The
// lock is held over the fork, so that the reaper cannot meet an unknown child.
func (s *supervisor) start(p inside.Process) error {
	if len(p.Argv) == 0 {
		return errors.New("nothing to run")
	}
	path, err := exec.LookPath(p.Argv[0])
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(s.plan.LogDir, p.Name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer func() { _ = null.Close() }()
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.known[p.Name]; old != nil && old.Running() {
		return fmt.Errorf("runs already as PID %d", old.PID)
	}
	pid, err := syscall.ForkExec(path, p.Argv, &syscall.ProcAttr{
		Dir: "/", Env: append(append([]string{}, s.plan.Env...), p.Env...),
		Files: []uintptr{null.Fd(), log.Fd(), log.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return err
	}
	if err := inside.Weigh(pid); err != nil {
		fmt.Fprintf(os.Stderr, "lab-init: %s: %v\n", p.Name, err) // it runs, at the usual speed
	}
	if s.known[p.Name] == nil {
		s.order = append(s.order, p.Name)
	}
	s.known[p.Name] = &inside.State{Name: p.Name, PID: pid}
	return nil
}

func (s *supervisor) signal(name string, sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.known[name]
	if p == nil || !p.Running() {
		return errors.New("does not run")
	}
	return syscall.Kill(p.PID, sig)
}

func (s *supervisor) list() []inside.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	states := make([]inside.State, 0, len(s.order))
	for _, name := range s.order {
		states = append(states, *s.known[name])
	}
	return states
}

func (s *supervisor) reap() {
	for {
		s.mu.Lock()
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if err == nil && pid > 0 {
			s.note(pid, status)
		}
		s.mu.Unlock()
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
	}
}

func (s *supervisor) note(pid int, status syscall.WaitStatus) {
	for _, p := range s.known {
		if p.PID != pid || p.Exit != "" {
			continue
		}
		if status.Signaled() {
			p.Exit = "signal " + status.Signal().String()
		} else {
			p.Exit = fmt.Sprintf("exit %d", status.ExitStatus())
		}
	}
}
