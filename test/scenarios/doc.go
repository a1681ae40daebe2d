// Package scenarios holds incidents as scenario files (docs/scenarios.md), one folder for each kind, and the test that
// plays them all on a simulated pool. Every bug of the HA logic gets a scenario here.
package scenarios
