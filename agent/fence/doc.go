// Package fence switches servers off and on with the fence programs of the ClusterLabs project (fence_ipmilan,
// fence_redfish, fence_apc, ...), which are installed by their own packages.
//
// A program gets its options as key=value lines on standard input and answers with its exit status: for `off` and
// `on` 0 is success; for `status` 0 says on and 2 says off; everything else, and every contradiction, proves nothing.
// Source: doc/FenceAgentAPI.md and lib/fencing.py.py (fence_action) of github.com/ClusterLabs/fence-agents.
//
// What counts as proof that a server is off: every one of its devices did `off` successfully and then said off twice,
// once at once and once after the last device was switched off. `reboot` is never asked for: its success does not
// tell that the server was off in between.
//
// Secrets are read from files for each call and written to standard input only: never to arguments, environment, logs
// or errors. What a program prints is bounded, and secrets in it are blotted out, before it enters an error. A program
// that hangs is killed at its time-out, with its process group.
//
// This is an adapter for real programs in real time; the simulator replaces it as a whole.
package fence
