// Command fence_lab is the fence agent of the lab's servers, with the interface
// of the ClusterLabs fence agents (FenceAgentAPI.md of their repository): options
// come as key=value lines on standard input, or as --key=value arguments.
//
// Options: action (off, on, reboot, status, monitor, list, metadata), plug (the
// server), ip and ipport (the lab's power switches; the default is the server's
// gateway, which is the machine that runs the lab). Exit status: 0 done, or on;
// 2 status is off; 1 failed.
package main
