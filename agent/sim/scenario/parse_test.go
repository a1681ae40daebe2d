package scenario

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/agent/sim/world"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

func parse(t *testing.T, text string) *File {
	t.Helper()
	f, err := Parse("test.scenario", text)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

const example = `# The leader loses power while evacuating another server.
pool ttl=5s
servers s1 s2 s3 s4
leader s1
vm web on=s3 memory=8G dirty-rate=50M
vm db  on=s1 priority=high
at 10s maintenance enter s3
after 1s expect s3 evacuating
after 0s power off s1
by 30s expect db running on s2,s4 and leader not s1
by 90s expect s3 maintenance and web running on s2,s4
expect web starts = 1
expect db starts = 2
never web running on s1
`

func TestTheExampleOfTheManualIsUnderstood(t *testing.T) {
	f := parse(t, example)
	if len(f.Servers) != 4 || f.Leader != "s1" || f.Pool.LeaseTTL != 5*time.Second || !f.Pool.HA {
		t.Errorf("set-up: %+v", f)
	}
	web, db := f.VMs[0], f.VMs[1]
	if web.On != "s3" || web.MemoryBytes != 8<<30 || web.Sim.DirtyRate != 50<<20 || db.Priority != pool.PriorityHigh {
		t.Errorf("vms: %+v", f.VMs)
	}
	if len(f.Lines) != 7 || len(f.Never) != 1 {
		t.Fatalf("%d lines, %d nevers", len(f.Lines), len(f.Never))
	}
	by := f.Lines[3]
	if by.Kind != By || by.Until != 30*time.Second || len(by.Cond) != 2 || by.Cond[0].Test != VMRunning ||
		strings.Join(by.Cond[0].On, ",") != "s2,s4" || by.Cond[1].Test != LeaderIsNot || by.Cond[1].Subject != "s1" || by.Cond[1].Or {
		t.Errorf("by: %+v", by)
	}
	if off := f.Lines[2]; off.Kind != Fault || off.Verb != "power off" || off.Server != "s1" || off.When != After || off.Time != 0 {
		t.Errorf("power off: %+v", off)
	}
}

func TestEveryOptionHasItsDefaultAndIsUnderstood(t *testing.T) {
	f := parse(t, `
pool ha=off ttl=8s return=off shutdown=freeze tolerate=2 lock-bars-failover=off on-isolation=pause isolation-grace=45s trust-guard-alone=on etcd=embedded voters=a,b,c
pool suspect-after=3s start-delay=1s migrate-rate=50M stop-limit=30s
servers a b
server c memory=128G cpus=32 fencing=watchdog watchdog=12s fence-delay=2s up=yes version=0.1.0 maintenance=on inbound-lock=on boot-delay=3s
server d up=no fencing=power
vm v1 on=a
vm v2 state=stopped ha=off memory=512M cpus=3 priority=low prefer=a,b require=b,c apart=g1 together=g2 restarts=0 relocations=3 window=1m movable=no disks=block dirty-rate=1M start-fails=2@a migrate-fails=1 stop-fails=always
expect v1 running
`)
	p := f.Pool
	if p.HA || p.LeaseTTL != 8*time.Second || p.ReturnHome || p.Shutdown != pool.ShutdownFreeze || p.Tolerate != 2 || p.LockBarsFailover ||
		p.OnIsolation != pool.IsolationPause || p.IsolationGrace != 45*time.Second || !p.TrustGuardAlone || !p.Embedded || len(p.Voters) != 3 ||
		p.SuspectAfter != 3*time.Second || p.StartDelay != time.Second || p.MigrateRate != 50<<20 || p.StopLimit != 30*time.Second {
		t.Errorf("pool: %+v", p)
	}
	a, c, d := f.Servers[0], f.Servers[2], f.Servers[3]
	if a.MemoryBytes != 64<<30 || a.CPUs != 16 || a.Fencing != world.FencingGuard || !a.Up || a.BootDelay != time.Second || a.FenceDelay != time.Second {
		t.Errorf("defaults of a server: %+v", a)
	}
	if c.MemoryBytes != 128<<30 || c.CPUs != 32 || c.Fencing != world.FencingWatchdog || c.Watchdog != 12*time.Second || c.FenceDelay != 2*time.Second ||
		c.Version != "0.1.0" || !c.Maintenance || !c.InboundLock || c.BootDelay != 3*time.Second || d.Up || d.Fencing != world.FencingPower {
		t.Errorf("servers: %+v %+v", c, d)
	}
	v, w := f.VMs[0], f.VMs[1]
	if !v.Running || !v.HA || v.MemoryBytes != 2<<30 || v.CPUs != 1 || v.Priority != pool.PriorityMedium || v.Restarts != 1 || v.Relocations != 1 ||
		v.Window != 10*time.Minute || !v.Movable || !v.DiskLocks || v.Sim.DirtyRate != 10<<20 || v.Desired != pool.DesiredRunning {
		t.Errorf("defaults of a VM: %+v", v)
	}
	if w.Running || w.HA || w.MemoryBytes != 512<<20 || w.CPUs != 3 || w.Priority != pool.PriorityLow || len(w.Prefer) != 2 || len(w.Require) != 2 ||
		w.Apart != "g1" || w.Together != "g2" || w.Restarts != 0 || w.Relocations != 3 || w.Window != time.Minute || w.Movable || w.DiskLocks ||
		!w.Sim.BlockDisks || w.Sim.StartFails != 2 || w.Sim.StartFailsOn != "a" || w.Sim.MigrateFails != 1 || w.Sim.StopFails != world.Always {
		t.Errorf("vm: %+v", w)
	}
}

const everyStatement = `
servers s1 s2 s3 s4 s5
vm web on=s1
vm db on=s2
at 0s power off s1
after 1s power on leader
after 1s cut s1
after 1s heal s1
after 1s cut s1 etcd
after 1s cut s1 peers
after 1s cut s1 from s2
after 1s cut s1 to s2
after 1s cut s1 to etcd
after 1s cut etcd to s1
after 1s split s1,s2 / s3,s4,s5
after 1s split s1/s2,s3,s4,s5
after 1s heal all
after 1s etcd down
after 1s etcd up
after 1s etcd freeze s1
after 1s etcd delete claim web
after 1s etcd forge claim web s2
after 1s etcd forge claim web s2 held
after 1s etcd forge release web
after 1s etcd rollback claim web
after 1s etcd delete member s2
after 1s etcd revoke lease s2
after 1s etcd thaw s1
after 1s agent kill s1
after 1s agent start s1
after 1s agent hang leader
after 1s agent resume s1
after 1s agent stop s1
after 1s agent restart s1
after 1s agent upgrade s1
after 1s guard kill s1
after 1s guard hang s1
after 1s guard start s1
after 1s libvirtd kill s1
after 1s libvirtd start s1
after 1s storage off s1
after 1s storage on s1
after 1s vm crash web
after 1s snapshot web
after 1s commit start web
after 1s commit pivot web
after 1s guest shutdown web
after 1s guest panic web
after 1s fence fails s1
after 1s fence works s1
after 1s slow s1 50ms
after 1s maintenance enter s1
after 1s maintenance exit s1
after 1s inbound-lock on s1
after 1s inbound-lock off s1
after 1s migrate web s2
after 1s migrate web
after 1s relocate web s2
after 1s operation cancel
after 1s start web
after 1s stop web
after 1s kill web
after 1s restart web
after 1s clear web
after 1s remove web
after 1s add new memory=4G on=s1   # comment
after 1s add bare
after 1s ha on
after 1s ha off
after 1s ha on web
after 1s ha off web
after 1s freeze
after 1s unfreeze
after 1s shutdown s1
after 1s reboot s1
after 1s remove-server s1
after 1s confirm-fenced s1
after 1s set web priority=high prefer=s1,s2
after 1s set pool tolerate=1
expect web running on s1,s2 or web stopped and not web waiting
expect web failed or web paused or web lost or web running
expect web starts = 2 and web migrations=0
expect web reason "no server # with room"
expect s1 up or s1 lost or s1 fenced or s1 off or s1 evacuating or s1 blocked or s1 maintenance or s1 locked or s1 reset
expect leader s1 or leader not s2 or leader any or leader none
expect refused "lock" or refused or accepted
expect operation done or operation failed "text" or operation failed
expect s1 vms = 3 or alert "text" or no alerts
expect new running
hold 5s web running
after 3s hold 5s web running
by 10m expect web running
never s1 off and s2 off
`

func TestEveryStatementAndConditionIsUnderstood(t *testing.T) {
	f := parse(t, everyStatement)
	used := map[string]bool{}
	for _, l := range f.Lines {
		used[l.Verb] = true
	}
	for _, form := range forms {
		if !used[form.verb()] {
			t.Errorf("the test lacks %q", form.words)
		}
	}
	c := f.Lines[len(f.Lines)-13].Cond
	if len(c) != 3 || !c[1].Or || c[2].Or || !c[2].Not {
		t.Errorf("joined wrongly: %+v", c)
	}
}

func TestAWrongFileIsRefusedWithLineAndWhatWasUnderstood(t *testing.T) {
	setup := "servers s1 s2 s3 s4\nvm web on=s1\n"
	for _, c := range []struct{ text, line, want string }{
		{"bogus", "3", `unknown statement "bogus"`},
		{"at 5s power of s1", "3", `understood "power", then expected off or on, found "of"`},
		{"at 5s power off", "3", `expected SERVER, found the end of the line`},
		{"at 5s power off s9", "3", `"s9" is not a server`},
		{"at 5s power off s1 now", "3", `expected the end of the line, found "now"`},
		{"power off s1", "3", "it needs a time"},
		{"at 5s stop nosuch", "3", `"nosuch" is not a VM`},
		{"at soon power off s1", "3", `"soon" is not a duration`},
		{"at 10s freeze\nat 5s freeze", "4", "time goes back"},
		{"at 10s freeze\nafter 10s freeze\nat 15s freeze", "5", "time goes back"},
		{"by 30s expect web running\nat 20s freeze", "4", "time goes back"},
		{"at 10s freeze\nby 5s expect web running", "4", "time goes back"},
		{"at 5s split s1,s2 / s3,s4", "3", "no group is larger"},
		{"at 5s split s1,s2,s3", "3", "expected groups"},
		{"at 5s split s1,s2 / s2,s3,s4", "3", "in two groups"},
		{"expect web flying", "3", `"flying" is not a condition`},
		{"expect web", "3", "expected a condition after the name"},
		{"expect web running on", "3", "expected servers"},
		{"expect web running on s9", "3", `"s9" is not a server`},
		{"expect web starts 1", "3", "expected = and a number"},
		{"expect web reason lock", "3", "text in quotes"},
		{"expect web reason \"lock", "3", "no closing quote"},
		{"expect web running and", "3", "expected a condition after"},
		{"expect web running s1 up", "3", "expected and, or"},
		{"expect", "3", "found the end of the line"},
		{"never", "3", "found the end of the line"},
		{"hold web running", "3", `"web" is not a duration`},
		{"by 5s web running", "3", "expected TIME expect CONDITION"},
		{"pool colour=blue", "3", `unknown key "colour"`},
		{"pool ttl=1s", "3", "lease_ttl"},
		{"pool ttl=5s ttl=6s", "3", "given twice"},
		{"pool voters=s1", "3", "need etcd=embedded"},
		{"pool etcd=embedded\npool voters=s9", "4", `"s9" is not a server`},
		{"server s5 up=no\nleader s5", "4", "but is not up"},
		{"poool ha=on", "3", "did you mean pool?"},
		{"Expect web running", "3", "did you mean expect?"},
		{"wait 5s", "3", "statements begin with pool, servers, server, vm, at, after"},
		{"expect web starts > 1", "3", "such as starts = 1"},
		{"servers s1", "3", "set up twice"},
		{"server s5\nservers s5 s6\nserver s5 cpus=2", "5", "set up twice"},
		{"pool ha=maybe", "3", "must be on, off"},
		{"server s1 memory=lots", "3", "is not a size"},
		{"servers s5 s5", "3", "set up twice"},
		{"server s1 fencing=prayer", "3", "must be guard, watchdog, power, none"},
		{"vm web on=s1", "3", "set up twice"},
		{"vm db on=s9", "3", `"s9" is not a server`},
		{"vm db on=s1 window=0s", "3", "window must be more than 0"},
		{"vm db on=s1 start-fails=some", "3", "nor the word always"},
		{"vm db on", "3", "expected KEY=VALUE"},
		{"vm b@d on=s1", "3", "is not a name"},
		{"server s5 up=no\nvm db on=s5", "4", "which is not up"},
		{"leader s9", "3", `"s9" is not a server`},
		{"at 1s freeze\nvm db on=s1", "4", "before the time line"},
		{"at 1s add x colour=red", "3", `unknown key "colour"`},
		{"at 1s set web on=s2", "3", "can only be set up"},
		{"at 1s set web", "3", "expected KEY=VALUE"},
		{"at 1s by 5s expect web running", "3", "line of its own"},
		{"at 1s", "3", "expected a statement"},
		{"at -1s freeze", "3", "cannot be negative"},
	} {
		_, err := Parse("x.scenario", setup+c.text+"\n")
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%q: accepted", c.text)
			continue
		}
		if !strings.HasPrefix(err.Error(), "x.scenario:"+c.line+": ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v\n   want line %s and %q", c.text, err, c.line, c.want)
		}
	}
	if _, err := Parse("empty", "# nothing\n"); err == nil {
		t.Error("a scenario without servers is accepted")
	}
}

func TestOddButRightFilesAreUnderstood(t *testing.T) {
	for what, text := range map[string]string{
		"a mark at the beginning":         "\ufeffservers s1 s2 s3\nvm web on=s1\n",
		"line ends of Windows":            "# story\r\nservers s1 s2 s3\r\n\r\nvm web on=s1\r\nat 5s expect web running\r\n",
		"tabs, and comments without room": "\tservers\ts1 s2\ts3  \n  vm\tweb on=s1# here\nat\t5s\texpect\tweb running on s1,s2#there\n",
		"a server before its list":        "server s3 memory=8G\nservers s1 s2 s3\nvm web on=s1\n",
		"set-up in any order":             "leader s2\nvm web on=s1 prefer=s3\npool ttl=6s\nservers s1 s2 s3\npool ha=on\n",
		"not of a not":                    "servers s1 s2\nvm web on=s1\nexpect not not web running\n",
		"a guest that dirties nothing":    "servers s1 s2\nvm web on=s1 dirty-rate=0\n",
		"no time line":                    "servers s1 s2\n",
		"a time of 0":                     "servers s1 s2\nat 0 freeze\nafter 0s unfreeze\n",
		"several at one instant":          "servers s1 s2\nat 5s freeze\nat 5s unfreeze\nat 5000ms freeze\n",
		"numbers as names":                "servers 1 2 3\nvm 10 on=1\nat 5s migrate 10 2\n",
		"names that are words too":        "servers etcd peers from\nvm starts on=from\nat 1s cut etcd etcd\nat 2s cut from from peers\nexpect starts starts = 1\n",
		"the leader's side of a split":    "servers s1 s2 s3\nat 5s split leader / s2,s3\n",
	} {
		if _, err := Parse("odd.scenario", text); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestANeverWithATimeCountsFromTheBeginningAndMovesWhatFollows(t *testing.T) {
	f := parse(t, "servers s1 s2\nvm web on=s1\nat 5s never web stopped\nafter 5s freeze\nnever web failed\n")
	if len(f.Never) != 2 || len(f.Lines) != 2 || f.Lines[0].Kind != Never || f.Lines[1].Time != 5*time.Second {
		t.Errorf("never: %d, lines: %+v", len(f.Never), f.Lines)
	}
}

func TestAtMayLieInsideAHold(t *testing.T) {
	parse(t, "servers s1 s2\nvm web on=s1\nat 10s hold 60s web running\nat 20s agent kill s2\nafter 5s agent start s2\n")
}

func FuzzParse(f *testing.F) {
	f.Add(example)
	f.Add(everyStatement)
	files, _ := filepath.Glob("../../../test/scenarios/*/*.scenario")
	for _, name := range files {
		if b, err := os.ReadFile(name); err == nil {
			f.Add(string(b))
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		file, err := Parse("f", text)
		var e *Error
		if err != nil && !errors.As(err, &e) {
			t.Fatalf("not an *Error: %v", err)
		}
		if err == nil && len(file.Servers) == 0 {
			t.Fatal("accepted without servers")
		}
	})
}
