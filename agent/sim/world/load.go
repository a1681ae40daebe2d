package world

import (
	"context"
	"hash/fnv"
	"math"
	"time"

	"github.com/holdfast-ha/holdfast/agent/figures"
	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

var _ figures.Source = (*Outside)(nil)

// The made-up load of a guest: a share of its CPUs that depends on its name, with two slow waves about it.
const (
	shortWave = 37 * time.Second
	longWave  = 5 * time.Minute
	// idleHost is how much of one CPU a server's own programs keep busy, and hostMemory what they occupy.
	idleHost   = 0.2
	hostMemory = 1 << 30
)

// waves is how many of cpus a guest of that name keeps busy on average from its beginning until t: the integral of its
// load, so that differences of it are CPU times.
func waves(name string, cpus int, t time.Duration) time.Duration {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name)) // never fails
	n := h.Sum32()
	base := 0.1 + float64(n%50)/100
	phase := float64(n/50%628) / 100
	x := t.Seconds()
	integral := func(swing float64, wave time.Duration, phase float64) float64 {
		w := 2 * math.Pi / wave.Seconds()
		return swing * (math.Cos(phase) - math.Cos(w*x+phase)) / w
	}
	s := base*x + integral(base*0.4, longWave, phase) + integral(base*0.35, shortWave, 2*phase)
	return time.Duration(float64(cpus) * s * float64(time.Second))
}

// Usage is the made-up load of the VMs on this server.
func (o *Outside) Usage(ctx context.Context) ([]local.Usage, error) {
	return outside(ctx, o.paced, o.proc, func(ctx context.Context) ([]local.Usage, error) {
		if err := o.h.p.Await(ctx, time.Millisecond); err != nil {
			return nil, err
		}
		now := time.Duration(o.h.p.Now())
		var all []local.Usage
		for _, q := range o.h.s.qemus {
			if q.image == nil || q.marker == nil || q.state == stateDead {
				continue
			}
			u := local.Usage{VM: q.VM, MemoryBytes: q.image.MemoryBytes * int64(70+len(q.VM)%25) / 100}
			if q.Executes() {
				u.CPUTime = waves(string(q.VM), max(q.image.CPUs, 1), now)
			}
			all = append(all, u)
		}
		return all, nil
	})
}

// Host is the made-up load of the whole server: its VMs' and a little of its own.
func (o *Outside) Host(ctx context.Context) (figures.Host, error) {
	all, err := o.Usage(ctx)
	if err != nil {
		return figures.Host{}, err
	}
	return outside(ctx, o.paced, o.proc, func(context.Context) (figures.Host, error) {
		s := o.h.s
		h := figures.Host{CPUs: s.CPUs, MemoryBytes: s.MemoryBytes, MemoryUsedBytes: hostMemory}
		before := o.cpu
		o.cpu = map[pool.VMID]time.Duration{}
		for _, u := range all {
			o.cpu[u.VM] = u.CPUTime
			h.MemoryUsedBytes += u.MemoryBytes
			if was, ok := before[u.VM]; ok && u.CPUTime > was {
				o.spent += u.CPUTime - was // of VMs that were here before: what has left does not turn time back
			}
		}
		h.Busy = o.spent + time.Duration(idleHost*float64(o.h.p.Now()))
		return h, nil
	})
}
