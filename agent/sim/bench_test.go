package sim

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/agent/sim/scenario"
)

// crowd is a pool of many servers and VMs, one of whose servers dies.
func crowd(tb testing.TB, servers, vms int) *scenario.File {
	tb.Helper()
	var b strings.Builder
	b.WriteString("pool ttl=5s\nservers")
	for i := range servers {
		fmt.Fprintf(&b, " s%03d", i)
	}
	for i := range vms {
		fmt.Fprintf(&b, "\nvm v%05d on=s%03d memory=256M", i, i%servers)
	}
	b.WriteString("\nat 10s power off s003\nby 60s expect s003 fenced\nby 90s expect v00003 running\n")
	f, err := scenario.Parse("crowd", b.String())
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

// BenchmarkFiveServers reports how much faster than real time a pool of five servers and twenty VMs runs.
func BenchmarkFiveServers(b *testing.B) { benchmark(b, 5, 20) }

// BenchmarkHundredServers is the death of one of a hundred servers with a hundred VMs each, from the loss of power
// until every VM runs again; set-up is not counted.
func BenchmarkHundredServers(b *testing.B) {
	f := crowd(b, 100, 10000)
	virtual := 0.0
	for i := range b.N {
		b.StopTimer()
		p, err := NewPool(f, uint64(i), nil, Agents)
		if err != nil {
			b.Fatal(err)
		}
		if err := p.Settle(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		began := p.Now()
		p.World.Server("s003").PowerOff("")
		for !p.everyoneRuns() {
			if err := p.Sched.Run(p.Sched.Now() + 50*time.Millisecond); err != nil {
				b.Fatal(err)
			}
			if p.Now()-began > time.Minute {
				b.Fatal("not recovered within a minute")
			}
		}
		virtual += (p.Now() - began).Seconds()
		b.StopTimer()
		p.Close()
		b.StartTimer()
	}
	b.ReportMetric(virtual/float64(b.N), "virtual-s/op")
}

// BenchmarkHundredServersPlayed is the same as a user runs it: the whole scenario, set-up and the quiet minute at its end
// included.
func BenchmarkHundredServersPlayed(b *testing.B) { benchmark(b, 100, 10000) }

// everyoneRuns reports whether every VM executes somewhere.
func (p *Pool) everyoneRuns() bool {
	for _, v := range p.File.VMs {
		if len(p.World.Image(v.ID).Executing()) != 1 {
			return false
		}
	}
	return true
}

// BenchmarkManyServers is the same with ten VMs each.
func BenchmarkManyServers(b *testing.B) { benchmark(b, 100, 1000) }

func benchmark(b *testing.B, servers, vms int) {
	f := crowd(b, servers, vms)
	virtual := 0.0
	b.ResetTimer()
	for i := range b.N {
		r := Run(f, Options{Seed: uint64(i)})
		if r.Err != nil {
			b.Fatal(r.Err)
		}
		virtual += r.Virtual.Seconds()
	}
	b.ReportMetric(virtual/b.Elapsed().Seconds(), "virtual-s/s")
}
