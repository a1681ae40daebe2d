package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/agent/sim/scenario"
	"github.com/holdfast-ha/holdfast/agent/sim/simnet"
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
	"fence fails":    func(s *world.Server) { s.FenceWorks(false) },
	"fence works":    func(s *world.Server) { s.FenceWorks(true) },
	"shutdown":       func(s *world.Server) { s.GoDown(false) },
	"reboot":         func(s *world.Server) { s.GoDown(true) },
}

// ways are the faults of the network, and their ends.
var ways = map[string]func(*simnet.Network, scenario.Statement){
	"cut":       func(n *simnet.Network, st scenario.Statement) { n.Cut(st.Server, simnet.All) },
	"cut etcd":  func(n *simnet.Network, st scenario.Statement) { n.Cut(st.Server, simnet.Etcd) },
	"cut peers": func(n *simnet.Network, st scenario.Statement) { n.Cut(st.Server, simnet.Mesh) },
	"cut from":  func(n *simnet.Network, st scenario.Statement) { n.CutPair(st.Server, st.Other) },
	"heal":      func(n *simnet.Network, st scenario.Statement) { n.Heal(st.Server) },
	"heal all":  func(n *simnet.Network, _ scenario.Statement) { n.HealAll() },
	"split": func(n *simnet.Network, st scenario.Statement) {
		if i, ok := scenario.Larger(st.Groups); ok {
			n.Split(st.Groups, i)
		}
	},
}

// guests are what befalls a VM; false: it does not run.
var guests = map[string]func(*world.World, pool.VMID) bool{
	"vm crash":       (*world.World).Crash,
	"guest shutdown": (*world.World).GuestShutdown,
	"guest panic":    (*world.World).GuestPanic,
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
	if ways[st.Verb] != nil {
		d.say("%s", st.Text) // the world tells of the others itself
	}
	return d.carryOut(context.Background(), st)
}

// other carries out the statements that concern the network, etcd and guests.
func (d *demo) other(st scenario.Statement) error {
	if f, ok := ways[st.Verb]; ok {
		d.paced.Do(func() { f(d.crew.network, st) })
		return nil
	}
	if f, ok := guests[st.Verb]; ok {
		runs := true
		d.paced.Do(func() { runs = f(d.world, pool.VMID(st.VM)) })
		if !runs {
			return fmt.Errorf("%s does not run at this moment: %w", st.VM, pool.ErrRefused)
		}
		return nil
	}
	switch st.Verb {
	case "etcd down", "etcd up":
		d.crew.stopEtcd(st.Verb == "etcd down")
		return nil
	}
	return cannot(st)
}

// cannot says what the demo can do instead.
func cannot(st scenario.Statement) error {
	return fmt.Errorf("the demo cannot do %q; it can do operator commands and: %s: %w", strings.TrimSpace(st.Text), strings.Join(verbs(), ", "), pool.ErrRefused)
}

// verbs are the faults that the demo can play.
func verbs() []string {
	all := slices.Concat(slices.Collect(maps.Keys(faults)), slices.Collect(maps.Keys(ways)), slices.Collect(maps.Keys(guests)), []string{"etcd down", "etcd up"})
	slices.Sort(all)
	return all
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
