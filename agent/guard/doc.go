// Package guard is the process that stops protected VMs when their session's stop time passes. It is the smallest
// part of Holdfast and depends on nothing that can hang: not on the agent, libvirt, etcd or the network.
//
// The agent tells it, over a UNIX socket, until when a session's VMs may run (Extend) and which processes they are
// (Hold, LetGo). At KillAt the guard kills them by SIGKILL through pidfds, all at once, or pauses them, as
// on_isolation says, and watches until they are dead. Whatever becomes of the agent, killed, stopped or wedged in
// the middle of a request, changes nothing about that.
//
// Parts. Core is the decision: a state machine over instants, without I/O. Loop carries it out through three edges:
// Processes, Watchdog and Memory. Nothing in the loop's own path may block: the socket, the memory under /run, the
// watchdog device, the monitors and the log each have their own goroutine. Run puts it on a real machine; agent/sim
// hosts Loop in virtual time.
//
// What is guaranteed, while the guard runs: a held process is dead or paused by its session's Deadline, or the guard
// is still trying and does not pet the watchdog. An acknowledged Hold or Extend is also known to the next life of
// the guard. A process is never mistaken for another with its PID.
//
// A guard that restarts reads back what it held and acts on it at once. Where it cannot know, it kills: a process
// whose deadline is lost, because the kept state is damaged or missing while the list of held processes is still
// there, is killed. The list is kept apart, one file name for each process, for that reason. If both are gone it
// holds nothing and knows nothing, as on the first start after boot; VMs that an agent still counts on are held anew
// at its next look. A guard that comes back, or wakes, only after a stop time has passed kills at once, also where the
// agent has renewed meanwhile and only could not say so: the guard cannot tell that from a claim taken over.
//
// What is not guaranteed: a process in uninterruptible sleep does not die by a signal; only the watchdog helps. A
// server that is frozen as a whole kills nothing until it wakes; only a hardware watchdog, power fencing or the disk
// locks make that harmless (docs/safety.md, "Fencing"). A guard that is killed and not restarted does nothing.
package guard
