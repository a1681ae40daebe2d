package world

import (
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-ha/holdfast/agent/sim/vtime"
	"github.com/holdfast-ha/holdfast/pkg/clock"
)

// Fencing is the only means by which a server can be made certain to be harmless.
type Fencing int

// Means of fencing.
const (
	FencingGuard Fencing = iota
	FencingWatchdog
	FencingPower
	FencingNone
)

// ServerSpec describes a machine.
type ServerSpec struct {
	Name        string
	MemoryBytes int64
	CPUs        int
	Fencing     Fencing
	// Watchdog is the watchdog device's time-out; used with FencingWatchdog.
	Watchdog   time.Duration
	FenceDelay time.Duration
	// BootDelay is from power on to the start of the agent.
	BootDelay time.Duration
	Version   string
}

// Server is one machine.
type Server struct {
	ServerSpec
	w       *World
	powered bool
	booted  bool
	boots   int
	bootID  string
	time    vtime.Timepiece
	// Agent and Guard are the running processes, nil if there is none.
	agent, guard *vtime.Proc
	// stopping is the agent that was asked to stop, again one that is to start anew after that.
	stopping, again *vtime.Proc
	libvirtd        bool
	// daemon counts libvirtd's lives; a call made in an earlier one fails.
	daemon  int
	calls   []*hvCall
	unseen  []*QEMU
	edges   []*Hypervisor
	storage bool
	qemus   []*QEMU
	// jobs are the outgoing migrations.
	jobs    []*job
	nextPID int
	dog     *Watchdog
	psu     powerSwitch
	resets  int
	// going is the orderly shutdown under way, if any; watchers are told.
	going    *departure
	watchers []clock.Signal
	// Run is what lies under /run: gone after a boot. Disk lasts.
	Run, Disk map[string]any
}

func newServer(w *World, spec ServerSpec) *Server {
	r := w.s.Rand()
	s := &Server{ServerSpec: spec, w: w, storage: true, nextPID: 1000, Run: map[string]any{}, Disk: map[string]any{}}
	s.psu.works = true
	s.time = vtime.Timepiece{
		Boot: time.Hour + w.s.Between(0, 1000*time.Hour),
		Wall: w.o.Epoch.Add(w.s.Between(-300*time.Millisecond, 300*time.Millisecond)),
		PPM:  r.Int64N(101) - 50,
	}
	if w.o.Timepiece != nil {
		s.time = *w.o.Timepiece
	}
	return s
}

// Powered reports whether the machine has power.
func (s *Server) Powered() bool { return s.powered }

// Booted reports whether its programs have been started since power on.
func (s *Server) Booted() bool { return s.booted }

// BootID identifies the present boot.
func (s *Server) BootID() string { return s.bootID }

// Resets counts how often the watchdog fired.
func (s *Server) Resets() int { return s.resets }

// World returns the world that the server belongs to.
func (s *Server) World() *World { return s.w }

// QEMUs returns the live QEMU processes.
func (s *Server) QEMUs() []*QEMU { return slices.Clone(s.qemus) }

// Executing counts the guests that execute on the server.
func (s *Server) Executing() int {
	n := 0
	for _, q := range s.qemus {
		if q.Executes() {
			n++
		}
	}
	return n
}

// Start gives the machine power and boots it in no time: for the beginning of a run.
func (s *Server) Start() {
	s.powerUp()
	s.boot()
}

// PowerUp gives the machine power and leaves its programs to Boot: what a boot finds can be laid out in between.
func (s *Server) PowerUp() { s.powerUp() }

// Boot starts the programs of a machine that has power.
func (s *Server) Boot() { s.boot() }

// PowerOn gives the machine power; its programs start after the boot delay. Repeated, it does nothing.
func (s *Server) PowerOn() {
	if s.powered {
		return
	}
	s.w.emit(KindServer, s.Name, "", "%s is powered on", s.Name)
	s.powerUp()
	s.bootLater()
}

// PowerOff takes the power away without warning.
func (s *Server) PowerOff(why string) {
	if !s.powered {
		return
	}
	s.w.emit(KindServer, s.Name, "", "%s loses power%s", s.Name, why)
	s.powered = false
	s.halt("power lost")
}

// Reset restarts the machine as its watchdog does.
func (s *Server) Reset() {
	if !s.powered {
		return
	}
	s.resets++
	s.w.emit(KindServer, s.Name, "", "%s is reset by its watchdog", s.Name)
	s.halt("server reset")
	s.newBoot()
	s.bootLater()
}

// Reboot restarts the machine at the end of an orderly shutdown; off leaves it without power.
func (s *Server) Reboot(off bool) {
	if !s.powered {
		return
	}
	if off {
		s.w.emit(KindServer, s.Name, "", "%s has shut down", s.Name)
		s.powered = false
		s.halt("server shutdown")
		return
	}
	s.w.emit(KindServer, s.Name, "", "%s reboots", s.Name)
	s.halt("server reboot")
	s.newBoot()
	s.bootLater()
}

func (s *Server) powerUp() {
	s.powered = true
	s.newBoot()
}

func (s *Server) newBoot() {
	s.boots++
	r := s.w.s.Rand()
	s.bootID = fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", r.Uint32(), r.IntN(1<<16), r.IntN(1<<12), r.IntN(1<<12), r.Int64N(1<<48))
	if s.boots > 1 && s.w.o.Timepiece == nil {
		s.time.Boot = time.Second - s.w.s.Now()
	}
}

func (s *Server) bootLater() {
	boot := s.boots
	s.w.s.After(s.BootDelay, func() {
		if s.powered && s.boots == boot && !s.booted {
			s.boot()
		}
	})
}

// boot starts everything that starts by itself.
func (s *Server) boot() {
	s.booted, s.libvirtd = true, true
	s.daemon++
	if s.Fencing == FencingWatchdog {
		s.dog = &Watchdog{s: s, Timeout: s.Watchdog}
	}
	if s.w.etcd != nil {
		s.w.etcd.SetAlive(s.Name, true)
	}
	s.StartGuard()
	s.StartAgent()
}

// halt ends everything that runs on the machine.
func (s *Server) halt(why string) {
	s.booted, s.libvirtd = false, false
	s.going, s.watchers = nil, nil
	s.daemon++
	s.dog = nil
	s.Run = map[string]any{}
	if s.agent != nil {
		s.agent.Kill()
	}
	if s.guard != nil {
		s.guard.Kill()
	}
	s.agent, s.guard = nil, nil
	s.calls, s.edges, s.unseen = nil, nil, nil
	for _, q := range s.QEMUs() {
		q.end(0, why)
	}
	s.unseen = nil
	if s.w.etcd != nil {
		s.w.etcd.SetAlive(s.Name, false)
	}
}

// ended takes an ended process off the server and lets libvirtd notice.
func (s *Server) ended(q *QEMU) {
	s.qemus = slices.DeleteFunc(s.qemus, func(o *QEMU) bool { return o == q })
	if s.libvirtd {
		s.report(q)
		return
	}
	s.unseen = append(s.unseen, q)
}
