package sim

import (
	"fmt"
	"time"

	"github.com/holdfast-ha/holdfast/agent/sim/scenario"
	"github.com/holdfast-ha/holdfast/agent/sim/simnet"
	"github.com/holdfast-ha/holdfast/agent/sim/world"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// serverFaults are the faults of one server's machine and programs.
var serverFaults = map[string]func(*world.Server){
	"power off":      func(s *world.Server) { s.PowerOff("") },
	"power on":       (*world.Server).PowerOn,
	"agent kill":     (*world.Server).KillAgent,
	"agent start":    (*world.Server).StartAgent,
	"agent hang":     (*world.Server).HangAgent,
	"agent resume":   (*world.Server).ResumeAgent,
	"agent stop":     func(s *world.Server) { s.StopAgent(false) },
	"agent restart":  func(s *world.Server) { s.StopAgent(true) },
	"agent upgrade":  func(s *world.Server) { s.Version = ""; s.StopAgent(true) },
	"guard kill":     (*world.Server).KillGuard,
	"guard hang":     (*world.Server).HangGuard,
	"guard start":    (*world.Server).StartGuard,
	"libvirtd kill":  (*world.Server).KillLibvirtd,
	"libvirtd start": (*world.Server).StartLibvirtd,
	"storage off":    (*world.Server).CutStorage,
	"storage on":     (*world.Server).MendStorage,
	"fence fails":    func(s *world.Server) { s.FenceWorks(false) },
	"fence works":    func(s *world.Server) { s.FenceWorks(true) },
}

// poolFaults are the faults of etcd, the network and guests.
var poolFaults = map[string]func(*Pool, scenario.Statement) error{
	"cut":       func(p *Pool, st scenario.Statement) error { p.Net.Cut(st.Server, simnet.All); return nil },
	"cut etcd":  func(p *Pool, st scenario.Statement) error { p.Net.Cut(st.Server, simnet.Etcd); return nil },
	"cut peers": func(p *Pool, st scenario.Statement) error { p.Net.Cut(st.Server, simnet.Mesh); return nil },
	"cut from":  func(p *Pool, st scenario.Statement) error { p.Net.CutPair(st.Server, st.Other); return nil },
	"cut to etcd": func(p *Pool, st scenario.Statement) error {
		p.etcdPlaces(func(place string) { p.Net.CutOneWay(st.Server, place, simnet.Etcd) })
		return nil
	},
	"cut etcd to": (*Pool).cutAnswers,
	"cut to": func(p *Pool, st scenario.Statement) error {
		p.Net.CutOneWay(st.Server, st.Other, simnet.All)
		return nil
	},
	"heal":        func(p *Pool, st scenario.Statement) error { p.Net.Heal(st.Server); return nil },
	"heal all":    func(p *Pool, _ scenario.Statement) error { p.Net.HealAll(); return nil },
	"slow":        func(p *Pool, st scenario.Statement) error { p.Net.Slow(st.Server, st.Length); return nil },
	"etcd down":   func(p *Pool, _ scenario.Statement) error { p.Etcd.Down(); return nil },
	"etcd up":     func(p *Pool, _ scenario.Statement) error { p.Etcd.Up(); return nil },
	"etcd freeze": func(p *Pool, st scenario.Statement) error { p.Etcd.Freeze(st.Server); return nil },
	"etcd thaw":   func(p *Pool, st scenario.Statement) error { p.Etcd.Thaw(st.Server); return nil },
	"split":       (*Pool).split,
	// What a stranger writes: agent/sim/stranger.go.
	"etcd delete claim":     (*Pool).deleteClaim,
	"etcd forge claim":      (*Pool).forgeClaim,
	"etcd forge claim held": (*Pool).forgeHeld,
	"etcd forge release":    (*Pool).forgeRelease,
	"etcd rollback claim":   (*Pool).rollbackClaim,
	"etcd delete member":    (*Pool).deleteMember,
	"etcd revoke lease":     (*Pool).revokeLease,
	"vm crash":              func(p *Pool, st scenario.Statement) error { return p.guest(st, p.World.Crash, "has no process") },
	"guest shutdown":        func(p *Pool, st scenario.Statement) error { return p.guest(st, p.World.GuestShutdown, "does not run") },
	"snapshot":              func(p *Pool, st scenario.Statement) error { return p.guest(st, p.World.Snapshot, "does not run") },
	"commit start":          func(p *Pool, st scenario.Statement) error { return p.guest(st, p.World.CommitStart, "does not run") },
	"commit pivot":          func(p *Pool, st scenario.Statement) error { return p.guest(st, p.World.CommitPivot, "does not run") },
	"guest panic":           func(p *Pool, st scenario.Statement) error { return p.guest(st, p.World.GuestPanic, "does not run") },
}

// fault makes one fault happen. The error says why it cannot.
func (p *Pool) fault(st scenario.Statement) error {
	var err error
	if st.Server, err = p.named(st.Server); err != nil {
		return err
	}
	if st.Other, err = p.named(st.Other); err != nil {
		return err
	}
	p.version++
	if f, ok := serverFaults[st.Verb]; ok {
		f(p.World.Server(st.Server))
		return nil
	}
	f, ok := poolFaults[st.Verb]
	if !ok {
		return fmt.Errorf("%s: the simulator has no such fault", st.Verb)
	}
	where := "network and etcd: "
	if st.VM != "" {
		where = ""
	}
	p.trace.add("%s%s", where, st.Text)
	return f(p, st)
}

// named replaces the word leader by the server that leads, or led last.
func (p *Pool) named(server string) (string, error) {
	if server != "leader" {
		return server, nil
	}
	if l := p.truth.snapshot().Leader.Server; l != "" {
		return string(l), nil
	}
	if p.lastLeader == "" {
		return "", fmt.Errorf("nobody has led yet")
	}
	return p.lastLeader, nil
}

func (p *Pool) split(st scenario.Statement) error {
	seen := map[string]bool{}
	groups := make([][]string, len(st.Groups))
	for i, g := range st.Groups {
		for _, s := range g {
			name, err := p.named(s)
			if err != nil {
				return err
			}
			if seen[name] {
				return fmt.Errorf("server %s is in two groups", name)
			}
			seen[name] = true
			groups[i] = append(groups[i], name)
		}
	}
	i, ok := scenario.Larger(groups)
	if !ok {
		return fmt.Errorf("no group is larger than every other")
	}
	p.Net.Split(groups, i)
	return nil
}

// unanswered is how long a connection goes on to carry what is said to it without any answer: TCP sends nothing new until what
// it has sent is acknowledged.
const unanswered = time.Second

// cutAnswers loses all that etcd says to a server from now on, and soon all that the server says to it.
func (p *Pool) cutAnswers(st scenario.Statement) error {
	p.etcdPlaces(func(place string) {
		p.Net.CutOneWay(place, st.Server, simnet.Etcd)
		p.Sched.After(unanswered, func() {
			if !p.Net.Open(place, st.Server, simnet.Etcd) {
				p.Net.CutOneWay(st.Server, place, simnet.Etcd)
			}
		})
	})
	return nil
}

// etcdPlaces calls f with each place where etcd is reached.
func (p *Pool) etcdPlaces(f func(place string)) {
	places := p.Etcd.Voters()
	if len(places) == 0 {
		places = []string{simnet.Site}
	}
	for _, place := range places {
		f(place)
	}
}

// errNothing says why a fault has no effect: there is nothing that it could befall.
type errNothing string

// Error implements error.
func (e errNothing) Error() string { return string(e) }

func (p *Pool) guest(st scenario.Statement, do func(pool.VMID) bool, not string) error {
	if !do(pool.VMID(st.VM)) {
		return errNothing(fmt.Sprintf("%s %s at this moment", st.VM, not))
	}
	return nil
}
