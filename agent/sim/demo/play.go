package demo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/agent/api"
	"github.com/holdfast-ha/holdfast/agent/sim/scenario"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// settle is how long a scenario's time 0 lies behind the start: by then its VMs run.
const settle = 3 * time.Second

// operator is who gives the commands of a scenario and of the control socket.
var operator = pki.Identity{Name: "operator", Role: pki.RoleAdmin}

// play carries out the time line of a scenario in real time. What it expects is not judged here: `simulate` does that.
func (d *demo) play(ctx context.Context) {
	start := time.Now().Add(settle)
	at := time.Duration(0)
	for _, st := range d.file.Lines {
		switch st.When {
		case scenario.At:
			at = max(at, st.Time)
		case scenario.After:
			at += st.Time
		case scenario.Bare:
		}
		if clock.Real().Sleep(ctx, time.Until(start.Add(at))) != nil {
			return
		}
		switch st.Kind {
		case scenario.Hold:
			at += st.Length
			continue
		case scenario.By:
			at = max(at, st.Until)
			continue
		case scenario.Expect, scenario.Never:
			continue
		case scenario.Fault, scenario.Command:
		}
		d.say("%s", st.Text)
		if err := d.carryOut(ctx, st); err != nil {
			d.say("%s: %v", st.Text, err)
		}
	}
}

// carryOut does one statement: an operator's command through the API, or a fault.
func (d *demo) carryOut(ctx context.Context, st scenario.Statement) error {
	if st.Server == "leader" {
		if st.Server = d.leader(); st.Server == "" {
			return fmt.Errorf("nobody leads at this moment: %w", pool.ErrRefused)
		}
	}
	if f, ok := faults[st.Verb]; ok {
		d.paced.Do(func() { f(d.world.Server(st.Server)) })
		return nil
	}
	if f, ok := commands[st.Verb]; ok {
		return d.command(ctx, st, f)
	}
	return d.other(st)
}

// commandLimit bounds one command: it is given to another agent when the first does not answer.
const commandLimit = 10 * time.Second

// command gives an operator's command to the agents, one after the other until one takes it.
func (d *demo) command(ctx context.Context, st scenario.Statement, f func(context.Context, *api.Server, scenario.Statement) error) error {
	ctx, cancel := context.WithTimeout(rpc.WithIdentity(ctx, operator), commandLimit)
	defer cancel()
	err := fmt.Errorf("no agent runs: %w", pool.ErrUnavailable)
	for _, n := range d.names {
		d.crew.mu.Lock()
		r := d.crew.agents[n]
		d.crew.mu.Unlock()
		if r == nil {
			continue
		}
		if err = f(ctx, r.agent.API(), st); !errors.Is(err, pool.ErrUnavailable) {
			return err
		}
	}
	return err
}

// commands of operators, by the words of the scenario language.
var commands = map[string]func(context.Context, *api.Server, scenario.Statement) error{
	"start": func(ctx context.Context, a *api.Server, st scenario.Statement) error {
		_, err := a.StartVM(ctx, &pb.StartVMRequest{Vm: st.VM})
		return err
	},
	"stop": func(ctx context.Context, a *api.Server, st scenario.Statement) error {
		_, err := a.StopVM(ctx, &pb.StopVMRequest{Vm: st.VM})
		return err
	},
	"kill": func(ctx context.Context, a *api.Server, st scenario.Statement) error {
		_, err := a.KillVM(ctx, &pb.KillVMRequest{Vm: st.VM})
		return err
	},
	"restart": func(ctx context.Context, a *api.Server, st scenario.Statement) error {
		_, err := a.RestartVM(ctx, &pb.RestartVMRequest{Vm: st.VM})
		return err
	},
	"clear": func(ctx context.Context, a *api.Server, st scenario.Statement) error {
		_, err := a.ClearVM(ctx, &pb.ClearVMRequest{Vm: st.VM})
		return err
	},
	"migrate": func(ctx context.Context, a *api.Server, st scenario.Statement) error {
		_, err := a.MigrateVM(ctx, &pb.MigrateVMRequest{Vm: st.VM, Server: st.Server})
		return err
	},
	"relocate": func(ctx context.Context, a *api.Server, st scenario.Statement) error {
		_, err := a.RelocateVM(ctx, &pb.RelocateVMRequest{Vm: st.VM, Server: st.Server})
		return err
	},
	"maintenance enter": func(ctx context.Context, a *api.Server, st scenario.Statement) error {
		_, err := a.EnterMaintenance(ctx, &pb.EnterMaintenanceRequest{Server: st.Server})
		return err
	},
	"maintenance exit": func(ctx context.Context, a *api.Server, st scenario.Statement) error {
		_, err := a.ExitMaintenance(ctx, &pb.ExitMaintenanceRequest{Server: st.Server})
		return err
	},
	"inbound-lock on":  lock(true),
	"inbound-lock off": lock(false),
	"ha on":            ha(true),
	"ha off":           ha(false),
	"freeze":           freeze(true),
	"unfreeze":         freeze(false),
	"confirm-fenced": func(ctx context.Context, a *api.Server, st scenario.Statement) error {
		_, err := a.ConfirmFenced(ctx, &pb.ConfirmFencedRequest{Server: st.Server, TypedName: st.Server, Why: "looked at it"})
		return err
	},
	"set": func(ctx context.Context, a *api.Server, st scenario.Statement) error {
		_, err := a.UpdateVM(ctx, &pb.UpdateVMRequest{Vm: st.VM, Set: settingsOf(st)})
		return err
	},
	"set pool": func(ctx context.Context, a *api.Server, st scenario.Statement) error {
		_, err := a.UpdatePool(ctx, &pb.UpdatePoolRequest{Set: settingsOf(st)})
		return err
	},
}

func lock(on bool) func(context.Context, *api.Server, scenario.Statement) error {
	return func(ctx context.Context, a *api.Server, st scenario.Statement) error {
		_, err := a.SetInboundLock(ctx, &pb.SetInboundLockRequest{Server: st.Server, On: on})
		return err
	}
}

func ha(on bool) func(context.Context, *api.Server, scenario.Statement) error {
	return func(ctx context.Context, a *api.Server, st scenario.Statement) error {
		if st.VM == "" {
			_, err := a.SetPoolHA(ctx, &pb.SetPoolHARequest{On: on})
			return err
		}
		_, err := a.SetVMHA(ctx, &pb.SetVMHARequest{Vms: []string{st.VM}, On: on})
		return err
	}
}

func freeze(on bool) func(context.Context, *api.Server, scenario.Statement) error {
	return func(ctx context.Context, a *api.Server, _ scenario.Statement) error {
		_, err := a.SetFreeze(ctx, &pb.SetFreezeRequest{Frozen: on})
		return err
	}
}

func settingsOf(st scenario.Statement) map[string]string {
	set := map[string]string{}
	for _, s := range st.Settings {
		set[s.Key] = s.Value
	}
	return set
}

// readScenario makes a pool and a time line of a scenario's text.
func readScenario(name, text string) (*scenario.File, error) {
	f, err := scenario.Parse(name, text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, pool.ErrInvalid)
	}
	if len(f.Servers) > mostServers {
		return nil, fmt.Errorf("%s: %d servers; the demo has ports for %d: %w", name, len(f.Servers), mostServers, pool.ErrInvalid)
	}
	for _, st := range f.Lines {
		if st.Kind != scenario.Fault && st.Kind != scenario.Command {
			continue
		}
		if !playable(st) {
			return nil, fmt.Errorf("%s:%d: the demo cannot do %q: %w", name, st.Line, strings.TrimSpace(st.Text), pool.ErrInvalid)
		}
	}
	return f, nil
}

// mostServers bounds the agents of a demo: each takes one port.
const mostServers = 20

// playable reports whether the demo knows what a statement does.
func playable(st scenario.Statement) bool {
	if faults[st.Verb] != nil || commands[st.Verb] != nil {
		return true
	}
	switch st.Verb {
	case "cut", "cut etcd", "heal", "heal all", "vm crash", "guest shutdown", "guest panic", "etcd down", "etcd up":
		return true
	}
	return false
}
