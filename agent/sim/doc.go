// Package sim runs a whole pool in virtual time: the real agents, leader and guards on simulated servers, libvirt,
// etcd, network, storage and power. It plays scenarios (docs/scenarios.md), checks what they expect, and checks the
// pool's invariants after every event. `holdfast-agent simulate` is Main.
//
// The parts below it: vtime (virtual time), simnet, simkv and world (the simulated edges), scenario (the language).
// A Crew puts agents and guards on the servers; everything else here knows a pool only by what the world shows,
// what etcd holds and what agents report.
//
// A run depends on nothing but the scenario and the seed: the same two give the same time line, byte for byte.
package sim
