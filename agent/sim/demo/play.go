package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-ha/holdfast/agent/sim"
	"github.com/holdfast-ha/holdfast/agent/sim/scenario"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// settle is how long a scenario's time 0 lies behind the start: by then its VMs run.
const settle = 3 * time.Second

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
	st, err := d.named(st)
	if err != nil {
		return err
	}
	if f, ok := faults[st.Verb]; ok {
		d.paced.Do(func() { f(d.world.Server(st.Server)) })
		return nil
	}
	if sim.Commanded(st.Verb) {
		return d.command(ctx, st)
	}
	return d.other(st)
}

// named has the word leader stand for the server that leads.
func (d *demo) named(st scenario.Statement) (scenario.Statement, error) {
	names := []*string{&st.Server, &st.Other}
	st.Groups = slices.Clone(st.Groups)
	for i := range st.Groups {
		st.Groups[i] = slices.Clone(st.Groups[i])
		for k := range st.Groups[i] {
			names = append(names, &st.Groups[i][k])
		}
	}
	for _, n := range names {
		if *n != "leader" {
			continue
		}
		if *n = d.leader(); *n == "" {
			return st, fmt.Errorf("nobody leads at this moment: %w", pool.ErrRefused)
		}
	}
	return st, nil
}

// commandLimit bounds one command: it is given to another agent when the first does not answer.
const commandLimit = 10 * time.Second

// command gives an operator's command to the agents, one after the other until one takes it.
func (d *demo) command(ctx context.Context, st scenario.Statement) error {
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	if st.New != nil {
		d.paced.Do(func() { d.world.AddVM(st.New.Sim) })
	}
	d.mu.Lock()
	st.Operation = string(d.latest)
	d.mu.Unlock()
	err := fmt.Errorf("no agent runs: %w", pool.ErrUnavailable)
	for _, n := range d.names {
		d.crew.mu.Lock()
		r := d.crew.agents[n]
		d.crew.mu.Unlock()
		if r == nil {
			continue
		}
		var op pool.OperationID
		if op, err = sim.Command(ctx, r.agent.API(), st); errors.Is(err, pool.ErrUnavailable) {
			continue
		}
		if op != "" {
			d.mu.Lock()
			d.latest = op
			d.mu.Unlock()
		}
		return err
	}
	return err
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
			return nil, fmt.Errorf("%s:%d: %w", name, st.Line, cannot(st))
		}
	}
	return f, nil
}

// mostServers bounds the agents of a demo: each takes one port.
const mostServers = 20

// playable reports whether the demo knows what a statement does.
func playable(st scenario.Statement) bool {
	return sim.Commanded(st.Verb) || slices.Contains(verbs(), st.Verb)
}
