// Command lab runs real libvirt servers on one machine, for people and
// scripts: see test/lab/README.md or `lab help`.
//
// Exit status: 0 done, 1 failed, 2 the command line is wrong; `lab exec` passes
// the program's own status on.
package main
