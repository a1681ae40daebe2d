// Command holdfast-agent is Holdfast on a server: the agent itself, its guard, its member of the embedded etcd, and
// the commands that make a server part of a pool. It wires edges to agent/app and decides nothing.
package main
