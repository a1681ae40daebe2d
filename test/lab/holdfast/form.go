package holdfast

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/test/lab"
)

// PoolName is what the lab's pool is called.
const PoolName = "lab"

// agentPort is the agents' default port.
const agentPort = "7400"

// Options says what kind of pool to make. The zero value is a pool as `holdfast-agent init` makes it.
type Options struct {
	// TTL is the pool's lease time; zero leaves the default.
	TTL time.Duration
	// HA switches the pool's half of HA on, if it has more than one server.
	HA bool
	// Progress hears one line for each step; nil is silence.
	Progress func(string)
}

// Form makes a pool of all servers of a lab, which must be on and new: init on the first, a token and join for each
// of the others. It returns when all are members. From then on each server starts Holdfast at power-on.
func Form(ctx context.Context, l *lab.Lab, o Options) (*Pool, error) {
	say := o.Progress
	if say == nil {
		say = func(string) {}
	}
	if _, err := os.Stat(l.Agent()); err != nil {
		return nil, fmt.Errorf("no holdfast-agent to run: make build: %w", err)
	}
	servers := l.Servers()
	for i, s := range servers {
		if err := enter(ctx, servers[0], s, i == 0, say); err != nil {
			return nil, fmt.Errorf("%s into the pool: %w", s.Name(), err)
		}
	}
	p, err := Open(l)
	if err != nil {
		return nil, err
	}
	if err := p.settle(ctx, o, len(servers)); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// enter makes one server part of the pool and starts Holdfast on it.
func enter(ctx context.Context, first, s *lab.Server, found bool, say func(string)) error {
	args, shown := []string{"holdfast-agent", "init", "--pool", PoolName}, "holdfast-agent init --pool "+PoolName
	if !found {
		token, err := newToken(ctx, first)
		if err != nil {
			return err
		}
		args, shown = []string{"holdfast-agent", "join", token}, "holdfast-agent join TOKEN"
	}
	// Name and address are found by themselves, as on a real server.
	args = append(args, "--storage", s.SharedDir())
	say(s.Name() + ": " + shown + " --storage " + s.SharedDir())
	if _, err := s.Exec(ctx, args...); err != nil {
		return err
	}
	if err := Configure(s); err != nil {
		return err
	}
	if err := s.Enable(lab.Etcd, lab.Guard, lab.Agent); err != nil {
		return err
	}
	for _, process := range []string{lab.Etcd, lab.Guard, lab.Agent} {
		if err := s.Start(process); err != nil {
			return err
		}
	}
	if found {
		return untilAnswers(ctx, s)
	}
	return nil
}

// newToken asks for a join token until the first server's pool is up.
func newToken(ctx context.Context, first *lab.Server) (string, error) {
	out, err := first.Exec(ctx, "holdfast-agent", "token", "create")
	if err != nil {
		return "", err
	}
	lines := strings.Fields(out)
	if len(lines) == 0 {
		return "", fmt.Errorf("token create printed %q", out)
	}
	return lines[0], nil
}

// labSettings is what an operator would write into a server's settings. A lab's guards must not get hold of this
// machine's own watchdog: pulling a server's plug would reset the machine. And libvirt does not know that all servers
// see the folder of the disks, which do not use its cache.
const labSettings = `
guard:
  watchdog: "off"
migration:
  unsafe: true
`

// Configure gives a server that was just set up the settings that a lab needs.
func Configure(s *lab.Server) error {
	path := s.Path("/etc/holdfast/config.yaml")
	have, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if strings.Contains(string(have), "\nguard:") {
		return fmt.Errorf("%s has settings of the guard already", path)
	}
	return os.WriteFile(path, append(have, labSettings...), 0o600)
}

func untilAnswers(ctx context.Context, s *lab.Server) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return until(ctx, s.Name()+" answers", func() (bool, string) {
		_, err := s.Exec(ctx, "holdfast", "status")
		return err == nil, errText(err)
	})
}

// settle waits until every server is a member, and sets the pool's policy.
func (p *Pool) settle(ctx context.Context, o Options, servers int) error {
	wait, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := p.UntilUp(wait); err != nil {
		return err
	}
	if o.TTL > 0 {
		if err := p.SetPool(ctx, "ttl", o.TTL.String()); err != nil {
			return err
		}
		if err := p.UntilLeases(wait, o.TTL); err != nil {
			return err
		}
	}
	if err := p.UntilVoters(wait, 3); err != nil {
		return err
	}
	if o.HA && servers > 1 {
		return p.SwitchHA(ctx, true)
	}
	return nil
}

// Formed says whether the lab's first server has been made part of a pool.
func Formed(l *lab.Lab) bool {
	servers := l.Servers()
	if len(servers) == 0 {
		return false
	}
	_, err := os.Stat(servers[0].Path(filepath.Join("/etc/holdfast", "client.yaml")))
	return err == nil
}
