// Package rebuild makes a pool's etcd anew from what its servers hold, when etcd has lost its data.
//
// Saver keeps the copy of the pool's state that every agent has on disk (pkg/saved). Judge decides, from the copies and from
// what the servers say is running on them, what the new etcd will hold: it is pure, and where the safety of a rebuild lies.
// Caller asks other servers over the mesh. Show writes the plan for people.
//
// The order of a rebuild, which the command in the folder above keeps (docs/safety.md, "Rebuild"):
//
//  1. Ask every server how it stands, and show the plan that follows. Nothing has changed yet.
//  2. Have every server that answers leave its life of the data for the new one. From then on it writes nothing to the old
//     etcd and serves none of its data, whoever else may come back.
//  3. Ask again what runs, now that nothing can change any more, and judge again.
//  4. Seed the new etcd. The servers wait for it.
//
// What it does not do: decide that a server which does not answer is off. Only an operator can say that.
package rebuild
