package plan

import (
	"strings"
	"testing"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

const gib = int64(1) << 30

// line carries out one line of a script:
//
//	pool [ha=off] [frozen] [trust-guard-alone] [shutdown=freeze] [lock-bars-failover=off] [events=N]
//	server NAME [memory=64] [fence] [maintenance] [lock] [removing] [shutting-down] [absent]   registers, or changes
//	vm NAME [on=SERVER] [ha=off] [stopped] [memory=2] [block] [unarmed] [watchdog=W] [KEY=VALUE as in `set`]
//	lose NAME | join NAME          the session ends; a new one begins
//	held NAME [armed]              the owner has started it
//	running NAME                   the owner reports it running
//	release NAME CAUSE ['DETAIL']  the owner lets it go
//	want NAME running|stopped      an operator says so
//	ha NAME on|off                 for one VM
//	op ID KIND VM [server=NAME]    an operation is asked for
//	confirm NAME                   an operator confirms that it is off
//	power NAME off | power NAME failed 'WHY'   how the power-off command went
//	clear NAME                     an operator clears its failures
//	lacks SERVER VM 'WHAT'         a server lacks something for a VM
//	corrupt KEY 'WHY'
//	in-doubt VM 'WHY'|no            its recorded disks may be old ones
//	cannot-pause SERVER 'WHY'|no    its guard can only kill
//	on-isolation stop|pause
//	unclaim NAME                   its claim is deleted by somebody
//	leader NAME                    another server leads
//	adopt VM SERVER                it was found running there, and registered
//	migrating VM SERVER            it is being copied there
//	storage-lost|storage-back SERVER    its path to the storage is gone, or back
//	starting VM 'WHY'              its owner reports why it has not started yet
//	history events=N               so many lines of history are written
func (s *script) line(t *testing.T, text string) {
	t.Helper()
	w := split(t, text)
	w2 := s.world
	id := ""
	if len(w.pos) > 1 {
		id = w.at(1)
	}
	server, vm := pool.ServerID(id), pool.VMID(id)
	switch w.at(0) {
	case "pool":
		s.pool(w)
	case "server":
		s.server(w, server)
	case "vm":
		s.vm(w, vm)
	case "lose":
		w2.Lose(server)
	case "join":
		w2.Join(server, w.num("memory", 64)*gib, 16)
	case "held":
		c := w2.Claims[vm]
		c.Phase, c.Armed = pool.PhaseHeld, w.has("armed")
		w2.PutClaim(c)
	case "running":
		c := w2.Claims[vm]
		w2.PutState(pool.VMState{VM: vm, Server: c.Server, Epoch: c.Epoch, State: pool.RunRunning})
	case "stubborn":
		c := w2.Claims[vm]
		w2.PutState(pool.VMState{VM: vm, Server: c.Server, Epoch: c.Epoch, State: pool.RunStopping, Reason: pool.CannotEnd + w.at(2), Since: s.wall()})
	case "release":
		s.release(w, vm)
	case "want":
		v := w2.VMs[vm]
		v.Desired = pool.DesiredRunning
		if w.at(2) == "stopped" {
			v.Desired = pool.DesiredStopped
		}
		w2.PutVM(v)
	case "ha":
		v := w2.VMs[vm]
		v.HA = w.at(2) == "on"
		w2.PutVM(v)
	case "op":
		s.operation(w)
	case "confirm":
		w2.PutFence(pool.Fence{Server: server, Session: pool.Session(w2.Revision), Proof: pool.ProofConfirmed, By: "ann", Evidence: "ann saw that it is off", Revision: w2.Fences[server].Revision})
	case "power":
		s.powered(w, server)
	case "suspect":
		s.suspects[server] = Suspicion{Session: w2.Members[server].Session, Witnesses: []pool.ServerID{pool.ServerID(w.at(2))}, Long: w.has("long")}
	case "heard":
		delete(s.suspects, server)
	case "on":
		s.powerOn[server] = PowerOn{Done: !w.has("failed")}
		if w.has("failed") {
			s.powerOn[server] = PowerOn{Err: w.at(3)}
		}
	case "switch":
		s.switches[server] = unlessNo(w.at(2))
	default:
		s.rest(w, server, vm)
	}
}

func (s *script) rest(w words, server pool.ServerID, vm pool.VMID) {
	w.t.Helper()
	switch w.at(0) {
	case "clear":
		h := s.world.Homes[vm]
		h.Failed, h.FailedReason, h.Failures = false, "", nil
		s.world.PutHome(h)
	case "lacks":
		m := s.world.Members[server]
		m.Lacks = map[pool.VMID][]string{pool.VMID(w.at(2)): {w.at(3)}}
		s.world.Members[server] = m
	case "on-isolation":
		s.world.Config.OnIsolation = map[string]pool.Isolation{"stop": pool.IsolationStop, "pause": pool.IsolationPause}[w.at(1)]
	case "cannot-pause":
		m := s.world.Members[server]
		m.NoPause = unlessNo(w.at(2))
		s.world.Members[server] = m
	case "trouble":
		m := s.world.Members[server]
		m.Trouble = unlessNo(w.at(2))
		s.world.Members[server] = m
	case "in-doubt":
		v := s.world.VMs[vm]
		v.DisksInDoubt = unlessNo(w.at(2))
		s.world.PutVM(v)
	case "corrupt":
		s.world.Corrupt[w.at(1)] = w.at(2)
	case "unclaim":
		delete(s.world.Claims, vm)
	case "adopt":
		on := pool.ServerID(w.at(2))
		v := s.world.VMs[vm]
		v.Desired = pool.DesiredRunning
		s.world.PutVM(v)
		s.world.PutClaim(pool.Claim{VM: vm, Server: on, Session: s.world.Members[on].Session, Epoch: 1, Phase: pool.PhaseAssigned, LastServer: on})
	case "migrating":
		c, to := s.world.Claims[vm], pool.ServerID(w.at(2))
		c.Phase, c.Incoming = pool.PhaseMigrating, &pool.Incoming{Server: to, Session: s.world.Members[to].Session, Held: true}
		s.world.PutClaim(c)
	case "starting":
		c := s.world.Claims[vm]
		s.world.PutState(pool.VMState{VM: vm, Server: c.Server, Epoch: c.Epoch, State: pool.RunStarting, Reason: w.at(2)})
	case "storage-lost", "storage-back":
		m := s.world.Members[server]
		m.StorageLost = w.at(0) == "storage-lost"
		s.world.Members[server] = m
	case "history":
		for range w.num("events", 0) {
			if err := s.world.Apply(pool.Leader{}, pool.Change{Events: []pool.Event{{Kind: "TEST"}}}); err != nil {
				w.t.Fatal(err)
			}
		}
	case "leader":
		s.world.Lead(server)
		s.lost = nil
	default:
		w.t.Fatalf("no such line: %v", w.pos)
	}
}

// unlessNo returns a reason, empty for the word no.
func unlessNo(why string) string {
	if why == "no" {
		return ""
	}
	return why
}

func (s *script) pool(w words) {
	cfg := &s.world.Config
	if v, ok := w.named["ha"]; ok {
		cfg.HA = v == "on"
	}
	if v, ok := w.named["frozen"]; ok {
		cfg.Frozen, cfg.FrozenMark = v != "off", pool.Mark{By: v}
	}
	if v, ok := w.named["shutdown"]; ok && v == "freeze" {
		cfg.Shutdown = pool.ShutdownFreeze
	}
	if v, ok := w.named["lock-bars-failover"]; ok {
		cfg.LockBarsFailover = v == "on"
	}
	cfg.EventsKept = int(w.num("events", int64(cfg.EventsKept)))
	cfg.OperationsKept = int(w.num("operations", int64(cfg.OperationsKept)))
	cfg.TrustGuardAlone = cfg.TrustGuardAlone || w.has("trust-guard-alone")
	s.world.Next()
}

func (s *script) server(w words, id pool.ServerID) {
	r := s.world.Servers[id]
	r.ID = id
	for name, flag := range map[string]*bool{"maintenance": &r.Maintenance, "lock": &r.InboundLock, "removing": &r.Removing, "shutting-down": &r.ShuttingDown} {
		if w.has(name) {
			*flag = true
		}
		if w.has("no-" + name) {
			*flag = false
		}
	}
	if w.has("fence") {
		r.Fence = []pool.FenceDevice{{Agent: "fence_test"}}
	}
	_, known := s.world.Servers[id]
	s.world.PutServer(r)
	if !known && !w.has("absent") {
		s.world.Join(id, w.num("memory", 64)*gib, 16)
	}
}

func (s *script) vm(w words, id pool.VMID) {
	w.t.Helper()
	v := pool.DefaultVM(id)
	v.HA, v.MemoryBytes, v.CPUs, v.DiskLocks, v.Desired = true, w.num("memory", 2)*gib, 1, !w.has("block"), pool.DesiredRunning
	if w.has("stopped") {
		v.Desired = pool.DesiredStopped
	}
	for key, value := range w.named {
		switch key {
		case "on", "memory", "watchdog", "last":
		case "ha":
			v.HA = value == "on"
		default:
			if err := pool.SetVM(&v, key, value); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	s.world.PutVM(v)
	c := pool.Claim{VM: id, Phase: pool.PhaseUnassigned, LastServer: pool.ServerID(w.named["last"]), Cause: pool.CauseStopped}
	if on := pool.ServerID(w.named["on"]); on != "" {
		c = pool.Claim{VM: id, Server: on, Session: s.world.Members[on].Session, Epoch: 1, Phase: pool.PhaseHeld, Armed: v.HA && !w.has("unarmed"), Watchdog: w.duration("watchdog")}
		s.world.PutState(pool.VMState{VM: id, Server: on, Epoch: 1, State: pool.RunRunning})
	}
	s.world.PutClaim(c)
}

func (s *script) release(w words, id pool.VMID) {
	w.t.Helper()
	c := s.world.Claims[id]
	next := pool.Claim{VM: id, Epoch: c.Epoch, Phase: pool.PhaseUnassigned, LastServer: c.Server}
	for cause := pool.CauseStopped; cause <= pool.CauseKept; cause++ {
		if strings.ReplaceAll(cause.String(), " ", "-") == w.at(2) {
			next.Cause = cause
		}
	}
	if next.Cause == pool.CauseUnspecified {
		w.t.Fatalf("no cause %s", w.at(2))
	}
	if len(w.pos) > 3 {
		next.Detail = w.at(3)
	}
	s.world.PutClaim(next)
	s.world.PutState(pool.VMState{VM: id, Server: c.Server, Epoch: c.Epoch, State: pool.RunStopped})
}

func (s *script) operation(w words) {
	w.t.Helper()
	op := pool.Operation{ID: pool.OperationID(w.at(1)), VM: pool.VMID(w.at(3)), Outcome: pool.OutcomeRunning, Phase: "requested", Server: pool.ServerID(w.named["server"])}
	for k := pool.OperationStart; k <= pool.OperationShutdownServer; k++ {
		if k.String() == w.at(2) {
			op.Kind = k
		}
	}
	if op.VM == "-" {
		op.VM = "" // it is about the server
	}
	op.StartEpoch = s.world.Claims[op.VM].Epoch
	s.world.PutOperation(op)
}

func (s *script) powered(w words, id pool.ServerID) {
	w.t.Helper()
	if w.at(2) == "off" {
		s.power[id] = Power{Session: pool.Session(s.world.Revision), Off: true, Evidence: "fence_test says off"}
		return
	}
	s.power[id] = Power{Session: pool.Session(s.world.Revision), Err: w.at(3)}
}
