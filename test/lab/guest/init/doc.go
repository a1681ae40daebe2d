// Command init is the whole userland of a lab guest: it runs as PID 1 from the
// initramfs and leaves a trail on the guest's disk that tells, from outside,
// whether the guest runs, where it was booted, and whether it ever ran twice.
//
// It loads the virtio modules, then ten times a second reads its record back
// from /dev/vda and writes the next one (package record), with O_DIRECT and
// O_SYNC so that nothing is remembered between the guest and the image. A
// record that is not its own is counted as a foreign write and never lost.
//
// The kernel command line steers it: hf.dirty=N dirties N MiB of memory a
// second, hf.dirtyset=N (default 16) is the working set in MiB, hf.fill=N fills
// N MiB with noise first, and hf.every=N writes a record every N milliseconds
// (100) to tell short pauses. The power button switches the guest off, as
// `virsh shutdown` expects.
//
// It only runs inside a lab guest; it is no example of an init system.
package main
