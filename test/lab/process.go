package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/holdfast-ha/holdfast/test/lab/inside"
)

// Names of the processes that a server may run, in the order of power-on.
const (
	Libvirtd = "libvirtd"
	Etcd     = "etcd"
	Guard    = "guard"
	Agent    = "agent"
)

// table is what a server runs under which name. The order is that of power-on;
// nothing waits for anything, as units of an init system that only order.
func (s *Server) table() []inside.Process {
	agent := s.lab.opts.Agent
	return []inside.Process{
		{Name: Libvirtd, Argv: []string{"libvirtd", "--config", "/etc/libvirt/libvirtd.conf"}},
		{Name: Etcd, Argv: []string{agent, "etcd"}},
		{Name: Guard, Argv: []string{agent, "guard"}},
		{Name: Agent, Argv: []string{agent, "run"}},
	}
}

// Enable makes the server start these processes at each power-on, from the next
// one on; Start starts them now. Libvirtd is enabled from the beginning.
func (s *Server) Enable(names ...string) error {
	w, err := s.wants()
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, err := s.entry(name); err != nil {
			return err
		}
		if !slices.Contains(w.Enabled, name) {
			w.Enabled = append(w.Enabled, name)
		}
	}
	return s.setWants(w)
}

// Disable undoes Enable. What runs keeps running.
func (s *Server) Disable(names ...string) error {
	w, err := s.wants()
	if err != nil {
		return err
	}
	w.Enabled = slices.DeleteFunc(w.Enabled, func(name string) bool { return slices.Contains(names, name) })
	return s.setWants(w)
}

func (s *Server) entry(name string) (inside.Process, error) {
	for _, p := range s.table() {
		if p.Name == name {
			return p, nil
		}
	}
	return inside.Process{}, fmt.Errorf("no process %q: a server has libvirtd, etcd, guard, agent", name)
}

func (s *Server) startEnabled(names []string) error {
	for _, p := range s.table() {
		if !slices.Contains(names, p.Name) {
			continue
		}
		if _, err := s.ask(inside.Request{Op: inside.Start, Process: p}); err != nil {
			return err
		}
	}
	return nil
}

// Start starts a process of the table. It fails if one runs already.
func (s *Server) Start(name string) error {
	p, err := s.entry(name)
	if err != nil {
		return err
	}
	_, err = s.ask(inside.Request{Op: inside.Start, Process: p})
	return err
}

// Run starts any other program under a name of its own, with its output in
// the server's log directory. It is gone after a power cut.
func (s *Server) Run(name string, argv ...string) error {
	_, err := s.ask(inside.Request{Op: inside.Start, Process: inside.Process{Name: name, Argv: argv}})
	return err
}

// Kill ends a process with SIGKILL and returns when it is dead.
func (s *Server) Kill(ctx context.Context, name string) error {
	return s.end(ctx, name, syscall.SIGKILL)
}

// Stop asks a process to end (SIGTERM) and waits until it has.
func (s *Server) Stop(ctx context.Context, name string) error {
	return s.end(ctx, name, syscall.SIGTERM)
}

// Hang stops a process in its tracks (SIGSTOP); Resume lets it go on.
func (s *Server) Hang(name string) error { return s.Signal(name, syscall.SIGSTOP) }

// Resume undoes Hang.
func (s *Server) Resume(name string) error { return s.Signal(name, syscall.SIGCONT) }

// Signal sends any signal to a process by name.
func (s *Server) Signal(name string, sig syscall.Signal) error {
	_, err := s.ask(inside.Request{Op: inside.Signal, Process: inside.Process{Name: name}, Signal: int(sig)})
	return err
}

func (s *Server) end(ctx context.Context, name string, sig syscall.Signal) error {
	if err := s.Signal(name, sig); err != nil {
		return err
	}
	return waitFor(ctx, time.Millisecond, func() (bool, error) {
		states, err := s.Processes()
		if err != nil {
			return false, err
		}
		i := slices.IndexFunc(states, func(p inside.State) bool { return p.Name == name })
		return i < 0 || !states[i].Running(), nil
	})
}

// Processes lists what was started since power-on, by name, and how it ended.
func (s *Server) Processes() ([]inside.State, error) {
	reply, err := s.ask(inside.Request{Op: inside.List})
	return reply.States, err
}

// Running says whether a process of that name exists.
func (s *Server) Running(name string) bool {
	states, err := s.Processes()
	return err == nil && slices.ContainsFunc(states, func(p inside.State) bool { return p.Name == name && p.Running() })
}

// LogFile is where the output of a process is found on this machine. It grows
// over power cuts and is lost with the lab.
func (s *Server) LogFile(name string) string { return s.data("log", name+".log") }

var errOff = errors.New("the server is off")

func (s *Server) ask(req inside.Request) (inside.Reply, error) {
	if !s.On() {
		return inside.Reply{}, fmt.Errorf("%s: %s %s: %w", s.Name(), req.Op, req.Process.Name, errOff)
	}
	reply, err := inside.Ask(s.Path(inside.Socket), req)
	if err != nil {
		return reply, fmt.Errorf("%s: %w", s.Name(), err)
	}
	return reply, nil
}
