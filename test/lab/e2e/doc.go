// Package e2e shows on a lab's real servers what Holdfast promises: plugs are pulled, processes are killed and hung,
// cables are cut, and what the VMs did is seen from outside, from QEMU's processes and from what the guests wrote.
//
// The tests share two pools of four servers (three etcd votes), because making one takes longer than most of them, and
// run two at a time, because most of their time is spent waiting. Each begins with every server of its pool up and no VM,
// and leaves it so.
package e2e
