// Package logind is this server's own power, through systemd-logind: it delays a shutdown or reboot until the agent has
// its VMs out, and asks for one.
//
// A delay inhibitor is held all the time. logind tells of a shutdown by the signal PrepareForShutdown, waits until the
// inhibitors are closed, at most InhibitDelayMaxSec (5 s by default; configs/logind-holdfast.conf raises it), and then
// goes on. A process that dies closes its inhibitor, so a dead agent delays nothing.
//
// What kind of shutdown it is logind tells from systemd 255 on, by PrepareForShutdownWithMetadata. Of older ones the
// property ScheduledShutdown is read: it keeps what was asked for last, also if that is to happen at once (seen on
// systemd 252). systemd's queue of jobs tells nothing, as logind fills it only when the inhibitors are closed. The
// power button leaves the property as it was, so after a reboot that failed it is taken for a reboot. Where logind knows
// nothing (before systemd 252) a shutdown is taken for one that leaves the server off.
//
// What it does not do: stop anything. That is the agent's work; see package app.
//
// Source: org.freedesktop.login1(5), systemd.io/INHIBITOR_LOCKS.
package logind
