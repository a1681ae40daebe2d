package terminal

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/console/cli/fakepool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// BenchmarkConsole measures the real program at 160x45 with 2,000 VMs: its share of one core and what it writes, at 50
// updates a second and idle, and its memory. Ten seconds each, whatever b.N says. An agent sends at most ten messages a
// second (agent/api), so 50 updates come as five each time; for comparison also alone, each in a message of its own.
func BenchmarkConsole(b *testing.B) {
	for _, c := range []struct {
		vms, rate, together int
		name                string
	}{{2000, 50, 5, ""}, {2000, 50, 1, "/alone"}, {2000, 0, 1, ""}, {10000, 50, 5, ""}} {
		b.Run(fmt.Sprintf("vms=%d/updates=%d%s", c.vms, c.rate, c.name), func(b *testing.B) { measure(b, c.vms, c.rate, c.together) })
	}
}

const measured = 10 * time.Second

func measure(b *testing.B, vms, rate, together int) {
	path, err := build()
	if err != nil {
		b.Fatal(err)
	}
	state := fakepool.Healthy()
	for i := range vms {
		state.Vms = append(state.Vms, load(i, pb.VMStatus_VM_STATUS_RUNNING))
	}
	p := fakepool.New(state)
	defer p.Close()
	agents, err := p.Start(1)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	begin := time.Now()
	term, err := Start(ctx, 160, 45, nil, path, "--agents", agents[0])
	if err != nil {
		b.Fatal(err)
	}
	defer term.Close()
	if err := term.Shows(ctx, "* live", "[1 Overview]"); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(time.Since(begin).Milliseconds()), "first-frame-ms")
	if err := term.Press("3"); err != nil {
		b.Fatal(err)
	}
	if err := term.Shows(ctx, "[3 VMs"); err != nil {
		b.Fatal(err)
	}
	cpu, written := cpuTime(b, term), term.Bytes()
	for n, end := 0, time.After(measured); ; n++ {
		wait := time.Second
		if rate > 0 {
			d := &pb.Delta{}
			for k := n * together; k < (n+1)*together; k++ {
				d.Vms = append(d.Vms, load(k%vms, pb.VMStatus(1+k%9))) //nolint:gosec // small
			}
			p.Change(d)
			wait = time.Second * time.Duration(together) / time.Duration(rate)
		}
		select {
		case <-time.After(wait):
			continue
		case <-end:
		}
		break
	}
	b.ReportMetric(100*(cpuTime(b, term)-cpu).Seconds()/measured.Seconds(), "cpu-%")
	b.ReportMetric(float64(term.Bytes()-written)/1024/measured.Seconds(), "KB/s")
	b.ReportMetric(resident(b, term), "resident-MB")
}

func load(i int, st pb.VMStatus) *pb.VMView {
	return &pb.VMView{Vm: &pb.VM{Id: fmt.Sprintf("vm-%05d", i), MemoryBytes: 8 << 30, Cpus: 4, Ha: true}, Protected: true, Status: st,
		Claim: &pb.Claim{Server: fmt.Sprintf("hv-%02d", 1+i%3)}}
}

// cpuTime reads what the program has used, in the kernel's ticks of a hundredth of a second (proc(5)).
func cpuTime(b *testing.B, t *Terminal) time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", t.Process().Pid))
	if err != nil {
		b.Fatal(err)
	}
	f := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+2:]))
	total := 0
	for _, i := range []int{11, 12} {
		n, err := strconv.Atoi(f[i])
		if err != nil {
			b.Fatal(err)
		}
		total += n
	}
	return time.Duration(total) * 10 * time.Millisecond
}

func resident(b *testing.B, t *Terminal) float64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", t.Process().Pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.SplitSeq(string(data), "\n") {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmRSS:" {
			kb, err := strconv.Atoi(f[1])
			if err != nil {
				b.Fatal(err)
			}
			return float64(kb) / 1024
		}
	}
	return 0
}
