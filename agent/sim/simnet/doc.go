// Package simnet is the simulated network between servers, and between servers and an etcd outside the pool: who
// reaches whom, in which direction, for which kind of traffic, and how long a message takes.
//
// It moves no messages itself. The simulated etcd and mesh ask Open and Delay for each one, and OnChange tells
// them when something waiting may go on. Cuts belong to names, not to machines: they outlast power changes.
package simnet
