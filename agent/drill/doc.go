// Package drill is what a server does for a test of its pool's HA: it makes a canary's disk and definition, says how the
// canary stands here, and hits it. The command line asks for it step by step and measures (console/cli).
//
// It guarantees that nothing is done to any VM but a canary that this very server runs, and that what would be felt by
// others is refused while others are here: Check, a pure function, decides that from a snapshot. An isolation ends by
// itself after its limit, whatever becomes of the one who asked for it, and with the agent.
//
// It does not measure, and it does not know whether a drill went well.
package drill
