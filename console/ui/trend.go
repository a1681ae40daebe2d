package ui

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/console/feed"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Live figures and their history. It is kept here alone: agents keep none (docs/console.md).
const (
	// figuresEvery is the pace at which agents measure.
	figuresEvery = 2 * time.Second
	// figuresFor is how old a figure may be to be shown as the present.
	figuresFor = 3 * figuresEvery
	// trendLength is how many values a trend keeps: two minutes of a VM, half an hour of a server and of the pool.
	trendLength = 60
	// bucket is what one value of a server's trend stands for.
	bucket = 30 * time.Second
)

// none stands for a time of which nothing is known.
const none = 0xff

// trend is the latest values of something in percent, oldest first. The zero value knows nothing.
type trend struct {
	values [trendLength]uint8
	used   int
}

func (t *trend) add(v uint8) {
	if t.used == trendLength {
		copy(t.values[:], t.values[1:])
		t.used--
	}
	t.values[t.used] = v
	t.used++
}

// skip adds n values that nobody knows.
func (t *trend) skip(n int) {
	for range min(n, trendLength) {
		t.add(none)
	}
}

// percentOf is part of whole as a value of a trend.
func percentOf(part, whole float64) uint8 {
	if whole <= 0 {
		return none
	}
	return uint8(min(max(math.Round(100*part/whole), 0), 200))
}

// gauged is something whose CPU and memory are measured.
type gauged struct {
	at          time.Time // when the newest figure arrived
	server      string    // who measured it
	cpu, memory uint8     // percent
	bytes       int64     // of memory
	rate        int64     // of live migration, bytes per second
	busy, all   float64   // CPUs
}

// vmLoad is a VM's figures, with its last two minutes.
type vmLoad struct {
	gauged
	cpuTrend, memoryTrend trend
}

// serverLoad is a server's or the pool's figures, with its last half hour.
type serverLoad struct {
	gauged
	cpuTrend, memoryTrend slow
	rateTrend             slow
}

// slow is a trend of which each value is the mean of a bucket of time.
type slow struct {
	values [trendLength]float32 // NaN: unknown
	used   int
	number int64 // of the newest bucket
	sum    float32
	count  int
}

func (s *slow) add(at time.Time, v float64) {
	n := at.Unix() / int64(bucket/time.Second)
	if s.used == 0 {
		s.number = n - 1
	}
	for gap := min(n-s.number, trendLength); gap > 0; gap-- {
		if s.used == trendLength {
			copy(s.values[:], s.values[1:])
			s.used--
		}
		s.values[s.used] = float32(math.NaN())
		s.used++
		s.sum, s.count = 0, 0
	}
	s.number = max(n, s.number)
	s.sum += float32(v)
	s.count++
	s.values[s.used-1] = s.sum / float32(s.count)
}

// loads is everything measured.
type loads struct {
	servers map[string]*serverLoad
	vms     map[string]*vmLoad
	pool    serverLoad
}

// measured takes figures in; not while the display is frozen.
func (m *Model) measured(all []feed.Figures) {
	if m.still != nil {
		return
	}
	for _, f := range all {
		m.load.fold(f, m.view)
	}
	if len(all) > 0 {
		for _, s := range screens {
			if l := m.lists[s]; l.sort == "cpu" || l.filter.line != "" {
				l.dirty = true // what it shows, or in which order, may depend on figures
			}
		}
	}
}

func (l *loads) fold(f feed.Figures, v *feed.View) {
	if l.servers == nil {
		l.servers, l.vms = map[string]*serverLoad{}, map[string]*vmLoad{}
	}
	for _, s := range f.Message.GetServers() {
		l.foldServer(f.At, s)
		for _, x := range s.GetVms() {
			l.foldVM(f.At, s, x, v.VM(x.GetVm()))
		}
	}
	l.foldPool(f.At)
	if v != nil && len(l.vms) > 2*len(v.VMs)+100 { // those that are gone
		for id := range l.vms {
			if v.VM(id) == nil {
				delete(l.vms, id)
			}
		}
	}
}

func (l *loads) foldServer(at time.Time, s *pb.ServerFigures) {
	x := l.servers[s.GetServer()]
	if x == nil {
		x = &serverLoad{}
		l.servers[s.GetServer()] = x
	}
	x.gauged = gauged{at: at, server: s.GetServer(), busy: s.GetCpusBusy(), all: float64(s.GetCpus()), cpu: none, memory: percentOf(float64(s.GetMemoryUsedBytes()), float64(s.GetMemoryBytes())),
		bytes: s.GetMemoryUsedBytes(), rate: s.GetMigrationBytesPerSecond()}
	if s.GetOver() != nil {
		x.cpu = percentOf(s.GetCpusBusy(), float64(s.GetCpus()))
		x.cpuTrend.add(at, float64(x.cpu))
	}
	x.memoryTrend.add(at, float64(x.memory))
	x.rateTrend.add(at, float64(x.rate))
}

// foldVM takes a VM's figures from the server that its claim names: a copy that is only arriving tells nothing of it.
func (l *loads) foldVM(at time.Time, s *pb.ServerFigures, f *pb.VMFigures, v *pb.VMView) {
	if v == nil || v.GetClaim().GetServer() != s.GetServer() {
		return
	}
	x := l.vms[f.GetVm()]
	if x == nil {
		x = &vmLoad{}
		l.vms[f.GetVm()] = x
	} else if gap := at.Sub(x.at); gap > figuresEvery*3/2 {
		missed := int((gap+figuresEvery/2)/figuresEvery) - 1
		x.cpuTrend.skip(missed)
		x.memoryTrend.skip(missed)
	}
	x.gauged = gauged{at: at, server: s.GetServer(), busy: f.GetCpusBusy(), all: float64(v.GetVm().GetCpus()), cpu: none, memory: percentOf(float64(f.GetMemoryBytes()), float64(v.GetVm().GetMemoryBytes())),
		bytes: f.GetMemoryBytes(), rate: f.GetMigrationBytesPerSecond()}
	if s.GetOver() != nil {
		x.cpu = percentOf(f.GetCpusBusy(), float64(v.GetVm().GetCpus()))
		x.cpuTrend.add(x.cpu)
		x.memoryTrend.add(x.memory)
	}
}

// foldPool adds up the servers that are heard.
func (l *loads) foldPool(at time.Time) {
	var busy, cpus float64
	var rate int64
	for _, s := range l.servers {
		if at.Sub(s.at) > figuresFor || s.cpu == none {
			continue
		}
		busy += s.busy
		cpus += s.all
		rate += s.rate
	}
	if cpus == 0 {
		return
	}
	p := &l.pool
	p.at, p.cpu, p.rate = at, percentOf(busy, cpus), rate
	p.cpuTrend.add(at, float64(p.cpu))
	p.rateTrend.add(at, float64(rate))
}

// asOf is the time that figures are judged by: while the whole screen is stale it says so by itself, and what was the
// present then is shown as that.
func (m *Model) asOf() time.Time {
	if m.still != nil {
		return m.stillSince
	}
	if m.stale() && !m.link.Heard.IsZero() {
		return m.link.Heard
	}
	return m.now
}

// fresh reports whether a figure may be shown as the present.
func (m *Model) fresh(g gauged) bool { return !g.at.IsZero() && m.asOf().Sub(g.at) <= figuresFor }

// vmLoadOf is what is measured of a VM; nil if nothing is, or it stands still.
func (m *Model) vmLoadOf(v *pb.VMView) *vmLoad {
	x := m.load.vms[v.GetVm().GetId()]
	if x == nil || x.server != v.GetClaim().GetServer() {
		return nil
	}
	switch v.GetStatus() {
	case pb.VMStatus_VM_STATUS_RUNNING, pb.VMStatus_VM_STATUS_MIGRATING, pb.VMStatus_VM_STATUS_STOPPING, pb.VMStatus_VM_STATUS_PAUSED:
		return x
	}
	return nil
}

// vmCPU is how busy a VM is: "-" if nothing is known, a question mark for what is not known any more.
func (m *Model) vmCPU(v *pb.VMView) (string, tone) {
	x := m.vmLoadOf(v)
	switch {
	case x == nil || x.cpu == none:
		return "-", dim
	case !m.fresh(x.gauged):
		return "?", dim
	}
	return fmt.Sprintf("%d%%", x.cpu), plain
}

// hostUsage is a bar of a measured share; a question mark for what is not measured.
func (m *Model) hostUsage(id string, part func(*serverLoad) uint8) (string, tone) {
	x := m.load.servers[id]
	if x == nil || part(x) == none || !m.fresh(x.gauged) || m.shown().Server(id).GetMember() == nil {
		return m.glyphs.gauge(0, 1, m.barCells()) + "   ? ", dim
	}
	t := bar
	if part(x) >= 90 {
		t = bad
	}
	return fmt.Sprintf("%s %3d%%", m.glyphs.gauge(int64(part(x)), 100, m.barCells()), part(x)), t
}

func cpuOf(x *serverLoad) uint8 { return x.cpu }

// measuredCPU is for sorting and comparing.
func (m *Model) measuredCPU(v *pb.VMView) float64 {
	if x := m.vmLoadOf(v); x != nil && x.cpu != none && m.fresh(x.gauged) {
		return float64(x.cpu)
	}
	return -1
}

// spark draws all of a trend whose newest value came at at in w cells, each the mean of what falls into it.
func (m *Model) spark(t *trend, at time.Time, w int) string {
	late := max(int(m.asOf().Sub(at)/figuresEvery)-1, 0)
	each := max(trendLength/w, 1)
	return m.glyphs.spark(w, w, 0, func(i int) float64 {
		sum, n := 0.0, 0
		for k := t.used + late - (w-i)*each; k < t.used+late-(w-i-1)*each; k++ {
			if k >= 0 && k < t.used && t.values[k] != none {
				sum += float64(t.values[k]) / 100
				n++
			}
		}
		if n == 0 {
			return math.NaN()
		}
		return sum / float64(n)
	})
}

// slowSpark draws the last w values of a slow trend, against whole; 0: against its own highest.
func (m *Model) slowSpark(s *slow, whole float64, w int) string {
	if whole == 0 {
		for _, v := range s.values[:s.used] {
			if f := float64(v); !math.IsNaN(f) {
				whole = max(whole, f)
			}
		}
	}
	late := max(int(m.asOf().Unix()/int64(bucket/time.Second)-s.number), 0)
	return m.glyphs.spark(w, s.used, late, func(i int) float64 { return float64(s.values[i]) / max(whole, 1) })
}

// spark draws the last w of n values, late of which have not come: each a height of 0 to 1, NaN for a gap.
func (g glyphs) spark(w, n, late int, value func(int) float64) string {
	var b strings.Builder
	levels := g.sparks
	for i := n + late - w; i < n+late; i++ {
		if i < 0 || i >= n || math.IsNaN(value(i)) {
			b.WriteByte(' ')
			continue
		}
		k := int(min(max(value(i), 0), 1) * float64(len(levels)-1) * 1.0001)
		b.WriteString(levels[k])
	}
	return b.String()
}

// live is a figure's text, marked while the screen is stale.
func (m *Model) live(format string, args ...any) string {
	s := fmt.Sprintf(format, args...)
	if m.stale() {
		s += "?"
	}
	return s
}

// detailTrend is the width of a sparkline in details.
const detailTrend = 18

// loadLine is one figure with its sparkline.
func loadLine(l *lines, name, now, spark string) {
	l.row(piece{dim, factName(name)}, piece{plain, pad(now, 7)}, piece{bar, spark})
}

// vmLoadLines are a VM's figures and its last two minutes.
func (m *Model) vmLoadLines(v *pb.VMView) lines {
	var l lines
	x := m.vmLoadOf(v)
	if x == nil || x.cpu == none || !m.fresh(x.gauged) {
		return l
	}
	loadLine(&l, "CPU load", m.live("%d%%", x.cpu), m.spark(&x.cpuTrend, x.at, detailTrend))
	loadLine(&l, "in use", m.live("%s", size(x.bytes)), m.spark(&x.memoryTrend, x.at, detailTrend))
	if x.rate > 0 {
		l.fact("moving", m.live("%s/s", size(x.rate)))
	}
	return l
}

// serverLoadLines are a server's figures and its last half hour.
func (m *Model) serverLoadLines(id string) lines {
	var l lines
	x := m.load.servers[id]
	if x == nil || x.cpu == none {
		return l
	}
	if !m.fresh(x.gauged) {
		l.toned("load", "not known now: no figures for "+span(m.asOf().Sub(x.at)), dim)
		return l
	}
	loadLine(&l, "CPU load", m.live("%d%%", x.cpu), m.slowSpark(&x.cpuTrend, 100, detailTrend))
	loadLine(&l, "mem in use", m.live("%s", size(x.bytes)), m.slowSpark(&x.memoryTrend, 100, detailTrend))
	loadLine(&l, "migration", m.live("%s/s", size(x.rate)), m.slowSpark(&x.rateTrend, 0, detailTrend))
	return l
}

// poolTrend is the pool's CPU and migration rate of the last half hour, in w cells; empty before the first figures.
func (m *Model) poolTrend(w int) lines {
	var l lines
	p := &m.load.pool
	if p.at.IsZero() {
		return l
	}
	n := min(max((w-42)/2, 8), trendLength/2)
	cpu, rate := "?", "?"
	if m.fresh(p.gauged) {
		cpu, rate = m.live("%d%%", p.cpu), m.live("%s/s", size(p.rate))
	}
	l.row(piece{title, "CPU "}, piece{bar, m.slowSpark(&p.cpuTrend, 100, n)}, piece{plain, " " + pad(cpu, 5)},
		piece{title, "MIGRATION "}, piece{bar, m.slowSpark(&p.rateTrend, 0, n)}, piece{plain, " " + rate}, piece{dim, "  last " + span(time.Duration(n)*bucket)})
	return l
}
