package pool

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// setting is one word of the `set` commands: how to read its value into T.
type setting[T any] struct {
	key  string
	help string
	set  func(*T, string) error
}

// vmSettings is the one list of a VM's settings; command line, API and scenarios read it.
var vmSettings = []setting[VM]{
	{"priority", "high|medium|low", func(v *VM, s string) (err error) { v.Priority, err = ParsePriority(s); return }},
	{"prefer", "servers, best first; empty for none", func(v *VM, s string) (err error) { v.Prefer, err = parseServers(s); return }},
	{"require", "the only servers allowed; empty for any", func(v *VM, s string) (err error) { v.Require, err = parseServers(s); return }},
	{"apart", "group whose VMs never share a server; empty for none", func(v *VM, s string) error { v.Apart = s; return nil }},
	{"together", "group whose VMs always share a server; empty for none", func(v *VM, s string) error { v.Together = s; return nil }},
	{"restarts", "restarts on one server within the window", func(v *VM, s string) (err error) { v.Restarts, err = parseCount(s); return }},
	{"relocations", "moves to another server within the window", func(v *VM, s string) (err error) { v.Relocations, err = parseCount(s); return }},
	{"window", "how long a failure counts, such as 10m", func(v *VM, s string) (err error) { v.Window, err = parseDuration(s); return }},
	{"disks-in-doubt", "no: the recorded disks are those written last; it may start again", func(v *VM, s string) error {
		if s != "no" {
			return fmt.Errorf("%q is not no: %w", printable(s), ErrInvalid)
		}
		v.DisksInDoubt = ""
		return nil
	}},
	{"restart-on-guest-shutdown", "on|off", func(v *VM, s string) (err error) { v.RestartOnGuestShutdown, err = ParseSwitch(s); return }},
}

// poolSettings is the one list of the pool's settings. HA and freeze have commands of their own.
var poolSettings = []setting[Config]{
	{"ttl", "life-time of a session's lease, 3s to 60s", func(c *Config, s string) (err error) { c.LeaseTTL, err = parseDuration(s); return }},
	{"return", "on|off: VMs go home after maintenance", func(c *Config, s string) (err error) { c.ReturnHome, err = ParseSwitch(s); return }},
	{"shutdown", "evacuate|stop|freeze", func(c *Config, s string) (err error) {
		c.Shutdown, err = parseWord(s, ShutdownEvacuate, ShutdownStop, ShutdownFreeze)
		return
	}},
	{"tolerate", "server failures to keep capacity for", func(c *Config, s string) (err error) { c.Tolerate, err = parseCount(s); return }},
	{"lock-bars-failover", "on|off", func(c *Config, s string) (err error) { c.LockBarsFailover, err = ParseSwitch(s); return }},
	{"on-isolation", "stop|pause", func(c *Config, s string) (err error) {
		c.OnIsolation, err = parseWord(s, IsolationStop, IsolationPause)
		return
	}},
	{"isolation-grace", "how long isolated VMs stay paused", func(c *Config, s string) (err error) { c.IsolationGrace, err = parseDuration(s); return }},
	{"trust-guard-alone", "on|off: accept the guard as proof for VMs whose disks have no locks", func(c *Config, s string) (err error) { c.TrustGuardAlone, err = ParseSwitch(s); return }},
	{"suspect-after", "silence that makes a server suspect", func(c *Config, s string) (err error) { c.SuspectAfter, err = parseDuration(s); return }},
	{"power-on", "on|off: switch a server on again once it was fenced by power and its VMs run elsewhere", func(c *Config, s string) (err error) { c.PowerOn, err = ParseSwitch(s); return }},
	{"migrations", "live migrations at once in the pool", func(c *Config, s string) (err error) { c.Migrations, err = parseCount(s); return }},
	{"migrations-per-server", "live migrations at once to or from one server", func(c *Config, s string) (err error) {
		c.MigrationsPerServer, err = parseCount(s)
		return
	}},
	{"migrate-bandwidth", "most bytes per second of one migration, such as 500M; 0 for no limit", func(c *Config, s string) (err error) {
		c.MigrateBandwidth, err = ParseSize(s)
		return
	}},
	{"auto-converge", "on|off: slow a guest down that changes memory faster than it is copied", func(c *Config, s string) (err error) { c.AutoConverge, err = ParseSwitch(s); return }},
	{"migrate-limit", "how long one migration may take", func(c *Config, s string) (err error) { c.MigrateLimit, err = parseDuration(s); return }},
	{"stop-limit", "how long a guest may take to shut down", func(c *Config, s string) (err error) { c.StopLimit, err = parseDuration(s); return }},
}

// SetVM changes one setting of v, in the words of `set VM KEY=VALUE`. The error names what is allowed.
func SetVM(v *VM, key, value string) error { return apply(vmSettings, "vm", v, key, value) }

// SetPool changes one setting of c, in the words of `set pool KEY=VALUE`. The error names what is allowed.
func SetPool(c *Config, key, value string) error { return apply(poolSettings, "pool", c, key, value) }

// VMSettings lists the settings of a VM with what their values may be, for help and completion.
func VMSettings() [][2]string { return helpOf(vmSettings) }

// PoolSettings lists the settings of a pool with what their values may be.
func PoolSettings() [][2]string { return helpOf(poolSettings) }

func apply[T any](all []setting[T], kind string, target *T, key, value string) error {
	names := make([]string, 0, len(all))
	for _, s := range all {
		if s.key == key {
			if err := s.set(target, value); err != nil {
				return InField("set["+key+"]", fmt.Errorf("%s=%s: %w (%s)", key, printable(value), err, s.help))
			}
			return nil
		}
		names = append(names, s.key)
	}
	return InField("set["+printable(key)+"]", fmt.Errorf("no %s setting %q; there are %s: %w", kind, printable(key), strings.Join(names, ", "), ErrInvalid))
}

func helpOf[T any](all []setting[T]) [][2]string {
	out := make([][2]string, 0, len(all))
	for _, s := range all {
		out = append(out, [2]string{s.key, s.help})
	}
	return out
}

// ParseSwitch reads on or off.
func ParseSwitch(s string) (bool, error) {
	switch s {
	case "on":
		return true, nil
	case "off":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither on nor off: %w", printable(s), ErrInvalid)
}

// ParsePriority reads high, medium or low.
func ParsePriority(s string) (Priority, error) {
	return parseWord(s, PriorityLow, PriorityMedium, PriorityHigh)
}

func parseWord[T fmt.Stringer](s string, allowed ...T) (T, error) {
	words := make([]string, 0, len(allowed))
	for _, a := range allowed {
		if a.String() == s {
			return a, nil
		}
		words = append(words, a.String())
	}
	var none T
	return none, fmt.Errorf("%q is none of %s: %w", printable(s), strings.Join(words, ", "), ErrInvalid)
}

func parseServers(s string) ([]ServerID, error) {
	if s == "" {
		return nil, nil
	}
	var out []ServerID
	for name := range strings.SplitSeq(s, ",") {
		if err := CheckName("server", name); err != nil {
			return nil, err
		}
		if slices.Contains(out, ServerID(name)) {
			return nil, fmt.Errorf("server %s is listed twice: %w", name, ErrInvalid)
		}
		out = append(out, ServerID(name))
	}
	return out, nil
}

func parseCount(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > 1000 {
		return 0, fmt.Errorf("%q is not a whole number from 0 to 1000: %w", printable(s), ErrInvalid)
	}
	return n, nil
}

func parseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration such as 5s or 1m30s: %w", printable(s), ErrInvalid)
	}
	return d, nil
}

// ParseSize reads a size in bytes such as 512M or 4G (powers of 1024).
func ParseSize(s string) (int64, error) {
	units := map[string]int64{"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
	digits := strings.TrimRight(s, "KMGT")
	n, err := strconv.ParseInt(digits, 10, 64)
	unit, ok := units[s[len(digits):]]
	if err != nil || !ok || n < 0 || n > (1<<62)/unit {
		return 0, fmt.Errorf("%q is not a size such as 512M or 4G: %w", printable(s), ErrInvalid)
	}
	return n * unit, nil
}
