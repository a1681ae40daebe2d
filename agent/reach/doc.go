// Package reach listens for signs of life of other servers.
//
// A Listener probes servers that somebody asked it to listen to, as often as they asked, and says how long each has
// been silent. Nobody asks: nothing is sent. The leader listens to the members that matter to it; another member
// listens to a server for a while when the leader asks whether it hears it.
//
// What counts as a sign of life is the probe's to say; agent/mesh has the real one. Any answer of the host is one, be it
// a refused connection: a host that refuses is not silent.
//
// Silence proves nothing. It makes a server suspect (docs/safety.md, "Suspicion"), no more. Nothing here is written
// anywhere. All types are safe for concurrent use.
package reach
