package rpc

import "time"

// ServeLimits bound what callers can take of an agent. The zero value of a field means its default. Servers of the pool
// are not bound by those on connections: the pool needs them. Source: docs/security.md, "What an attacker on the
// network can do".
type ServeLimits struct {
	// Connections of people and scripts, altogether: 1000. A connection costs about 200 KiB.
	Connections int
	// PerCaller bounds the connections of one name: 100.
	PerCaller int
	// Strangers bounds the connections without a certificate, altogether: 32. Machines that join need one for a moment.
	Strangers int
	// PerAddress bounds the connections without a certificate from one address: 8.
	PerAddress int
	// Handshakes bounds the connections that have not said yet who they are: 100; HandshakesPerAddress those from one
	// address: 25. What is beyond is closed unread.
	Handshakes, HandshakesPerAddress int
	// Handshake is how long a caller may take to say who it is: 10 s.
	Handshake time.Duration
	// Refusals bounds the connections that are kept only to be told that they are too many: 200. What is beyond is
	// closed at once.
	Refusals int
	// Farewell is how long such a connection may ask and be refused before it is closed: 5 s.
	Farewell time.Duration
	// Slow is how long a watcher may leave a message unread before its stream is ended: 30 s.
	Slow time.Duration
}

func (l ServeLimits) withDefaults() ServeLimits {
	for _, n := range []struct {
		field *int
		value int
	}{{&l.Connections, 1000}, {&l.PerCaller, 100}, {&l.Strangers, 32}, {&l.PerAddress, 8}, {&l.Handshakes, 100}, {&l.HandshakesPerAddress, 25}, {&l.Refusals, 200}} {
		if *n.field == 0 {
			*n.field = n.value
		}
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&l.Handshake, 10 * time.Second}, {&l.Farewell, 5 * time.Second}, {&l.Slow, 30 * time.Second}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	return l
}
