package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/agent/sim/scenario"
	"github.com/holdfast-ha/holdfast/agent/sim/world"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// ControlPath is where a demo of this user takes statements.
func ControlPath() string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("holdfast-demo-%d.sock", os.Getuid()))
}

// listenControl opens the control socket, in place of one that a demo left behind that is gone.
func listenControl(path string) (net.Listener, error) {
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = c.Close() // only asked whether somebody answers
		return nil, fmt.Errorf("a demo is running already: it answers at %s", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("control socket: %w", err), l.Close())
	}
	return l, nil
}

// Tell sends one statement to the demo at path and returns its answer.
func Tell(path, statement string) (string, error) {
	c, err := net.DialTimeout("unix", path, time.Second)
	if err != nil {
		return "", fmt.Errorf("no demo runs here; start one with: holdfast-agent demo: %w", pool.ErrUnavailable)
	}
	defer func() { _ = c.Close() }() // the answer was read
	if _, err := fmt.Fprintln(c, statement); err != nil {
		return "", fmt.Errorf("tell the demo: %w", err)
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("the demo's answer: %w", err)
	}
	if text, refused := strings.CutPrefix(strings.TrimSpace(line), "refused: "); refused {
		return "", fmt.Errorf("%s", text)
	}
	return strings.TrimSpace(line), nil
}

// takeStatements answers each connection until the listener is closed.
func (d *demo) takeStatements(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = c.Close() }() // the answer is sent
			line, err := bufio.NewReader(c).ReadString('\n')
			if err != nil {
				return
			}
			answer := "done"
			if err := d.do(strings.TrimSpace(line)); err != nil {
				answer = "refused: " + err.Error()
			}
			_, _ = fmt.Fprintln(c, answer) // the other end may be gone
		}()
	}
}

// faults of one server's machine and programs.
var faults = map[string]func(*world.Server){
	"power off":      func(s *world.Server) { s.PowerOff("") },
	"power on":       (*world.Server).PowerOn,
	"agent kill":     (*world.Server).KillAgent,
	"agent start":    (*world.Server).StartAgent,
	"agent stop":     func(s *world.Server) { s.StopAgent(false) },
	"agent restart":  func(s *world.Server) { s.StopAgent(true) },
	"guard kill":     (*world.Server).KillGuard,
	"guard hang":     (*world.Server).HangGuard,
	"guard start":    (*world.Server).StartGuard,
	"libvirtd kill":  (*world.Server).KillLibvirtd,
	"libvirtd start": (*world.Server).StartLibvirtd,
	"storage off":    (*world.Server).CutStorage,
	"storage on":     (*world.Server).MendStorage,
}

// do carries out one statement in the words of the scenario language.
func (d *demo) do(statement string) error {
	if strings.ContainsAny(statement, "\r\n#") || statement == "" {
		return fmt.Errorf("say what happens, such as: power off srv-2: %w", pool.ErrInvalid)
	}
	f, err := d.load(statement)
	if err != nil {
		return err
	}
	st := f.Lines[len(f.Lines)-1]
	return d.carryOut(context.Background(), st)
}

// other carries out the statements that concern the network and guests.
func (d *demo) other(st scenario.Statement) error {
	vm, ok := pool.VMID(st.VM), true
	switch st.Verb {
	case "cut", "cut etcd":
		d.crew.setCut(st.Server, true)
	case "heal":
		d.crew.setCut(st.Server, false)
	case "etcd down":
		for _, n := range d.names {
			d.crew.setCut(n, true)
		}
	case "heal all", "etcd up":
		for _, n := range d.names {
			d.crew.setCut(n, false)
		}
	case "vm crash":
		d.paced.Do(func() { ok = d.world.Crash(vm) })
	case "guest shutdown":
		d.paced.Do(func() { ok = d.world.GuestShutdown(vm) })
	case "guest panic":
		d.paced.Do(func() { ok = d.world.GuestPanic(vm) })
	default:
		return fmt.Errorf("the demo cannot do %q; it can cut and heal a server, power, agent, guard, libvirtd, storage, etcd down and up, vm crash, guest shutdown, guest panic, and operator commands: %w", st.Text, pool.ErrRefused)
	}
	if !ok {
		return fmt.Errorf("%s does not run at this moment: %w", st.VM, pool.ErrRefused)
	}
	if st.Server != "" {
		d.say("%s", st.Text)
	}
	return nil
}

// leader returns the server that leads, as any agent sees it; empty if nobody is known to.
func (d *demo) leader() string {
	d.crew.mu.Lock()
	defer d.crew.mu.Unlock()
	for _, n := range d.names {
		if r := d.crew.agents[n]; r != nil && r.agent.Reachable() {
			return string(r.agent.Snapshot().Leader.Server)
		}
	}
	return ""
}
