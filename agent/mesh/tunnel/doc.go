// Package tunnel carries the connections of a live migration between UNIX sockets of two servers, as bytes in gRPC
// streams of the mesh: libvirt's own protocol from the source's libvirt daemon to the destination's, and the guest's
// memory from the source's QEMU to the incoming one. So a migration needs no SSH key, no port of libvirt's and no open
// range of ports, and everything in it is encrypted and mutually authenticated.
//
// What it guarantees:
//
//   - Bytes arrive in order and complete, or both ends see the connection break. The end of one direction travels by
//     itself, as it does over TCP.
//   - Sockets lie in a directory with an unguessable name, below one that only root can list. Root and the user that
//     QEMU runs as may connect, judged by the kernel's word on who connects (SO_PEERCRED). The directory is gone once
//     the migration is over, and what a crashed agent left goes when the next one starts (Sweep).
//   - A peer that falls silent is noticed (see Dial): the local sockets then close, so that neither libvirt nor QEMU
//     waits for TCP to give up, which can take a quarter of an hour (docs/facts.md).
//
// What it does not: it does not judge who may open a tunnel. The mesh does, by the claim, before Serve is called. An
// agent's end breaks the tunnels that it carries; libvirt then gives the migration up and the guest runs on.
package tunnel
