package terminal

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"
)

// benchRuns is how often each figure of the demo pool is taken.
const benchRuns = 7

// BenchmarkDemoFirstFrame measures the console on the demo pool from its start to the first frame that shows all of the
// pool: the median and the worst of several runs, whatever b.N says.
func BenchmarkDemoFirstFrame(b *testing.B) {
	d, path := demoBench(b)
	var all []time.Duration
	for range benchRuns {
		_, took := firstFrame(b, d, path, d.Agents)
		all = append(all, took)
	}
	report(b, "first-frame-ms", all)
}

// BenchmarkDemoAgentFailover measures how long after the death of the agent that a console is connected to its screen
// is live again: the median and the worst of several runs, whatever b.N says. The leader is not the one that dies.
func BenchmarkDemoAgentFailover(b *testing.B) {
	d, path := demoBench(b)
	var all []time.Duration
	for range benchRuns {
		agents, victim := slices.Clone(d.Agents), "srv-1"
		term, _ := firstFrame(b, d, path, agents)
		if leaderOf(term.Screen()) == victim {
			term.Close()
			agents[0], agents[1], victim = agents[1], agents[0], "srv-2"
			term, _ = firstFrame(b, d, path, agents)
		}
		ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
		begin := time.Now()
		if err := d.Tell("agent kill " + victim); err != nil {
			b.Fatal(err)
		}
		if err := term.Shows(ctx, "* live", "back after"); err != nil {
			b.Fatal(err)
		}
		all = append(all, time.Since(begin))
		if err := d.Tell("agent start " + victim); err != nil {
			b.Fatal(err)
		}
		settled := func(s string) bool { return strings.Contains(s, "running 8") && strings.Contains(s, "PROBLEMS 0") }
		if err := term.WaitFor(ctx, "the agent's return", settled); err != nil {
			b.Fatal(err)
		}
		cancel()
		term.Close()
	}
	report(b, "live-again-ms", all)
}

func demoBench(b *testing.B) (*Demo, string) {
	path, err := build()
	if err != nil {
		b.Fatal(err)
	}
	d := playing(b, "")
	term, _ := firstFrame(b, d, path, d.Agents) // all VMs run by then
	term.Close()
	return d, path
}

// firstFrame starts a console and says how long it took until it showed the whole pool at rest.
func firstFrame(b *testing.B, d *Demo, path string, agents []string) (*Terminal, time.Duration) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	begin := time.Now()
	term, err := Start(b.Context(), 160, 45, nil, path, "--agents", strings.Join(agents, ","))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(term.Close)
	if err := term.Shows(ctx, "* live", "[1 Overview]", "srv-1", "srv-3", "running 8", "EVENTS"); err != nil {
		b.Fatal(err)
	}
	return term, time.Since(begin)
}

// report tells the median and the worst in milliseconds.
func report(b *testing.B, unit string, all []time.Duration) {
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, unit)
	b.ReportMetric(float64(all[len(all)-1].Microseconds())/1000, "worst-"+unit)
}
