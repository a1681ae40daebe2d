package check

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// sound are the facts of a pool with which nothing is wrong.
func sound() Facts {
	cfg := pool.DefaultConfig("prod", "life")
	cfg.HA = true
	peer := Peer{RoundTrip: time.Millisecond, HasClock: true, Version: "v1.0.0", EtcdReachable: true, Guard: true}
	return Facts{
		Server: "s1", Version: "v1.0.0",
		Pool: &pool.Snapshot{Revision: 9, Config: cfg, Servers: pool.NewTable(map[pool.ServerID]pool.Server{
			"s1": {ID: "s1", HostUUID: "aaaa"}, "s2": {ID: "s2", HostUUID: "bbbb"}, "s3": {ID: "s3", HostUUID: "cccc"}})},
		Etcd:     []time.Duration{time.Millisecond, 2 * time.Millisecond, time.Millisecond},
		Libvirt:  Libvirt{HostUUID: "AAAA", MemoryBytes: 64 << 30, CPUs: 16},
		Storage:  []string{"/srv/vms"},
		Watchdog: Watchdog{Wanted: "auto", Device: "/dev/watchdog", Identity: "iTCO_wdt", Owner: "holdfast-agent (77)"},
		Peers:    map[pool.ServerID]Peer{"s1": peer, "s2": peer, "s3": peer},
		Fences:   map[pool.ServerID]string{"s1": "", "s2": "", "s3": ""},
		Paths:    Paths{Interface: "bond0", Links: []string{"eth0", "eth1"}},
	}
}

// with changes what one server answers.
func with(f *Facts, id pool.ServerID, change func(*Peer)) {
	f.Peers = maps.Clone(f.Peers)
	p := f.Peers[id]
	change(&p)
	f.Peers[id] = p
}

func TestNothingIsWrongWithASoundPool(t *testing.T) {
	lines := Judge(sound())
	for _, l := range lines {
		if l.Verdict != OK || l.Fix != "" || l.Text == "" {
			t.Errorf("%+v", l)
		}
	}
	if Worst(lines) != OK || len(lines) != 15 {
		t.Errorf("%v, %d lines", Worst(lines), len(lines))
	}
}

func TestEachThingThatIsWrongHasItsLineWithAFix(t *testing.T) {
	for name, c := range map[string]struct {
		spoil   func(*Facts)
		line    string
		verdict Verdict
		text    string
	}{
		"etcd is away":     {func(f *Facts) { f.Pool, f.PoolErr = nil, "no route to host" }, "pool", Fail, "no route to host"},
		"not registered":   {func(f *Facts) { f.Server = "s9" }, "pool", Fail, "s9 is not registered with pool prod"},
		"corrupt keys":     {func(f *Facts) { f.Pool.Corrupt = pool.NewTable(map[string]string{"k": "no JSON"}) }, "pool", Fail, "1 values"},
		"etcd is silent":   {func(f *Facts) { f.Etcd = nil }, "etcd latency", Fail, "did not answer"},
		"etcd is slow":     {func(f *Facts) { f.Etcd = append(f.Etcd, 300*time.Millisecond) }, "etcd latency", Warn, "the slowest 300ms; a renewal may take 833.333333ms"},
		"etcd is too slow": {func(f *Facts) { f.Etcd = append(f.Etcd, 900*time.Millisecond) }, "etcd latency", Fail, "the slowest 900ms"},
		"a shorter lease": {func(f *Facts) {
			f.Pool.Config.LeaseTTL = 3 * time.Second
			f.Etcd = append(f.Etcd, 600*time.Millisecond)
		}, "etcd latency", Fail, "may take 500ms"},
		"etcd is too old":    {func(f *Facts) { f.EtcdVersionErr = "etcd 3.4.1 is too old" }, "etcd latency", Fail, "too old"},
		"election too long":  {func(f *Facts) { f.ElectionErr = "twice the election timeout" }, "etcd latency", Fail, "election"},
		"two votes":          {func(f *Facts) { f.LoseOneErr = "2 voters do not survive the loss of one" }, "etcd votes", Fail, "2 voters"},
		"a server is silent": {func(f *Facts) { with(f, "s2", func(p *Peer) { *p = Peer{Err: "connection refused"} }) }, "servers", Fail, "no answer from s2: connection refused"},
		"one without etcd":   {func(f *Facts) { with(f, "s3", func(p *Peer) { p.EtcdReachable = false }) }, "servers", Fail, "s3 cannot reach etcd"},
		"a slow network":     {func(f *Facts) { with(f, "s3", func(p *Peer) { p.RoundTrip = time.Second }) }, "servers", Warn, "s3 took more than 50ms"},
		"alone":              {func(f *Facts) { f.Peers = map[pool.ServerID]Peer{"s1": f.Peers["s1"]} }, "servers", Warn, "only server"},
		"mixed versions":     {func(f *Facts) { with(f, "s2", func(p *Peer) { p.Version = "v0.9.0" }) }, "versions", Warn, "v0.9.0 on s2; v1.0.0 on s1, s3"},
		"not restarted":      {func(f *Facts) { f.Version = "v1.1.0" }, "versions", Warn, "v1.1.0 installed here and not running"},
		"clocks apart":       {func(f *Facts) { with(f, "s2", func(p *Peer) { p.Offset = -2 * time.Second }) }, "clocks", Warn, "2s apart, s2 most"},
		"clocks far apart":   {func(f *Facts) { with(f, "s2", func(p *Peer) { p.Offset = time.Hour }) }, "clocks", Fail, "1h0m0s apart"},
		"clocks both ways": {func(f *Facts) {
			with(f, "s2", func(p *Peer) { p.Offset = 300 * time.Millisecond })
			with(f, "s3", func(p *Peer) { p.Offset = -300 * time.Millisecond })
		}, "clocks", Warn, "600ms apart"},
		"no clock told":         {func(f *Facts) { with(f, "s2", func(p *Peer) { p.HasClock = false }) }, "clocks", Warn, "s2 did not say"},
		"no libvirt":            {func(f *Facts) { f.Libvirt = Libvirt{Err: "connection refused"} }, "libvirt", Fail, "refused"},
		"no CPU known":          {func(f *Facts) { f.Libvirt = Libvirt{Err: "connection refused"} }, "CPUs", Warn, "not known"},
		"no storage configured": {func(f *Facts) { f.Storage = nil }, "storage", Warn, "no shared storage"},
		"storage not there":     {func(f *Facts) { with(f, "s3", func(p *Peer) { p.MissingStorage = []string{"file /srv/vms"} }) }, "storage", Fail, "s3: file /srv/vms"},
		"storage not looked at": {func(f *Facts) { with(f, "s3", func(p *Peer) { p.StorageErr = "libvirt is away" }) }, "storage", Fail, "s3: libvirt is away"},
		"lesser CPU":            {func(f *Facts) { with(f, "s2", func(p *Peer) { p.CPULacks = []string{"avx512f"} }) }, "CPUs", Warn, "s2 lacks avx512f"},
		"cloned machine": {func(f *Facts) {
			f.Pool.Servers = f.Pool.Servers.With("s2", pool.Server{ID: "s2", HostUUID: "AAAA"})
		}, "host UUIDs", Fail, "s1, s2 share the host UUID aaaa"},
		"exchanged machine": {func(f *Facts) { f.Libvirt.HostUUID = "dddd" }, "host UUIDs", Warn, "registered with aaaa, libvirt here says dddd"},
		"no guard":          {func(f *Facts) { f.GuardErr = "no such file" }, "guard", Fail, "no such file"},
		"no guard there":    {func(f *Facts) { with(f, "s2", func(p *Peer) { p.Guard = false }) }, "guard", Fail, "guard of s2"},
		"watchdog off":      {func(f *Facts) { f.Watchdog = Watchdog{Wanted: "off"} }, "watchdog", Warn, "switched off"},
		"no watchdog":       {func(f *Facts) { f.Watchdog = Watchdog{Wanted: "auto"} }, "watchdog", Warn, "no watchdog device"},
		"watchdog taken":    {func(f *Facts) { f.Watchdog.Owner = "systemd (1)" }, "watchdog", Fail, "held by systemd (1)"},
		"softdog":           {func(f *Facts) { f.Watchdog.Software = true }, "watchdog", Warn, "softdog"},
		"watchdog unused":   {func(f *Facts) { f.Watchdog.Owner = "" }, "watchdog", Warn, "held by nobody"},
		"fencing broken":    {func(f *Facts) { f.Fences["s2"] = "login failed" }, "power fencing", Fail, "s2: login failed"},
		"fencing for some":  {func(f *Facts) { delete(f.Fences, "s2") }, "power fencing", Warn, "2 of 3"},
		"no fencing":        {func(f *Facts) { f.Fences = nil }, "power fencing", Warn, "not set up"},
		"one path":          {func(f *Facts) { f.Paths = Paths{Interface: "eth0"} }, "network", Warn, "everything goes through eth0"},
		"unknown path":      {func(f *Facts) { f.Paths = Paths{Err: "no interface here carries the address"} }, "network", Warn, "no interface"},
		"HA off":            {func(f *Facts) { f.Pool.Config.HA = false }, "HA", Warn, "HA is off"},
		"HA frozen":         {func(f *Facts) { f.Pool.Config.Frozen = true }, "HA", Warn, "frozen"},
		"open alerts":       {func(f *Facts) { f.Pool.Alerts = pool.NewTable(map[pool.AlertID]pool.Alert{"a": {ID: "a"}}) }, "HA", Warn, "1 open alerts"},
	} {
		t.Run(name, func(t *testing.T) {
			f := sound()
			c.spoil(&f)
			lines := Judge(f)
			for _, l := range lines {
				if l.Name != c.line {
					continue
				}
				if l.Verdict != c.verdict || !strings.Contains(l.Text, c.text) || l.Fix == "" {
					t.Errorf("%+v, want %s with %q and a fix", l, c.verdict, c.text)
				}
			}
			if worst := Worst(lines); worst != c.verdict && worst != Fail {
				t.Errorf("the worst is %s", worst)
			}
		})
	}
}

func TestEtcdOnANetworkOfItsOwnIsASecondPath(t *testing.T) {
	f := sound()
	f.Paths = Paths{Interface: "eth0", Apart: true}
	if Worst(Judge(f)) != OK {
		t.Error(Judge(f))
	}
}

func TestWithoutAnyFactsEverythingIsSaidToBeUnknown(t *testing.T) {
	lines := Judge(Facts{})
	if Worst(lines) != Fail || len(lines) != 15 {
		t.Errorf("%v", lines)
	}
}
