package search

import (
	"slices"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/agent/sim"
	"github.com/holdfast-ha/holdfast/agent/sim/scenario"
)

// shrinker makes a failing draft smaller.
type shrinker struct {
	best      draft
	seed      uint64
	invariant int
	tamper    sim.Tamper
	// left is how many runs may still be made.
	left int
	last *sim.Failure
}

// shrink drops and shortens what it can from d, which breaks an invariant with seed.
func (s *shrinker) shrink() {
	for size := -1; s.left > 0 && size != s.size(); {
		size = s.size()
		s.dropSteps()
		s.dropServers()
		s.dropVMs()
		s.dropOptions()
		s.shorten()
	}
}

// size is what shrinking makes smaller: letters, and time.
func (s *shrinker) size() int {
	n := len(s.best.text())
	if k := len(s.best.steps); k > 0 {
		n += int(s.best.steps[k-1].at / time.Second)
	}
	return n
}

// try keeps a candidate that still breaks the invariant. Seed 1 is tried first: it is what `simulate` uses.
func (s *shrinker) try(d draft) bool {
	f, err := d.parse("shrinking")
	if err != nil || !Honest(f) {
		return false
	}
	seeds := []uint64{1, s.seed}
	if s.seed == 1 {
		seeds = seeds[:1]
	}
	for _, seed := range seeds {
		if s.left <= 0 {
			return false
		}
		s.left--
		r := sim.Run(f, sim.Options{Seed: seed, Tamper: s.tamper, Lenient: true})
		fail, ok := broken(r, s.invariant)
		if !ok {
			continue
		}
		d = d.withoutLines(r.Skipped)
		s.best, s.seed, s.last = d, seed, fail
		return true
	}
	return false
}

// broken returns a run's failure if it is of the invariant; 0 stands for trouble of the simulation itself.
func broken(r sim.Result, invariant int) (*sim.Failure, bool) {
	fail := failureOf(r)
	return fail, fail != nil && fail.Invariant == invariant
}

// dropSteps drops ever smaller pieces of the time line.
func (s *shrinker) dropSteps() {
	for n := len(s.best.steps); n >= 1; n /= 2 {
		for i := max(0, len(s.best.steps)-n); ; i -= n {
			i = max(i, 0)
			if i < len(s.best.steps) {
				d := s.best.clone()
				d.steps = slices.Delete(d.steps, i, min(i+n, len(d.steps)))
				s.try(d)
			}
			if i == 0 {
				break
			}
		}
	}
}

func (s *shrinker) dropVMs() {
	for i := len(s.best.vms) - 1; i >= 0; i-- {
		d := s.best.clone()
		name := d.vms[i][0]
		d.vms = slices.Delete(d.vms, i, i+1)
		d.steps = slices.DeleteFunc(d.steps, func(st step) bool { return mentions(st.words, name) })
		s.try(d)
	}
}

func (s *shrinker) dropServers() {
	for i := len(s.best.servers) - 1; i >= 0; i-- {
		if i >= len(s.best.servers) {
			continue
		}
		d := s.best.clone()
		name := d.servers[i][0]
		d.servers = slices.Delete(d.servers, i, i+1)
		d.steps = slices.DeleteFunc(d.steps, func(st step) bool { return mentions(st.words, name) })
		for j := range d.vms {
			d.vms[j] = slices.DeleteFunc(d.vms[j], func(w string) bool { return mentions(w, name) })
		}
		if d.leader == name {
			d.leader = ""
		}
		s.try(d)
	}
}

// mentions reports whether name is one of the names in words.
func mentions(words, name string) bool {
	return slices.Contains(strings.FieldsFunc(words, func(r rune) bool { return strings.ContainsRune(" =,/@", r) }), name)
}

// dropOptions drops each KEY=VALUE of the set-up, and the word leader.
func (s *shrinker) dropOptions() {
	for i := len(s.best.pool) - 1; i >= 0; i-- {
		d := s.best.clone()
		d.pool = slices.Delete(d.pool, i, i+1)
		s.try(d)
	}
	if s.best.leader != "" {
		d := s.best.clone()
		d.leader = ""
		s.try(d)
	}
	s.dropWords(func(d *draft) [][]string { return d.servers })
	s.dropWords(func(d *draft) [][]string { return d.vms })
}

func (s *shrinker) dropWords(of func(*draft) [][]string) {
	for i := range of(&s.best) {
		for j := len(of(&s.best)[i]) - 1; j >= 1; j-- {
			d := s.best.clone()
			lines := of(&d)
			lines[i] = slices.Delete(lines[i], j, j+1)
			s.try(d)
		}
	}
}

// shorten brings statements nearer to those before them, and to round times.
func (s *shrinker) shorten() {
	for i := range s.best.steps {
		before := time.Duration(0)
		if i > 0 {
			before = s.best.steps[i-1].at
		}
		gap := s.best.steps[i].at - before
		for _, to := range []time.Duration{0, gap / 4, gap / 2, gap.Truncate(time.Second), gap.Truncate(100 * time.Millisecond)} {
			to = to.Truncate(time.Millisecond)
			if to >= gap {
				continue
			}
			d := s.best.clone()
			for j := i; j < len(d.steps); j++ {
				d.steps[j].at -= gap - to
			}
			if len(s.best.steps) == len(d.steps) && s.try(d) {
				break
			}
		}
		if i >= len(s.best.steps)-1 {
			break
		}
	}
}

// plain checks that a draft fails without leniency too, as whoever is handed the file will play it.
func plain(f *scenario.File, seed uint64, invariant int, tamper sim.Tamper) bool {
	_, ok := broken(sim.Run(f, sim.Options{Seed: seed, Tamper: tamper}), invariant)
	return ok
}
