// Package process finds, watches and kills the QEMU processes of this server, without libvirt: through /proc and
// pidfds only, so that it works while libvirtd is down or hangs.
//
// What it guarantees: a process is named by PID and start time, so a number that is used again is never taken for
// the old process, nor signalled. "Dead" means that every thread has ended (a pidfd says so; a zombie that still has
// threads inside the kernel is alive, and so are its writes).
//
// What it does not: writes that QEMU handed to the kernel's io_uring workers may complete a moment after the
// process has gone; and it cannot say why a process ended.
//
// It may be called from any goroutine of an agent that shares the PID namespace of the libvirt daemon.
package process
