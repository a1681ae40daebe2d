// Package leader is the loop that runs the pool while this agent leads it: look at the newest snapshot, plan, carry
// the actions out as guarded transactions, look again.
//
// It holds no policy: what to do is package plan's pure decision. It keeps what plan needs and no snapshot has: since
// when, by its own clock, a server has been without a member key, and how power-off commands went. Both begin anew
// with each leadership.
//
// Guarantees: every write compares the election key of the leadership it was planned under, and the revisions it was
// decided on, so a deposed or slow leader writes nothing. One action that fails holds up no other, except those that
// need it. After a write whose outcome is unknown nothing is planned before the pool was read back.
//
// Run it in every agent; it does nothing while another leads.
package leader
