package rebuild

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/saved"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// site is a pool of three servers in which VMs are put.
type site struct {
	in Input
}

// newSite has srv-1 to srv-3, all of them voters, and those present that are named.
func newSite(present ...pool.ServerID) *site {
	s := &site{Input{Present: map[pool.ServerID]*pb.LifeStanding{}, Incarnation: "new", At: time.Unix(1, 0), By: "root"}}
	s.in.State = saved.State{Pool: "prod", Incarnation: "old", Revision: 100, Config: pool.DefaultConfig("prod", "old"), Voters: []string{"srv-1", "srv-2", "srv-3"}}
	for _, id := range []pool.ServerID{"srv-1", "srv-2", "srv-3"} {
		s.in.State.Servers = s.in.State.Servers.With(id, pool.Server{ID: id, Address: string(id) + ":7400"})
	}
	for _, id := range present {
		s.in.Present[id] = &pb.LifeStanding{Server: string(id), Incarnation: "old", Known: true, Aside: true}
	}
	return s
}

// claims registers a VM that is wanted, with the claim that the newest copy has.
func (s *site) claims(c pool.Claim) *site {
	s.in.State.VMs = s.in.State.VMs.With(c.VM, pool.VM{ID: c.VM, UUID: "uuid-" + string(c.VM), Desired: pool.DesiredRunning})
	s.in.State.Claims = s.in.State.Claims.With(c.VM, c)
	return s
}

// runs puts a VM that executes on a server.
func (s *site) runs(server pool.ServerID, vm pool.VMID, epoch pool.Epoch, change ...func(*pb.PresentVM)) *site {
	v := &pb.PresentVM{Vm: string(vm), Uuid: "uuid-" + string(vm), Pool: "prod", Epoch: int64(epoch), Started: true, Running: true}
	for _, f := range change {
		f(v)
	}
	s.in.Present[server].Vms = append(s.in.Present[server].Vms, v)
	return s
}

func paused(v *pb.PresentVM)   { v.Running = false }
func byGuard(v *pb.PresentVM)  { v.Running, v.PausedByGuard = false, true }
func unborn(v *pb.PresentVM)   { v.Running, v.Started = false, false }
func arriving(v *pb.PresentVM) { v.Running, v.Started, v.Operation = false, false, "op" }
func foreign(v *pb.PresentVM)  { v.Pool, v.Vm, v.Epoch, v.Started = "", "other-name", 0, false }

func held(vm pool.VMID, server pool.ServerID, epoch pool.Epoch) pool.Claim {
	return pool.Claim{VM: vm, Server: server, Session: 50, Epoch: epoch, Phase: pool.PhaseHeld, Armed: true, Watchdog: 10 * time.Second, LastServer: server, Incarnation: "old"}
}

func stopped(vm pool.VMID, epoch pool.Epoch) pool.Claim {
	return pool.Claim{VM: vm, Epoch: epoch, Phase: pool.PhaseUnassigned, LastServer: "srv-2", Cause: pool.CauseStopped, Detail: "stopped by kim", Incarnation: "old"}
}

func TestWhatBecomesOfAVMWhenThePoolIsRebuilt(t *testing.T) {
	all := []pool.ServerID{"srv-1", "srv-2", "srv-3"}
	two := all[:2]
	for name, c := range map[string]struct {
		s      *site
		fate   Fate
		server pool.ServerID
		epoch  pool.Epoch
	}{
		"it runs where the copy says":                                                   {newSite(all...).claims(held("v", "srv-1", 4)).runs("srv-1", "v", 4), Adopted, "srv-1", 4},
		"it runs elsewhere than the copy says, which is stale":                          {newSite(all...).claims(held("v", "srv-1", 4)).runs("srv-2", "v", 5), Adopted, "srv-2", 5},
		"it runs though the copy says stopped":                                          {newSite(all...).claims(stopped("v", 4)).runs("srv-2", "v", 5), Adopted, "srv-2", 5},
		"it was paused by hand":                                                         {newSite(all...).claims(held("v", "srv-1", 4)).runs("srv-1", "v", 4, paused), Adopted, "srv-1", 4},
		"the guard paused it, and every server answers":                                 {newSite(all...).claims(held("v", "srv-1", 4)).runs("srv-1", "v", 4, byGuard), Adopted, "srv-1", 4},
		"the guard paused it, and a server does not answer":                             {newSite(two...).claims(held("v", "srv-1", 4)).runs("srv-1", "v", 4, byGuard), Waits, "srv-3", 5},
		"the guard has killed it":                                                       {newSite(all...).claims(held("v", "srv-1", 4)), Free, "", 5},
		"it was stopped":                                                                {newSite(all...).claims(stopped("v", 4)), Free, "", 5},
		"its server does not answer":                                                    {newSite(two...).claims(held("v", "srv-3", 4)), Waits, "srv-3", 4},
		"its server has lost it, and another does not answer, which may have it by now": {newSite(two...).claims(held("v", "srv-1", 4)), Waits, "srv-3", 5},
		"it was stopped, but a server does not answer, which may have it by now":        {newSite(two...).claims(stopped("v", 4)), Waits, "srv-3", 5},
		"it runs here, whoever does not answer":                                         {newSite(two...).claims(held("v", "srv-2", 4)).runs("srv-2", "v", 4), Adopted, "srv-2", 4},
		"it runs here under a later epoch than the copy's":                              {newSite(two...).claims(held("v", "srv-3", 4)).runs("srv-2", "v", 5), Adopted, "srv-2", 5},
		"it was being started, and every server answers":                                {newSite(all...).claims(stopped("v", 4)).runs("srv-2", "v", 5, unborn), Adopted, "srv-2", 5},
		"it was being started, and a server does not answer":                            {newSite(two...).claims(stopped("v", 4)).runs("srv-2", "v", 5, unborn), Waits, "srv-3", 6},
		"a left-over of an older claim":                                                 {newSite(all...).claims(held("v", "srv-1", 6)).runs("srv-2", "v", 4, paused), Ended, "srv-2", 7},
		"a left-over while a server does not answer":                                    {newSite(two...).claims(held("v", "srv-3", 6)).runs("srv-2", "v", 4, paused), Waits, "srv-3", 6},
		"a copy that arrived and was not handed over":                                   {newSite(all...).claims(held("v", "srv-1", 4)).runs("srv-1", "v", 4).runs("srv-2", "v", 4, arriving), Adopted, "srv-1", 4},
		"a copy that arrived, and its source is gone":                                   {newSite(all...).claims(held("v", "srv-1", 4)).runs("srv-2", "v", 4, arriving), Free, "", 5},
		"one that moved: the source is paused, the destination runs":                    {newSite(all...).claims(held("v", "srv-1", 4)).runs("srv-1", "v", 4, paused).runs("srv-2", "v", 5), Adopted, "srv-2", 5},
		"one that was about to be adopted":                                              {newSite(two...).claims(held("v", "srv-1", 1)).runs("srv-1", "v", 0, foreign), Adopted, "srv-1", 1},
		"somebody else's domain with its UUID":                                          {newSite(two...).claims(held("v", "srv-3", 4)).runs("srv-1", "v", 0, foreign, paused), Waits, "srv-3", 4},
	} {
		p := Judge(c.s.in)
		if len(p.Refusals) > 0 || len(p.VMs) != 1 {
			t.Errorf("%s: refused: %v", name, p.Refusals)
			continue
		}
		got := p.VMs[0]
		if got.Fate != c.fate || got.Claim.Server != c.server || got.Claim.Epoch != c.epoch {
			t.Errorf("%s: fate %d on %q at epoch %d (%s); want %d on %q at %d", name, got.Fate, got.Claim.Server, got.Claim.Epoch, got.Why, c.fate, c.server, c.epoch)
		}
		if err := got.Claim.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got.Claim.Armed || got.Claim.Watchdog != 0 || got.Claim.Incarnation != "new" || got.Claim.Session > pool.FormerLife {
			t.Errorf("%s: claim %+v: nothing but power or an operator may prove that its old process is dead", name, got.Claim)
		}
	}
}

func TestABackupThatIsOlderThanTheCopiesLeavesAVMWhereTheyLastSawIt(t *testing.T) {
	s := newSite("srv-1", "srv-2").claims(held("v", "srv-1", 4)).claims(held("gone", "srv-1", 1)).claims(held("kept", "srv-2", 2)).runs("srv-2", "kept", 2)
	newer := s.in.State
	newer.Revision, newer.Claims = 200, newer.Claims.With("v", held("v", "srv-3", 5)).Without("gone").Without("kept")
	newer.VMs = newer.VMs.Without("gone").Without("kept").With("late", pool.VM{ID: "late"})
	s.in.Copies, s.in.Newer = []saved.State{newer}, &newer
	p := Judge(s.in)
	for _, v := range p.VMs {
		reg, _ := s.in.State.VMs.Get(v.ID)
		reg = v.Registration(reg)
		switch v.ID {
		case "v": // it goes on when srv-3 is back
			if v.Fate != Waits || v.Claim.Server != "srv-3" || v.Claim.Epoch != 5 || v.Removed {
				t.Errorf("%+v", v)
			}
		case "kept": // it runs, and nobody stops it
			if v.Fate != Adopted || !v.Removed || reg.Desired != pool.DesiredRunning {
				t.Errorf("%+v, %+v", v, reg)
			}
		case "gone": // it may run on srv-3: it waits
			if v.Fate != Waits || !v.Removed {
				t.Errorf("%+v", v)
			}
		}
	}
	if !slices.Equal(p.Unrestored, []pool.VMID{"late"}) {
		t.Errorf("not restored: %v", p.Unrestored)
	}
	s.in.Present["srv-3"] = &pb.LifeStanding{Server: "srv-3", Known: true, Aside: true}
	for _, v := range Judge(s.in).VMs {
		reg, _ := s.in.State.VMs.Get(v.ID)
		if v.ID == "gone" && (v.Fate != Free || v.Registration(reg).Desired != pool.DesiredStopped) {
			t.Errorf("a VM that was removed after the backup is started: %+v", v)
		}
	}
}

func TestServersThatAreOffLetTheirVMsGo(t *testing.T) {
	s := newSite("srv-1", "srv-2").claims(held("v", "srv-3", 4))
	s.in.Off = []pool.ServerID{"srv-3"}
	p := Judge(s.in)
	if len(p.Refusals) > 0 || p.VMs[0].Fate != Free || p.VMs[0].Claim.Epoch != 5 || len(p.Absent) > 0 {
		t.Errorf("%+v", p)
	}
	if len(p.Fences) != 1 || p.Fences[0].Proof != pool.ProofConfirmed || !p.Fences[0].Covers(pool.FormerLife) || p.Fences[0].Covers(2) {
		t.Errorf("fences %+v", p.Fences)
	}
}

func TestARebuildIsRefusedWhileItCouldHarm(t *testing.T) {
	all := []pool.ServerID{"srv-1", "srv-2", "srv-3"}
	alone := newSite("srv-1").claims(held("v", "srv-1", 4))
	lostVotes := newSite("srv-1").claims(held("v", "srv-1", 4)).runs("srv-1", "v", 4)
	twice := newSite(all...).claims(held("v", "srv-1", 4)).runs("srv-1", "v", 4).runs("srv-2", "v", 4)
	answers := newSite(all...)
	answers.in.Present["srv-2"].EtcdAnswers = true
	mute := newSite(all...)
	mute.in.Present["srv-2"].Known = false
	alive := newSite(all...)
	alive.in.Off = []pool.ServerID{"srv-2"}
	wrong := newSite(all...)
	wrong.in.Off = []pool.ServerID{"srv-9"}
	noVoters := newSite("srv-1", "srv-2")
	noVoters.in.State.Voters = nil
	foreign := newSite(all...)
	foreign.in.Foreign = true
	half := newSite("srv-2", "srv-3")
	half.in.Copies = []saved.State{half.in.State}
	for _, p := range half.in.Present {
		p.Incarnation, p.Earlier, p.Endpoints = "unborn", []string{"old"}, []string{"https://srv-1:2379"}
	}
	for name, c := range map[string]struct {
		s    *site
		says string
	}{
		"two servers do not answer, and a VM may be on either": {alone, "--off srv-3"},
		"the old etcd could come back without this server":     {lostVotes, "--old-etcd-lost"},
		"a VM executes twice":                                  {twice, "executes on srv-2 too"},
		"etcd answers one of them":                             {answers, "etcd answers srv-2"},
		"a server cannot say what runs there":                  {mute, "srv-2 cannot say"},
		"a server that is off answers":                         {alive, "said to be off, and answers"},
		"no such server":                                       {wrong, "srv-9"},
		"nobody knows who voted":                               {noVoters, "--old-etcd-lost"},
		"a rebuild broke off on a server that is off since":    {half, "https://srv-1:2379, on a server that does not answer"},
		"it is of another pool of that name":                   {foreign, "--other-life"},
	} {
		p := Judge(c.s.in)
		if !strings.Contains(strings.Join(p.Refusals, "\n"), c.says) {
			t.Errorf("%s: refusals %q, want one that says %q", name, p.Refusals, c.says)
		}
	}
	half.in.Present["srv-1"] = half.in.Present["srv-2"]
	if p := Judge(half.in); len(p.Refusals) > 0 {
		t.Errorf("refused though the server that may have a half-made etcd answers: %q", p.Refusals)
	}
	lostVotes.in.OldEtcdLost = true
	if p := Judge(lostVotes.in); len(p.Refusals) > 0 {
		t.Errorf("refused although the only VM runs here and the old etcd is lost: %q", p.Refusals)
	}
}

func TestVMsOfThePoolThatNobodyKnowsAreTold(t *testing.T) {
	p := Judge(newSite("srv-1", "srv-2", "srv-3").runs("srv-2", "young", 1).in)
	if !slices.Equal(p.Strangers, []string{"young on srv-2"}) {
		t.Errorf("strangers %v", p.Strangers)
	}
}

func TestNewRevisionsComeAfterAllThatAnybodyHasSeen(t *testing.T) {
	s := newSite("srv-1", "srv-2", "srv-3")
	s.in.Copies = []saved.State{{Incarnation: "older", Revision: 7_000_000}}
	if p := Judge(s.in); p.Seen() != 7_000_000 || p.After <= p.Seen() {
		t.Errorf("seen %d, after %d", p.Seen(), p.After)
	}
}

// world is what is true, of which a rebuild sees copies and the servers that answer: who executes a VM, under which epoch.
type truth struct {
	server pool.ServerID
	epoch  pool.Epoch
}

func TestNoVMIsGivenToAServerWhileAnotherExecutesIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := []pool.ServerID{"srv-1", "srv-2", "srv-3"}
		present := slices.Compact(slices.Sorted(slices.Values(rapid.SliceOfN(rapid.SampledFrom(all), 1, 3).Draw(t, "present"))))
		s := newSite(present...)
		s.in.OldEtcdLost = true
		// The truth went on after the copy: each step is a new owner with the next epoch.
		owners := rapid.SliceOfN(rapid.SampledFrom(append(all, "")), 1, 5).Draw(t, "owners")
		seen := rapid.IntRange(0, len(owners)-1).Draw(t, "seen")
		now := truth{owners[len(owners)-1], pool.Epoch(len(owners))}
		if owners[seen] == "" {
			s.claims(stopped("v", pool.Epoch(seen+1)))
		} else {
			s.claims(held("v", owners[seen], pool.Epoch(seen+1)))
		}
		if rapid.Bool().Draw(t, "a newer copy") {
			// What is restored is a backup, and a server has a copy that has seen more.
			more := rapid.IntRange(seen, len(owners)-1).Draw(t, "seen by the copy")
			c := held("v", owners[more], pool.Epoch(more+1))
			if owners[more] == "" {
				c = stopped("v", c.Epoch)
			}
			newer := s.in.State
			newer.Revision, newer.Claims = 200, newer.Claims.With("v", c)
			s.in.Copies, s.in.Newer = []saved.State{newer}, &newer
		}
		for i, owner := range owners {
			epoch, left := pool.Epoch(i+1), s.in.Present[owner] != nil
			switch {
			case left && epoch == now.epoch:
				s.runs(owner, "v", epoch)
			case left && rapid.Bool().Draw(t, "left over"):
				// Paused by its guard, or never run, when its claim moved on.
				s.runs(owner, "v", epoch, rapid.SampledFrom([]func(*pb.PresentVM){byGuard, unborn, arriving}).Draw(t, "how"))
			}
		}
		p := Judge(s.in)
		if len(p.Refusals) > 0 {
			return
		}
		c := p.VMs[0].Claim
		switch {
		case now.server != "" && c.Server != now.server:
			t.Fatalf("%s executes it under epoch %d; the rebuilt pool gives %+v (%s)", now.server, now.epoch, c, p.VMs[0].Why)
		case now.server != "" && s.in.Present[now.server] != nil && (p.VMs[0].Fate != Adopted || c.Epoch != now.epoch):
			t.Fatalf("it runs on %s, which answers, and does not go on: %+v", now.server, p.VMs[0])
		case c.Epoch < pool.Epoch(seen+1):
			t.Fatalf("epoch %d after %d", c.Epoch, seen+1)
		}
	})
}
