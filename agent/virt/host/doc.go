// Package host reads facts of this server that libvirt does not tell: files, bridges, host devices, the boot, and
// whether the path to the shared storage still works.
//
// Storage that hangs hangs whoever touches it, in the kernel, where nothing can interrupt it. So every look at a
// path runs in a goroutine of its own with a limit, and a path that hangs is not touched again until the first look
// has come back: at most one stuck thread per path.
//
// It writes nothing, anywhere.
package host
