// Package imports checks the import direction of the whole module against the
// table in rules.go, over `go list -deps`: who may import whom, which libraries
// stay at which edge, and what a binary must never link.
//
// It also looks into the pure packages for what an import list cannot show:
// goroutines, channels and hidden inputs. It has no code for production use.
package imports
