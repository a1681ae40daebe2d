// Package demo is a pool to play with on one machine, without root and without libvirt: a real embedded etcd, real
// agents that serve the real API on loopback, and simulated servers in real time. Plugs are pulled with the words of
// the scenario language from another terminal.
//
// It keeps nothing: the pool begins anew each time. Nothing but loopback is served, without TLS.
package demo
