// Package lab runs several real libvirt servers on one machine, for tests and
// for people who want to pull plugs without owning a rack.
//
// Each server has its own network, mount, UTS and PID namespace, its own
// libvirtd with its own host UUID, its own /run, /var/lib/libvirt,
// /var/cache/libvirt, /etc/libvirt, /var/lib/holdfast and /etc/holdfast, and one
// cgroup (v2) around all its processes. A power cut takes the link down and
// writes cgroup.kill: everything dies at once and nothing says goodbye. QEMU
// runs as the user libvirt-qemu, as on a real server; one folder, at the same
// path on all servers, is the shared storage. Guests are real: a Debian kernel
// and an initramfs with one program (guest/init) that writes a counter to its
// disk ten times a second and notices a second writer.
//
// The truth is taken from outside (Processes, Watcher, ReadRecord): the QEMU
// processes found in each server's cgroup, their own QMP sockets that libvirt
// knows nothing of, and the disk images.
//
// What it does not show: KVM, other storage than a local file system seen by
// all (so QEMU's image locks work, and a lock dies with its process), kernel
// crashes, hardware watchdogs, and separate clocks. All servers share one kernel.
//
// It needs root, libvirt, QEMU, iproute2, nftables, util-linux and, for the
// first guest, apt. Several labs may run at once under different names. Only
// tests and the lab command use this package.
package lab
