// Package figures measures how busy this server and its VMs are, and hears it of the others: CPU, memory and what live
// migrations transfer. Figures flow from agent to agent and are kept nowhere; nothing is decided by them.
//
// A Meter measures this server every Period while at least one caller listens, once for all of them. A Board listens to
// every member while at least one caller watches, once for all of them; a member that does not answer is asked again
// after pauses that grow. Without listeners and watchers nothing runs and nothing is asked: an idle pool pays nothing.
//
// It does not guarantee that figures arrive. Who shows them judges their age by when they came (Heard.At).
package figures
