// Package holdfast runs Holdfast on a lab: it makes a pool of the lab's servers with the commands that an operator
// would type, and asks the pool what it thinks, over its API and its etcd.
//
// What a VM really does is asked of the lab itself (lab.Watcher, lab.ReadRecord), never of the pool.
package holdfast
