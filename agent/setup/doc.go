// Package setup brings a machine into a pool: Init makes the first server of a new pool, CreateToken and Join the
// next ones, JoinService is the side of the pool that admits them.
//
// All or nothing: everything is made in a folder of its own inside the state folder and moved into place at the end,
// the settings file last; a machine with a settings file is set up, one without is not. What fails on the way leaves
// the machine as it was. In the pool, the registration and the use of the token are one transaction.
//
// A token is one string: where to go, which CA to expect there (a fingerprint), and a secret that works once and not
// for long. The pool knows only the secret's hash, under a key that etcd drops when the token expires, so no two
// clocks are compared. A lost answer costs nothing: the same machine may repeat its join with the same token.
//
// What it does not do: start or stop services, install packages, touch libvirt. It is called by the command line
// (holdfast-agent init, token create, join), and JoinService by the agent's gRPC server.
package setup
