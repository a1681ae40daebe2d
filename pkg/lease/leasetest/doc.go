// Package leasetest is a small etcd in memory, and a clock on testing/synctest's time, for the tests of pkg/lease and
// of what stands on it. Keys, revisions, transactions, watches and leases behave as in etcd; faults are injected by
// intercepting the calls of one Client. It is not the simulated etcd of agent/sim and knows no members or quorum.
package leasetest
