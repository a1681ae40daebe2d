// Package mesh is how the agents of a pool talk to each other: mutually authenticated gRPC connections, one per
// server, and the answers of this agent to the others.
//
// Peers is the calling side: it finds addresses in the pool's registrations, keeps connections, and bounds every
// call by its context. Server is the answering side. Only certificates of servers may call it (pkg/rpc's table).
//
// Silence of a peer proves nothing about it; nothing here starts, stops or fences anything.
package mesh
