// Package virt is the libvirt adapter: it implements local.Hypervisor and local.Needs on a real libvirt daemon, and
// is the only package that imports libvirt's bindings or says "domain".
//
// What it guarantees:
//
//   - A process's life and death are judged by its pidfd, never by libvirt: Kill and Dead work while the daemon is
//     down or hangs, and a domain counts as ended only once its process has.
//   - Events only wake the caller (Changed) and mark what must be read again. Nothing is done because an event came;
//     after a lost connection everything is read anew, as libvirt repeats no event.
//   - A domain that ended is listed as gone, with the way it ended as far as anyone saw it, until Forget.
//   - Every call has a limit. One that hangs keeps its own connection and thread, and blocks neither other VMs nor
//     Domains; Health counts them. libvirt serves at most five requests of one connection at a time, so calls of
//     different VMs do not share one.
//   - Create starts nothing: CPUs are stopped, the domain is transient, and lives on if this process dies. Disk locks
//     are never forced.
//
// What it does not: decide anything. Whether a domain may run is local's business and the guard's.
//
// Build with -tags libvirt_dlopen: libvirt is loaded at run time, and only gcc is needed to build. Without the tag
// the package builds to an adapter whose every call fails, so that the rest of the module can be checked anywhere.
//
// The parts without libvirt: definition (domain XML), process (pidfds), host (files, storage).
package virt
