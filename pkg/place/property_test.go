package place

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// drawPool makes a pool of 1 to 5 servers, some VMs that run, and requests for others.
func drawPool(t *rapid.T) (*fixture, []Request) {
	var ids []pool.ServerID
	for i := range rapid.IntRange(1, 5).Draw(t, "servers") {
		ids = append(ids, pool.ServerID(fmt.Sprintf("s%d", i+1)))
	}
	f := newFixture(ids...)
	for _, id := range ids {
		f.member(id, func(m *pool.Member) { m.MemoryBytes = int64(rapid.IntRange(4, 16).Draw(t, "memory")) * gib })
		f.server(id, func(s *pool.Server) {
			s.Maintenance = rapid.IntRange(0, 5).Draw(t, "maintenance") == 0
			s.InboundLock = rapid.IntRange(0, 5).Draw(t, "lock") == 0
		})
		if rapid.IntRange(0, 7).Draw(t, "absent") == 0 {
			delete(f.members, id)
		}
	}
	var reqs []Request
	for i := range rapid.IntRange(1, 12).Draw(t, "vms") {
		id := pool.VMID(fmt.Sprintf("vm%02d", i))
		on := pool.ServerID("")
		if rapid.IntRange(0, 3).Draw(t, "runs") == 0 {
			on = rapid.SampledFrom(ids).Draw(t, "on")
		}
		vm := f.vm(id, int64(rapid.IntRange(1, 6).Draw(t, "size"))*gib, on, func(v *pool.VM) {
			v.Priority = pool.Priority(rapid.IntRange(1, 3).Draw(t, "priority"))
			v.Apart = rapid.SampledFrom([]string{"", "", "", "x"}).Draw(t, "apart")
			v.Together = rapid.SampledFrom([]string{"", "", "", "y"}).Draw(t, "together")
			if rapid.IntRange(0, 4).Draw(t, "require") == 0 {
				v.Require = []pool.ServerID{rapid.SampledFrom(ids).Draw(t, "required")}
			}
		})
		if on == "" {
			reqs = append(reqs, Request{VM: vm})
		}
	}
	return f, reqs
}

// naiveFits says the hard rules once more, without any index: may vm join those that run where at says?
func naiveFits(f *fixture, at map[pool.VMID]pool.ServerID, vm pool.VM, on pool.ServerID) bool {
	s, m := f.servers[on], f.members[on]
	if m.Session == 0 || s.Maintenance || s.InboundLock {
		return false
	}
	if len(vm.Require) > 0 && !slices.Contains(vm.Require, on) {
		return false
	}
	sum, bound, joined := vm.MemoryBytes, false, false
	for id, where := range at {
		other := f.vms[id]
		if where == on {
			sum += other.MemoryBytes
			if vm.Apart != "" && other.Apart == vm.Apart {
				return false
			}
		}
		if _, live := f.members[where]; live && vm.Together != "" && other.Together == vm.Together {
			bound = true
			joined = joined || where == on
		}
	}
	return sum <= m.MemoryBytes && (!bound || joined)
}

func running(f *fixture) map[pool.VMID]pool.ServerID {
	at := map[pool.VMID]pool.ServerID{}
	for id, c := range f.claims {
		at[id] = c.Server
	}
	return at
}

func TestABatchKeepsTheHardRulesAndAnswersForEveryVM(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, reqs := drawPool(t)
		choices := NewLoad(f.snapshot()).Batch(reqs)
		if len(choices) != len(reqs) {
			t.Fatalf("%d choices for %d requests", len(choices), len(reqs))
		}
		at := running(f)
		for _, c := range choices {
			if c.Why == "" {
				t.Fatalf("no reason for %s", c.VM)
			}
			if c.Server == "" {
				continue
			}
			if !naiveFits(f, at, f.vms[c.VM], c.Server) {
				t.Fatalf("%s does not fit on %s beside %v", c.VM, c.Server, at)
			}
			at[c.VM] = c.Server
		}
	})
}

func TestAVMIsRefusedOnlyIfTheNaiveRulesRefuseItEverywhere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, reqs := drawPool(t)
		at := running(f)
		for _, c := range NewLoad(f.snapshot()).Batch(reqs) {
			if c.Server != "" {
				at[c.VM] = c.Server
				continue
			}
			for on := range f.servers {
				if naiveFits(f, at, f.vms[c.VM], on) {
					t.Fatalf("%s was refused (%s), yet %s takes it", c.VM, c.Why, on)
				}
			}
		}
	})
}

func TestTheOrderOfRequestsDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, reqs := drawPool(t)
		one := NewLoad(f.snapshot()).Batch(reqs)
		other := NewLoad(f.snapshot()).Batch(rapid.Permutation(reqs).Draw(t, "order"))
		if !slices.Equal(one, other) {
			t.Fatalf("%v\n%v", one, other)
		}
	})
}

func TestBestIsTheFirstOfExplain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, reqs := drawPool(t)
		if len(reqs) == 0 {
			return
		}
		l := NewLoad(f.snapshot())
		c, verdicts := l.Best(reqs[0]), l.Explain(reqs[0])
		if c.Server == "" && verdicts[0].Fits() || c.Server != "" && (!verdicts[0].Fits() || verdicts[0].Server != c.Server) {
			t.Fatalf("best %+v, verdicts %v", c, verdicts)
		}
	})
}

func TestWhatIsTakenAndReleasedLeavesNoTrace(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, reqs := drawPool(t)
		l := NewLoad(f.snapshot())
		for _, r := range reqs {
			l.Take(r.VM, "s1")
		}
		for _, r := range reqs {
			l.Release(r.VM)
		}
		fresh := NewLoad(f.snapshot())
		for id := range f.servers {
			n, mem, cpus := l.Promised(id)
			n2, mem2, cpus2 := fresh.Promised(id)
			if n != n2 || mem != mem2 || cpus != cpus2 {
				t.Fatalf("%s: %d %d %d, want %d %d %d", id, n, mem, cpus, n2, mem2, cpus2)
			}
		}
	})
}

func BenchmarkBatch100VMsOn100Servers(b *testing.B) {
	f := newFixture()
	for i := range 100 {
		id := pool.ServerID(fmt.Sprintf("s%03d", i))
		f.servers[id] = pool.Server{ID: id}
		f.members[id] = pool.Member{Server: id, Session: 1, MemoryBytes: 512 * gib, CPUs: 64}
	}
	var reqs []Request
	for i := range 10000 {
		vm := f.vm(pool.VMID(fmt.Sprintf("vm%05d", i)), 4*gib, pool.ServerID(fmt.Sprintf("s%03d", i%100)), nil)
		if i%100 == 0 {
			reqs = append(reqs, Request{VM: vm})
		}
	}
	delete(f.members, "s000")
	snap := f.snapshot()
	for b.Loop() {
		NewLoad(snap).Batch(reqs)
	}
}
