// Package vtime runs ordinary blocking Go code in virtual time, deterministically.
//
// A Scheduler owns a queue of events ordered by (virtual time, order of creation). Each function started with a
// Proc's Go is a coroutine: exactly one runs at a time, and it runs until it parks in Sleep, Signal.Wait or a
// Call. Then the next event is taken; the virtual clock jumps to it. Nothing but the seeded generator is random,
// so the same seed and the same code give the same run, event by event.
//
// A Proc stands for one operating-system process and is its clock.Clock. It can be killed (its coroutines never
// resume: they unwind by a private panic, and every call that they make to a clock or another simulated edge
// while unwinding panics again, so that deferred code does no harm), and hung and resumed (wake-ups are held back
// while time goes on). Each has its own reading of CLOCK_BOOTTIME and of the wall clock.
//
// A simulated edge does its work in plain events (Scheduler.After), which outlive the caller, and lets the caller
// wait in a Call.
//
// Guarantees: determinism, no data races between coroutines, an error from Run if a coroutine panics or time
// stops advancing. Not guaranteed: anything about code that blocks outside the clock; it blocks the whole run.
// A Scheduler and all that belongs to it is for one goroutine at a time; Paced is the way in from others.
package vtime
