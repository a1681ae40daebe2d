// Package e2e shows on a lab's real servers what Holdfast promises: plugs are pulled, processes are killed and hung,
// cables are cut, and what the VMs did is seen from outside, from QEMU's processes and from what the guests wrote.
//
// The tests share one pool of four servers (three etcd votes), because making one takes longer than most of them.
// Each begins with every server up and no VM, and leaves it so.
package e2e
