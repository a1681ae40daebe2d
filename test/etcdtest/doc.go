// Package etcdtest runs a real etcd of one or more members inside a test.
//
// Each member listens on UNIX sockets in a temporary folder. Everybody, peers included, reaches it through proxies on
// random loopback ports that the test holds from the beginning, so any number of tests run beside each other. The
// proxies are also where things go wrong: a member can be frozen (what was sent arrives when it thaws), cut off from
// clients or from its peers, made to swallow replies, stopped and restarted.
//
// Timers are quick (heartbeat 50 ms, election 500 ms, as Holdfast's embedded etcd has them) and nothing is
// synced to disk.
//
// A frozen member is frozen only as others see it: its own clock goes on and it steps down by itself. Renewals that
// a member passes on to the leader cannot be told from others, so a cut between peers stops them only when the
// member notices that it has no leader.
package etcdtest
