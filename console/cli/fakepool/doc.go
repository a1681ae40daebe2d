// Package fakepool is a pool that exists only in memory, for tests of the command line: agents on loopback that
// speak the real API over gRPC, with a canned pool behind them, and faults to order.
//
// It answers as the API promises, errors included, but decides nothing: what a change brings about is scripted. It
// is used by tests only and is safe for concurrent use.
package fakepool
