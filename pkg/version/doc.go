// Package version tells which build of Holdfast this is.
//
// The Makefile sets both variables with -ldflags -X. A plain `go build` leaves
// them at their defaults, so that such a build can be told from a release. The
// package imports nothing and anybody may import it. Whether two agents can
// work together is decided by the protocol version in the member record, never
// by these strings.
package version
