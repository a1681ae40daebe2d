package place

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

const gib = int64(1) << 30

// fixture is a pool that tests change before they ask.
type fixture struct {
	servers map[pool.ServerID]pool.Server
	members map[pool.ServerID]pool.Member
	vms     map[pool.VMID]pool.VM
	claims  map[pool.VMID]pool.Claim
	fences  map[pool.ServerID]pool.Fence
	corrupt map[string]string
	config  pool.Config
}

// newFixture has servers s1.. with 16 GiB and 8 CPUs each.
func newFixture(servers ...pool.ServerID) *fixture {
	f := &fixture{servers: map[pool.ServerID]pool.Server{}, members: map[pool.ServerID]pool.Member{}, vms: map[pool.VMID]pool.VM{},
		claims: map[pool.VMID]pool.Claim{}, fences: map[pool.ServerID]pool.Fence{}, corrupt: map[string]string{}, config: pool.DefaultConfig("p", "i")}
	for i, s := range servers {
		f.servers[s] = pool.Server{ID: s}
		f.members[s] = pool.Member{Server: s, Session: pool.Session(100 + i), MemoryBytes: 16 * gib, CPUs: 8}
	}
	return f
}

func (f *fixture) vm(id pool.VMID, memory int64, on pool.ServerID, change func(*pool.VM)) pool.VM {
	v := pool.DefaultVM(id)
	v.MemoryBytes, v.CPUs = memory, 1
	if change != nil {
		change(&v)
	}
	f.vms[id] = v
	if on != "" {
		f.claims[id] = pool.Claim{VM: id, Server: on, Session: f.members[on].Session, Phase: pool.PhaseHeld, Epoch: 1}
	}
	return v
}

func (f *fixture) server(id pool.ServerID, change func(*pool.Server)) {
	s := f.servers[id]
	change(&s)
	f.servers[id] = s
}

func (f *fixture) member(id pool.ServerID, change func(*pool.Member)) {
	m := f.members[id]
	change(&m)
	f.members[id] = m
}

func (f *fixture) snapshot() *pool.Snapshot {
	return &pool.Snapshot{Config: f.config, Servers: pool.NewTable(f.servers), Members: pool.NewTable(f.members), VMs: pool.NewTable(f.vms),
		Claims: pool.NewTable(f.claims), Fences: pool.NewTable(f.fences), Corrupt: pool.NewTable(f.corrupt)}
}

func TestEachRuleRefusesWithItsCodeAndASentenceThatNamesTheServer(t *testing.T) {
	at := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	tests := []struct {
		code  Code
		setup func(*fixture, *Request)
		says  string
	}{
		{CodeLost, func(f *fixture, _ *Request) { delete(f.members, "s1") }, "s1 is not up"},
		{CodeFenced, func(f *fixture, _ *Request) {
			delete(f.members, "s1")
			f.fences["s1"] = pool.Fence{Server: "s1", Proof: pool.ProofPower}
		}, "s1 is lost and fenced"},
		{CodeUnreadable, func(f *fixture, _ *Request) { f.corrupt["/holdfast/v1/p/members/s1"] = "bad" }, "s1 has a record that cannot be read"},
		{CodeOnly, func(_ *fixture, r *Request) { r.Only, r.OnlyWhy = "s9", "HA is off for it" }, "s1 is not s9, the only server for it: HA is off for it"},
		{CodeRequire, func(_ *fixture, r *Request) { r.VM.Require = []pool.ServerID{"s2", "s3"} }, "s1 is not among the servers it requires (s2, s3)"},
		{CodeDisksInDoubt, func(_ *fixture, r *Request) { r.VM.DisksInDoubt = "a block job was running on disk vda" },
			"its recorded disks may not be those written last (a block job was running on disk vda): check them, then set disks-in-doubt=no"},
		{CodeRemoving, func(f *fixture, _ *Request) { f.server("s1", func(s *pool.Server) { s.Removing = true }) }, "s1 is being removed"},
		{CodeShuttingDown, func(f *fixture, _ *Request) { f.server("s1", func(s *pool.Server) { s.ShuttingDown = true }) }, "s1 is shutting down"},
		{CodeMaintenance, func(f *fixture, _ *Request) {
			f.server("s1", func(s *pool.Server) {
				s.Maintenance, s.MaintenanceMark = true, pool.Mark{By: "ann", At: at, Why: "new disks"}
			})
		}, "s1 is in maintenance (set by ann since 2026-03-01 09:00:00 UTC: new disks)"},
		{CodeInboundLock, func(f *fixture, _ *Request) {
			f.server("s1", func(s *pool.Server) { s.InboundLock, s.InboundLockMark = true, pool.Mark{By: "ann"} })
		}, "s1 has an inbound lock (set by ann)"},
		{CodeVersion, func(f *fixture, _ *Request) { f.member("s1", func(m *pool.Member) { m.Version = "v0.0.1" }) }, "s1 runs agent version v0.0.1, older than"},
		{CodeStorageLost, func(f *fixture, _ *Request) { f.member("s1", func(m *pool.Member) { m.StorageLost = true }) }, "s1 has lost its path"},
		{CodeLacks, func(f *fixture, _ *Request) {
			f.member("s1", func(m *pool.Member) { m.Lacks = map[pool.VMID][]string{"web": {"bridge br7"}} })
		}, "s1 lacks bridge br7"},
		{CodeHostDevice, func(f *fixture, r *Request) {
			r.VM.Needs = []pool.Need{{Kind: pool.NeedHostDevice, Name: "0000:3b:00.0"}}
			f.member("s1", func(m *pool.Member) { m.Lacks = map[pool.VMID][]string{"web": {"host device 0000:3b:00.0"}} })
		}, "s1 lacks host device 0000:3b:00.0"},
		{CodeExhausted, func(_ *fixture, r *Request) { r.Exhausted = []pool.ServerID{"s1"} }, "it failed on s1 too often"},
		{CodeApart, func(f *fixture, r *Request) {
			r.VM.Apart = "dns"
			f.vm("other", gib, "s1", func(v *pool.VM) { v.Apart = "dns" })
		}, "s1 runs other, from which it is kept apart (group dns)"},
		{CodeTogether, func(f *fixture, r *Request) {
			r.VM.Together = "app"
			f.vm("other", gib, "s2", func(v *pool.VM) { v.Together = "app" })
		}, "s1 is not s2, where its group app is"},
		{CodeMemory, func(f *fixture, _ *Request) { f.vm("other", 15*gib, "s1", nil) }, "s1 has 1 GiB of memory free of the 4 GiB it needs, 3 GiB short"},
	}
	for _, tt := range tests {
		t.Run(string(tt.code), func(t *testing.T) {
			f := newFixture("s1", "s2")
			r := Request{VM: f.vm("web", 4*gib, "", nil)}
			if v, _ := NewLoad(f.snapshot()).Verdict(r, "s1"); !v.Fits() {
				t.Fatalf("before: %v", v.Reasons)
			}
			tt.setup(f, &r)
			v, ok := NewLoad(f.snapshot()).Verdict(r, "s1")
			if !ok || len(v.Reasons) != 1 || v.Reasons[0].Code != tt.code {
				t.Fatalf("got %v, want one reason %s", v.Reasons, tt.code)
			}
			if !strings.Contains(v.Reasons[0].Sentence, tt.says) {
				t.Errorf("sentence %q does not contain %q", v.Reasons[0].Sentence, tt.says)
			}
		})
	}
}

func TestAnInboundLockLetsARestartInPlacePassAndAFailoverWhereThePoolSaysSo(t *testing.T) {
	f := newFixture("s1")
	vm := f.vm("web", gib, "", nil)
	f.server("s1", func(s *pool.Server) { s.InboundLock = true })
	fits := func(r Request) bool {
		v, _ := NewLoad(f.snapshot()).Verdict(r, "s1")
		return v.Fits()
	}
	if fits(Request{VM: vm}) || fits(Request{VM: vm, Failover: true}) {
		t.Error("a lock that bars failover let a VM in")
	}
	if !fits(Request{VM: vm, PassLock: "s1"}) {
		t.Error("a restart in place was barred")
	}
	f.config.LockBarsFailover = false
	if fits(Request{VM: vm}) || !fits(Request{VM: vm, Failover: true}) {
		t.Error("the pool option must let failover pass, and nothing else")
	}
}

func TestAServerIsChosenByWishThenHomeThenLoadThenName(t *testing.T) {
	f := newFixture("s1", "s2", "s3", "s4")
	f.vm("busy", 8*gib, "s1", nil)
	vm := f.vm("web", gib, "", nil)
	l := NewLoad(f.snapshot())
	choose := func(r Request) string { c := l.Best(r); return string(c.Server) + ": " + c.Why }
	if got, want := choose(Request{VM: vm}), "s2: least loaded of 4 that qualify, 6% of its memory promised now"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := choose(Request{VM: vm, Home: []pool.ServerID{"s9", "s3"}}), "s3: where it ran before"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	preferring := vm
	preferring.Prefer = []pool.ServerID{"s9", "s4", "s1"}
	if got, want := choose(Request{VM: preferring, Home: []pool.ServerID{"s3"}}), "s4: its preferred server"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := choose(Request{VM: preferring, Stay: "s1"}), "s1: it stays there"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestABatchGoesByPriorityThenSizeAndCountsWhatItPromised(t *testing.T) {
	f := newFixture("s1", "s2")
	var reqs []Request
	for _, v := range []struct {
		id       pool.VMID
		memory   int64
		priority pool.Priority
	}{{"small", 6 * gib, pool.PriorityMedium}, {"low", 10 * gib, pool.PriorityLow}, {"big", 12 * gib, pool.PriorityMedium}, {"vip", 2 * gib, pool.PriorityHigh}} {
		reqs = append(reqs, Request{VM: f.vm(v.id, v.memory, "", func(vm *pool.VM) { vm.Priority = v.priority })})
	}
	var got []string
	for _, c := range NewLoad(f.snapshot()).Batch(reqs) {
		got = append(got, string(c.VM)+"->"+string(c.Server))
	}
	if want := "vip->s1 big->s2 small->s1 low->"; strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q", strings.Join(got, " "), want)
	}
}

func TestATogetherGroupIsPlacedAsAUnitAndAnApartGroupIsSpread(t *testing.T) {
	f := newFixture("s1", "s2", "s3")
	f.vm("ballast", 8*gib, "s1", nil)
	var reqs []Request
	for _, id := range []pool.VMID{"app", "cache", "db"} {
		reqs = append(reqs, Request{VM: f.vm(id, 5*gib, "", func(v *pool.VM) { v.Together = "shop" })})
	}
	for _, id := range []pool.VMID{"dns1", "dns2", "dns3", "dns4"} {
		reqs = append(reqs, Request{VM: f.vm(id, gib, "", func(v *pool.VM) { v.Apart = "dns" })})
	}
	got := map[pool.VMID]Choice{}
	for _, c := range NewLoad(f.snapshot()).Batch(reqs) {
		got[c.VM] = c
	}
	if got["app"].Server != "s2" || got["cache"].Server != "s2" || got["db"].Server != "s2" {
		t.Errorf("the group was split: %v", got)
	}
	if got["dns1"].Server == got["dns2"].Server || got["dns2"].Server == got["dns3"].Server || got["dns1"].Server == got["dns3"].Server {
		t.Errorf("kept apart, yet on one server: %v", got)
	}
	if c := got["dns4"]; c.Server != "" || !strings.Contains(c.Why, "kept apart") {
		t.Errorf("dns4: got %q %q, want a refusal that says why", c.Server, c.Why)
	}
}

func TestOfAGroupThatFitsNowhereAsAWholeTheMostUrgentRun(t *testing.T) {
	f := newFixture("s1", "s2")
	var reqs []Request
	for i, id := range []pool.VMID{"a", "b", "c"} {
		reqs = append(reqs, Request{VM: f.vm(id, 7*gib, "", func(v *pool.VM) {
			v.Together = "g"
			v.Priority = pool.PriorityHigh - pool.Priority(i)
		})})
	}
	choices := NewLoad(f.snapshot()).Batch(reqs)
	if choices[0].Server != "s1" || choices[1].Server != "s1" || choices[2].Server != "" {
		t.Fatalf("got %v", choices)
	}
	if want := "no server can take it: s1 has 2 GiB of memory free of the 7 GiB it needs, 5 GiB short; s2 is not s1, where its group g is"; choices[2].Why != want {
		t.Errorf("got %q, want %q", choices[2].Why, want)
	}
}

func TestARefusalIsSummedUpInOneSentence(t *testing.T) {
	f := newFixture("hv-01", "hv-02", "hv-03", "hv-04", "hv-05", "hv-06")
	vm := f.vm("web", 32*gib, "", nil)
	f.vm("other", 4*gib, "hv-01", nil)
	best := func() Choice { return NewLoad(f.snapshot()).Best(Request{VM: vm}) }
	if c := best(); c.Why != "no server has 32 GiB of memory free (best: hv-02, 16 GiB)" || c.Gist != "no server has 32 GiB of memory free" {
		t.Errorf("got %+v", c)
	}
	delete(f.members, "hv-06")
	if got, want := best().Why, "no server has 32 GiB of memory free (best: hv-02, 16 GiB); hv-06 is not up"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	f.server("hv-04", func(s *pool.Server) { s.Maintenance = true })
	f.server("hv-05", func(s *pool.Server) { s.Maintenance = true })
	c := best()
	if want := "no server can take it: 3 without 32 GiB of memory free (best: hv-02, 16 GiB); 2 in maintenance; hv-06 is not up"; c.Why != want {
		t.Errorf("got %q, want %q", c.Why, want)
	}
	if want := "no server can take it (in maintenance, lost, too little memory)"; c.Gist != want {
		t.Errorf("got %q, want %q", c.Gist, want)
	}
}

func TestExplainListsThoseThatFitFirstAndTellsEveryReason(t *testing.T) {
	f := newFixture("s1", "s2", "s3")
	f.vm("other", 14*gib, "s1", nil)
	f.server("s1", func(s *pool.Server) { s.Maintenance = true })
	f.vm("else", gib, "s2", nil)
	verdicts := Explain(f.snapshot(), f.vm("web", 4*gib, "", nil))
	if len(verdicts) != 3 || verdicts[0].Server != "s3" || verdicts[1].Server != "s2" || verdicts[2].Server != "s1" {
		t.Fatalf("order: %v", verdicts)
	}
	if v := verdicts[2]; len(v.Reasons) != 2 || !v.Has(CodeMaintenance) || !v.Has(CodeMemory) || v.FreeBytes != 2*gib {
		t.Errorf("got %+v", v)
	}
}

func TestAVMsOwnPromiseDoesNotStandInItsWay(t *testing.T) {
	f := newFixture("s1")
	vm := f.vm("web", 12*gib, "s1", func(v *pool.VM) { v.Apart = "g" })
	if v, _ := NewLoad(f.snapshot()).Verdict(Request{VM: vm}, "s1"); !v.Fits() {
		t.Errorf("got %v", v.Reasons)
	}
}

func TestReservedMemoryAndTheDestinationOfAMigrationCount(t *testing.T) {
	f := newFixture("s1", "s2")
	f.server("s2", func(s *pool.Server) { s.ReservedMemoryBytes = 2 * gib })
	f.vm("moving", 4*gib, "s1", nil)
	c := f.claims["moving"]
	c.Phase, c.Incoming = pool.PhaseMigrating, &pool.Incoming{Server: "s2", Session: 101}
	f.claims["moving"] = c
	vm := f.vm("web", 11*gib, "", nil)
	l := NewLoad(f.snapshot())
	if v, _ := l.Verdict(Request{VM: vm}, "s2"); v.FreeBytes != 10*gib || !v.Has(CodeMemory) {
		t.Errorf("s2: got %+v", v)
	}
	if n, mem, cpus := l.Promised("s2"); n != 1 || mem != 4*gib || cpus != 1 {
		t.Errorf("s2 promised %d VMs, %d bytes, %d CPUs", n, mem, cpus)
	}
}

func TestSizesReadWell(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 512 << 20: "512 MiB", 12 * gib: "12 GiB", 3 * gib / 2: "1.5 GiB", 2048 * gib: "2 TiB", -gib: "-1 GiB"} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
}
