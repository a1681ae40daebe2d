// Package kvtest holds what every kv.Store and kv.Leases must do: Run is the conformance suite, for the real etcd
// and for every imitation of it. Memory is the simplest imitation, for tests that need a store without a server.
//
// Only tests import this package.
package kvtest
