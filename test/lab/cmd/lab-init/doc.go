// Command lab-init is the first process of a lab server: PID 1 of its PID
// namespace. It sets up the server's private mounts and host name, starts and
// signals processes on request (package inside), and reaps whatever ends, at
// once, so that nobody inside waits for a slow init.
//
// Called under the name of QEMU it is the lab's QEMU wrapper: it adds two
// private QMP sockets, through which the lab sees the truth without libvirt,
// and the server's name in an SMBIOS string, and becomes QEMU.
//
// It is started by the lab's engine only, in fresh namespaces.
package main
