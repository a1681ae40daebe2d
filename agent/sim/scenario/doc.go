// Package scenario reads and writes the scenario language: a pool, what happens to it, and what is expected.
// docs/scenarios.md describes the language for its users.
//
// Parse checks everything that can be known without running: every word, name, value and time. Its errors are
// *Error with file and line. Nothing here runs a scenario; agent/sim does.
package scenario
