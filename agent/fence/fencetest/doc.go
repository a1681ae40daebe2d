// Package fencetest is what every way to switch servers off and on must do, the real one by fence programs and the
// simulated one: the suite that both pass. docs/safety.md rests a proof on these rules.
//
// Only tests import this package.
package fencetest
