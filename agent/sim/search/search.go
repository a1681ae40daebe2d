package search

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/holdfast-ha/holdfast/agent/sim"
)

// Options of a search.
type Options struct {
	// Seed is the first seed, Runs how many seeds from there on are played.
	Seed uint64
	Runs int
	// Workers play at the same time; 0 means one.
	Workers int
	// MaxFound ends the search after so many failures; 0 means at the first.
	MaxFound int
	// ShrinkRuns bounds the runs that shrinking one failure may take.
	ShrinkRuns int
	// Dir is where minimal scenarios are written; empty for nowhere.
	Dir string
	// Tamper switches defences off.
	Tamper sim.Tamper
	// aim narrows the scenarios.
	aim aim
	// Tell gets a line about each failure as it is found; nil for nobody.
	Tell func(string)
}

// Find is one failure.
type Find struct {
	// Seed made the scenario and its run.
	Seed      uint64
	Invariant int
	// Message is of the run of the seed; Shrunk is the smallest scenario that fails in the same way, with seed RunSeed.
	Message string
	Shrunk  string
	RunSeed uint64
	// File holds Shrunk.
	File string
}

// Run plays scenarios and collects what breaks.
func Run(o Options) *Report {
	total := &Report{Coverage: newCoverage()}
	var mu sync.Mutex
	var next, found atomic.Int64
	var wg sync.WaitGroup
	for range max(1, o.Workers) {
		wg.Go(func() {
			for {
				n := next.Add(1) - 1
				if n >= int64(o.Runs) || found.Load() >= int64(max(1, o.MaxFound)) {
					return
				}
				one := o.play(o.Seed + uint64(n))
				found.Add(int64(len(one.Found)))
				mu.Lock()
				total.merge(one)
				if o.Tell != nil {
					for _, f := range one.Found {
						o.Tell(f.String())
					}
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	slices.SortFunc(total.Found, func(a, b Find) int { return int(a.Seed) - int(b.Seed) })
	return total
}

func (r *Report) merge(o *Report) {
	r.Runs += o.Runs
	r.Unsettled += o.Unsettled
	r.Virtual += o.Virtual
	r.Events += o.Events
	r.Coverage.add(o.Coverage)
	r.Found = append(r.Found, o.Found...)
}

// play plays the scenario of one seed.
func (o Options) play(seed uint64) *Report {
	rep := &Report{Runs: 1, Coverage: newCoverage()}
	d := generate(seed, o.aim)
	f, err := d.parse(fmt.Sprintf("seed-%d", seed))
	if err != nil {
		rep.Found = []Find{{Seed: seed, Message: "the generated scenario is wrong: " + err.Error(), Shrunk: d.text()}}
		return rep
	}
	r := sim.Run(f, sim.Options{Seed: seed, Tamper: o.Tamper, Lenient: true, Begin: rep.watch})
	rep.Virtual, rep.Events = r.Virtual, r.Events
	if r.Unsettled {
		rep.Unsettled = 1
		return rep
	}
	rep.statements(f, r.Skipped)
	if fail := failureOf(r); fail != nil {
		rep.Found = []Find{o.found(d.withoutLines(r.Skipped), seed, fail)}
	}
	return rep
}

// failureOf returns how a run failed; trouble of the simulation itself is a failure of no invariant.
func failureOf(r sim.Result) *sim.Failure {
	var fail *sim.Failure
	if r.Err == nil || r.Unsettled || errors.As(r.Err, &fail) {
		return fail
	}
	return &sim.Failure{File: r.File, Expected: "a simulation without trouble of its own", Seen: r.Err.Error()}
}

// found shrinks a failure and writes it to a file.
func (o Options) found(d draft, seed uint64, fail *sim.Failure) Find {
	s := &shrinker{best: d, seed: seed, invariant: fail.Invariant, tamper: o.Tamper, left: o.ShrinkRuns, last: fail}
	s.shrink()
	out := Find{Seed: seed, Invariant: fail.Invariant, Message: fail.Error(), RunSeed: s.seed}
	note := ""
	if f, err := s.best.parse("shrunk"); err != nil || !plain(f, s.seed, fail.Invariant, o.Tamper) {
		note = "# It fails only while faults that cannot happen are skipped.\n"
	}
	out.Shrunk = fmt.Sprintf("# Found by the search, seed %d: %s; seen: %s\n# Play it with --seed %d.\n%s%s", seed, s.last.Expected, s.last.Seen, s.seed, note, s.best.text())
	if o.Dir == "" {
		return out
	}
	path := filepath.Join(o.Dir, fmt.Sprintf("seed-%d.scenario", seed))
	if err := os.WriteFile(path, []byte(out.Shrunk), 0o600); err != nil {
		out.File = err.Error()
	} else {
		out.File = path
	}
	return out
}

// String says what was found, and where its smallest scenario is.
func (f Find) String() string {
	return fmt.Sprintf("seed %d: %s\n%s: play it with --seed %d\n%s", f.Seed, f.Message, f.File, f.RunSeed, f.Shrunk)
}
