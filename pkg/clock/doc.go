// Package clock is the edge between Holdfast's loops and time: reading it, waiting for it, and running
// something beside the caller.
//
// Everything in an agent that waits, waits through a Clock. The real one uses goroutines, timers and
// CLOCK_BOOTTIME. The simulated one (agent/sim) runs each Go function as a coroutine of a deterministic
// scheduler in virtual time, which is why the rules below are strict:
//
//   - Block only in a Clock method or in a call to another edge (store, hypervisor, guard, mesh, fence).
//     No channels, time.After, sync.Cond or WaitGroup in code that runs under a Clock.
//   - Never hold a mutex across something that may block. Short critical sections are fine.
//   - Instants come from Now (CLOCK_BOOTTIME: counts through suspend) and are compared only on the server
//     that took them. Wall is for people: it is stored and shown, never compared.
//
// The package guarantees nothing about the precision of waits: after each one, read Now again.
package clock
