// Package feed brings a pool to a console: it follows WatchPool on whichever agent answers, merges snapshots and
// changes off the screen's loop, and says how fresh the result is.
//
// A View is immutable and may be kept by anybody. Nobody is woken more than ten times a second, nor while nothing
// changed. A stream that breaks, or says nothing for SilentAfter, is replaced by one of another agent after a pause
// that grows and is drawn at random; what was merged before stays, and is called stale until the new one has told at
// least as much. It is asked for what changed since the last revision seen; where that is kept no more, or belongs to
// another life of the pool (its incarnation), for all of it anew. An agent that lags behind what was seen already is
// never shown as the present.
//
// Live figures come beside it, from the same agent and only while its stream lives; without them nothing else changes.
//
// The decisions are in a state machine without clocks and goroutines (machine.go); Feed is the thin shell around it.
// Caller sends one request and names the outcome: it never repeats a change. The package knows no terminal.
package feed
