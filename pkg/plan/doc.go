// Package plan decides what the leader does next: a pure function from a snapshot of the pool, a time and what the
// leader saw by its own clock, to a list of actions. It does no I/O, reads no clock and remembers nothing.
//
//   - Plan returns the actions that bring the pool nearer to what is wanted, the most urgent first, and the instant at
//     which to plan again if nothing changes before.
//   - Look and LookAtStarts keep the leader's own sightings, of lost servers and of starts that are overdue, which Plan
//     measures waiting times from.
//   - View tells how each VM and server stands, in the words of the API, with reasons. It uses the same rules as Plan,
//     so that what an operator reads is what the leader acts upon.
//
// # What the caller must do
//
//  1. Call Plan only while it leads, with a snapshot that shows all its own earlier writes. After a write whose
//     outcome is unknown, read back first.
//  2. Call Look, LookAtStarts and LookAtStorage with every snapshot before Plan, by one clock, and start with nothing at each new leadership.
//     At the beginning of a leadership, ask ColdStart once and set Input.ColdUntil accordingly.
//  3. Apply each action's Change as one guarded transaction that also compares the leader's own election key. Apply an
//     action only after those that it Needs were applied.
//  4. Treat a failed compare as news: read the newer snapshot and plan again. Never apply an old action twice.
//  5. Carry out PowerOff beside the loop and report how it went in Input.Power, bound to the store revision that was
//     known before the command was sent.
//
// # What it guarantees
//
// No VM is taken from a server that may still run it: not before the owner released it, or its claim never ran, or a
// recorded fence covers the claim's session and, for proofs that rest on the guard, the claim was armed. A VM is placed
// only by package place's rules. Every VM that is wanted running and does not run has a reason. Planning again after
// all actions were applied yields nothing, so an idle pool writes nothing. The order of the input does not matter.
//
// What it does not guarantee: that the snapshot is current. That is what the guards of each Change are for.
//
// docs/safety.md has the argument, docs/state-model.md the transitions.
package plan
