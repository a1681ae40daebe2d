package scenario

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/agent/sim/world"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// option reads the value of one key into T.
type option[T any] struct {
	key string
	set func(*T, string) error
}

var poolOptions = []option[Pool]{
	{"ha", func(p *Pool, s string) (err error) { p.HA, err = parseBool(s, "on", "off"); return }},
	{"ttl", viaPool("ttl")}, {"return", viaPool("return")}, {"shutdown", viaPool("shutdown")},
	{"tolerate", viaPool("tolerate")}, {"lock-bars-failover", viaPool("lock-bars-failover")},
	{"on-isolation", viaPool("on-isolation")}, {"isolation-grace", viaPool("isolation-grace")},
	{"trust-guard-alone", viaPool("trust-guard-alone")}, {"suspect-after", viaPool("suspect-after")},
	{"stop-limit", viaPool("stop-limit")}, {"migrations", viaPool("migrations")},
	{"migrations-per-server", viaPool("migrations-per-server")}, {"auto-converge", viaPool("auto-converge")},
	{"migrate-bandwidth", viaPool("migrate-bandwidth")}, {"migrate-limit", viaPool("migrate-limit")}, {"power-on", viaPool("power-on")},
	{"etcd", func(p *Pool, s string) (err error) { p.Embedded, err = parseBool(s, "embedded", "outside"); return }},
	{"voters", func(p *Pool, s string) (err error) { p.Voters, err = parseNames(s); return }},
	{"start-delay", func(p *Pool, s string) (err error) { p.StartDelay, err = parseDuration(s); return }},
	{"migrate-rate", func(p *Pool, s string) (err error) { p.MigrateRate, err = parseSize(s); return }},
}

// viaPool reads a value as `set pool` does, so that the language has one grammar.
func viaPool(key string) func(*Pool, string) error {
	return func(p *Pool, s string) error { return pool.SetPool(&p.Config, key, s) }
}

var serverOptions = []option[Server]{
	{"memory", func(v *Server, s string) (err error) { v.MemoryBytes, err = parseSize(s); return }},
	{"cpus", func(v *Server, s string) (err error) { v.CPUs, err = parseCount(s); return }},
	{"fencing", func(v *Server, s string) error {
		i, err := parseWord(s, "guard", "watchdog", "power", "none")
		v.Fencing = world.Fencing(i)
		return err
	}},
	{"watchdog", func(v *Server, s string) (err error) { v.Watchdog, err = parseDuration(s); return }},
	{"fence-delay", func(v *Server, s string) (err error) { v.FenceDelay, err = parseDuration(s); return }},
	{"up", func(v *Server, s string) (err error) { v.Up, err = parseBool(s, "yes", "no"); return }},
	{"version", func(v *Server, s string) error { v.Version = s; return nil }},
	{"maintenance", func(v *Server, s string) (err error) { v.Maintenance, err = parseBool(s, "on", "off"); return }},
	{"inbound-lock", func(v *Server, s string) (err error) { v.InboundLock, err = parseBool(s, "on", "off"); return }},
	{"boot-delay", func(v *Server, s string) (err error) { v.BootDelay, err = parseDuration(s); return }},
}

var vmOptions = []option[VM]{
	{"on", func(v *VM, s string) error { v.On = s; return nameOnly(s) }},
	{"state", func(v *VM, s string) (err error) { v.Running, err = parseBool(s, "running", "stopped"); return }},
	{"ha", func(v *VM, s string) (err error) { v.HA, err = parseBool(s, "on", "off"); return }},
	{"memory", func(v *VM, s string) (err error) { v.MemoryBytes, err = parseSize(s); return }},
	{"cpus", func(v *VM, s string) (err error) { v.CPUs, err = parseCount(s); return }},
	{"priority", viaVM("priority")}, {"prefer", viaVM("prefer")}, {"require", viaVM("require")},
	{"apart", viaVM("apart")}, {"together", viaVM("together")}, {"restarts", viaVM("restarts")},
	{"relocations", viaVM("relocations")}, {"window", viaVM("window")},
	{"movable", func(v *VM, s string) (err error) { v.Movable, err = parseBool(s, "yes", "no"); return }},
	{"disks", func(v *VM, s string) (err error) { v.DiskLocks, err = parseBool(s, "file", "block"); return }},
	{"dirty-rate", func(v *VM, s string) (err error) { v.Sim.DirtyRate, err = parseRate(s); return }},
	{"start-fails", func(v *VM, s string) (err error) {
		n, on, _ := strings.Cut(s, "@")
		v.Sim.StartFailsOn = on
		if strings.Contains(s, "@") && !isName(on) {
			return fmt.Errorf("%q: after @ stands a server", shorten(s))
		}
		v.Sim.StartFails, err = parseFails(n)
		return
	}},
	{"migrate-fails", func(v *VM, s string) (err error) { v.Sim.MigrateFails, err = parseFails(s); return }},
	{"stop-fails", func(v *VM, s string) (err error) { v.Sim.StopFails, err = parseFails(s); return }},
}

func viaVM(key string) func(*VM, string) error {
	return func(v *VM, s string) error { return pool.SetVM(&v.VM, key, s) }
}

func nameOnly(s string) error {
	if !isName(s) {
		return fmt.Errorf("%q is not a name", shorten(s))
	}
	return nil
}

func parseFails(s string) (int, error) {
	if s == "always" {
		return world.Always, nil
	}
	n, err := parseCount(s)
	if err != nil {
		return 0, fmt.Errorf("%w, nor the word always", err)
	}
	return n, nil
}

// apply sets all given keys; each may be given once.
func apply[T any](all []option[T], target *T, given []Setting) error {
	seen := map[string]bool{}
	for _, g := range given {
		i := slices.IndexFunc(all, func(o option[T]) bool { return o.key == g.Key })
		if i < 0 {
			return fmt.Errorf("unknown key %q; known are %s", shorten(g.Key), strings.Join(keysOf(all), ", "))
		}
		if seen[g.Key] {
			return fmt.Errorf("%s is given twice", g.Key)
		}
		seen[g.Key] = true
		if err := all[i].set(target, g.Value); err != nil {
			return fmt.Errorf("%s: %w", g.Key, err)
		}
	}
	return nil
}

func keysOf[T any](all []option[T]) []string {
	var keys []string
	for _, o := range all {
		keys = append(keys, o.key)
	}
	return keys
}

// settingsOf reads KEY=VALUE tokens.
func settingsOf(tokens []token) ([]Setting, error) {
	var out []Setting
	for _, t := range tokens {
		k, v, ok := strings.Cut(t.text, "=")
		if !ok || t.quoted || k == "" {
			return nil, fmt.Errorf("%q: expected KEY=VALUE", shorten(t.text))
		}
		out = append(out, Setting{k, v})
	}
	return out, nil
}

func defaultPool() Pool {
	p := Pool{Config: pool.DefaultConfig("pool", "sim"), StartDelay: 400 * time.Millisecond, MigrateRate: 100 << 20}
	p.HA = true
	return p
}

func defaultServer(name string) Server {
	return Server{Up: true, ServerSpec: world.ServerSpec{Name: name, MemoryBytes: 64 << 30, CPUs: 16,
		Watchdog: 10 * time.Second, FenceDelay: time.Second, BootDelay: time.Second}}
}

func defaultVM(name string) VM {
	v := VM{VM: pool.DefaultVM(pool.VMID(name)), Running: true, Sim: world.VMSpec{DirtyRate: 10 << 20}}
	v.HA, v.MemoryBytes, v.CPUs, v.DiskLocks = true, 2<<30, 1, true
	return v
}

// finish completes what follows from a VM's options.
func (v *VM) finish() {
	v.UUID = world.VMUUID(v.ID)
	v.Desired = pool.DesiredStopped
	if v.Running {
		v.Desired = pool.DesiredRunning
	}
	v.Sim.ID, v.Sim.UUID = v.ID, v.UUID
	v.Sim.MemoryBytes, v.Sim.CPUs, v.Sim.BlockDisks = v.MemoryBytes, v.CPUs, !v.DiskLocks
}
