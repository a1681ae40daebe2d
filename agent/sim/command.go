package sim

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/agent/sim/scenario"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// commandLimit bounds the wait for an operator command's answer.
const commandLimit = 30 * time.Second

// Answer is what became of the latest operator command.
type Answer struct {
	Given bool
	// Err is why it was refused or failed; nil if it was accepted.
	Err       error
	Operation pool.OperationID
	// latest is the latest operation, which a later command may have made none after.
	latest pool.OperationID
	// ended says of a command that makes no operation, but takes a while, whether it has come to its end; nil for others.
	ended func() bool
}

// command has an agent that reaches etcd carry out an operator command, and runs until it has answered. What
// concerns only the simulated guest, or the simulator, is done here.
func (p *Pool) command(st scenario.Statement) error {
	var err error
	if st.Server, err = p.named(st.Server); err != nil {
		return err
	}
	if st.New != nil {
		p.World.AddVM(st.New.Sim)
	}
	st, only := p.simSettings(st)
	st.Operation = string(p.answered.latest)
	p.answered = Answer{Given: true, latest: p.answered.latest}
	if only {
		return nil
	}
	p.trace.add("operator: %s", st.Text)
	if st.Verb == "shutdown" || st.Verb == "reboot" {
		s, reboot := p.World.Server(st.Server), st.Verb == "reboot"
		boot := s.BootID()
		p.answered.latest = ""
		p.answered.ended = func() bool { return !s.Powered() || reboot && s.BootID() != boot && s.Booted() }
		s.GoDown(reboot)
		p.version++
		return nil
	}
	answered := false
	if err := p.ask(st, func(op pool.OperationID, err error) {
		answered = true
		p.answered.Operation, p.answered.Err = op, err
	}); err != nil {
		p.answered.Err = err
		answered = true
	}
	limit := p.Sched.Now() + commandLimit
	for !answered && p.Sched.Now() < limit {
		if err := p.step(); err != nil {
			return err
		}
	}
	if !answered {
		p.answered.Err = fmt.Errorf("no answer within %v: %w", commandLimit, pool.ErrOutcomeUnknown)
	}
	if op := p.answered.Operation; op != "" {
		p.answered.latest = op
	}
	if p.answered.Err != nil {
		p.trace.add("refused: %v", p.answered.Err)
	} else {
		p.trace.add("accepted")
	}
	return nil
}

// ask starts the command in the process of an agent that reaches etcd. If that dies, there is no answer.
func (p *Pool) ask(st scenario.Statement, answer func(pool.OperationID, error)) error {
	var able []string
	for _, s := range p.World.Servers() {
		a := p.crew.Agent(s.Name)
		if a == nil || s.Agent() == nil || s.Agent().Hung() || a.Snapshot() == nil {
			continue
		}
		if p.Etcd.Reaches(s.Name) && !p.Etcd.Frozen(s.Name) {
			able = append(able, s.Name)
		}
	}
	if len(able) == 0 {
		return fmt.Errorf("no agent reaches etcd: %w", pool.ErrUnavailable)
	}
	name := able[p.Sched.Rand().IntN(len(able))]
	agent, proc := p.crew.Agent(name), p.World.Server(name).Agent()
	known := p.truth.snapshot().Revision
	proc.Go("operator "+st.Verb, func() {
		ctx, cancel := proc.WithTimeout(context.Background(), commandLimit)
		defer cancel()
		// Operators know what they have just been told, by whichever agent.
		for tries := 0; !p.lenient && agent.Snapshot().Revision < known && tries < 1000; tries++ {
			if proc.Sleep(ctx, time.Millisecond) != nil {
				break
			}
		}
		answer(agent.Do(ctx, st))
	})
	return nil
}

// simSettings carries out what of a command concerns only the simulation, and returns the rest; only is true if
// nothing remains.
func (p *Pool) simSettings(st scenario.Statement) (rest scenario.Statement, only bool) {
	if st.Verb != "set" && st.Verb != "set pool" {
		return st, false
	}
	var remain []scenario.Setting
	for _, s := range st.Settings {
		if !p.simSetting(st, s) {
			remain = append(remain, s)
		}
	}
	st.Settings = remain
	return st, len(remain) == 0
}

func (p *Pool) simSetting(st scenario.Statement, s scenario.Setting) bool {
	if st.Verb == "set pool" && (s.Key == "start-delay" || s.Key == "migrate-rate") {
		pl := p.File.Pool
		if err := pl.ApplyPool(s); err != nil {
			return false
		}
		p.World.SetRates(pl.StartDelay, pl.MigrateRate)
		return true
	}
	im := p.World.Image(pool.VMID(st.VM))
	if st.Verb == "set" && scenario.Defined(s.Key) {
		return p.redefine(pool.VMID(st.VM), s)
	}
	if st.Verb != "set" || !scenario.SimOnly(s.Key) || im == nil {
		return false
	}
	v := scenario.VM{Sim: im.VMSpec}
	if err := v.ApplySim(s); err != nil {
		return false
	}
	p.World.AddVM(v.Sim)
	return true
}

// redefine changes what stands in a VM's definition and not in the pool's policy for it, as if it had been edited.
func (p *Pool) redefine(id pool.VMID, s scenario.Setting) bool {
	vm, ok := p.truth.snapshot().VMs.Get(id)
	if !ok {
		return false
	}
	v := scenario.VM{VM: vm, Sim: p.World.Image(id).VMSpec}
	if err := v.Redefine(s); err != nil {
		return false
	}
	v.XML = DomainXML(v.VM)
	p.World.AddVM(v.Sim)
	p.World.Image(id).Redefined(v.XML)
	p.Etcd.Seed([]kv.Op{p.Keys.PutVM(v.VM)})
	return true
}

// refusal says why the latest command was refused: by its handler, or at admission later on. ok is false if it was
// not.
func (p *Pool) refusal() (why string, ok bool) {
	a := p.answered
	switch {
	case !a.Given:
		return "", false
	case a.Err != nil:
		return a.Err.Error() + codeOf(a.Err), true
	case a.Operation == "":
		return "", false
	}
	op, found := p.truth.snapshot().Operations.Get(a.Operation)
	if found && op.Outcome == pool.OutcomeFailed && (op.Phase == "refused" || op.Phase == "failed" && p.untouched(op)) {
		return op.Error, true
	}
	return "", false
}

// codeOf is what the API answers besides the sentence of a refusal: its code, in words.
func codeOf(err error) string {
	var r *pool.Refusal
	if !errors.As(err, &r) || r.Code == "" {
		return ""
	}
	return " (" + strings.ToLower(strings.ReplaceAll(r.Code, "_", " ")) + ")"
}

// untouched reports whether an operation failed before anything was done for it.
func (p *Pool) untouched(op pool.Operation) bool {
	if op.VM == "" {
		return false
	}
	c, _ := p.truth.snapshot().Claims.Get(op.VM)
	return c.Epoch == op.StartEpoch && op.Kind == pool.OperationMigrate && op.Progress.BytesDone == 0 && c.Incoming == nil
}
