package feed

import (
	"time"
)

// When silence counts. An agent says something at least once a second (PoolService.WatchPool).
const (
	// DelayedAfter is when silence is worth a remark.
	DelayedAfter = 2 * time.Second
	// SilentAfter is when what is shown is stale, and another agent is asked.
	SilentAfter = 5 * time.Second
)

// Freshness says how far a view may be trusted. Later ones outrank earlier ones.
type Freshness int

// The kinds of freshness. Changes are to be allowed in Live and Delayed alone.
const (
	// Connecting: nothing was ever heard.
	Connecting Freshness = iota
	// Live: the agent spoke within DelayedAfter.
	Live
	// Delayed: it is late.
	Delayed
	// NoLeader: the pool elects; VMs run on.
	NoLeader
	// EtcdLost: the agent cannot reach etcd.
	EtcdLost
	// Resync: a stream is there again and has not yet told as much as was known.
	Resync
	// Stale: no stream, or silence for SilentAfter.
	Stale
)

var freshnessWords = [...]string{"connecting", "live", "delayed", "no leader", "etcd lost", "resync", "STALE"}

// String is the state as the header shows it.
func (f Freshness) String() string {
	if f < 0 || int(f) >= len(freshnessWords) {
		return "unknown"
	}
	return freshnessWords[f]
}

// Link is how the connection to the pool stands. It is a value; times are of the console's own clock.
type Link struct {
	// Heard is when the agent last spoke; zero: never.
	Heard time.Time
	// Open says that there is a stream, and Synced that it has told at least what was known before.
	Open, Synced bool
	// Lost is when the stream broke or was given up; zero while one is open.
	Lost time.Time
	// Try counts the attempts since then; NextTry is when the next one is due, zero while one is under way.
	Try     int
	NextTry time.Time
	// Err is why the last stream or attempt failed.
	Err error
	// Denied: the pool refuses this console's identity, or its certificate. It is not tried again unless asked.
	Denied bool
	// EtcdLost and NoLeader are since when; zero: not now.
	EtcdLost, NoLeader time.Time
}

// Freshness is the state at now.
func (l Link) Freshness(now time.Time) Freshness {
	silence := now.Sub(l.Heard)
	switch {
	case l.Heard.IsZero():
		return Connecting
	case !l.Open, silence >= SilentAfter:
		return Stale
	case !l.Synced:
		return Resync
	case !l.EtcdLost.IsZero():
		return EtcdLost
	case !l.NoLeader.IsZero():
		return NoLeader
	case silence >= DelayedAfter:
		return Delayed
	}
	return Live
}

// Changeable reports whether a change may be asked for at now.
func (l Link) Changeable(now time.Time) bool {
	f := l.Freshness(now)
	return f == Live || f == Delayed
}
