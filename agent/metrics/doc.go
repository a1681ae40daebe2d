// Package metrics shows Prometheus how an agent and its pool stand.
//
// Most figures are read from the agent at the moment of a scrape, so nothing is spent on them while nobody asks. Only
// calls of the API and requests to etcd are counted as they happen. The phases of failovers come from the pool's records
// of incidents; the agent whose leader ended a record counts it, so that a sum over all agents counts each once. What
// ended before the agent started is not counted again.
//
// Serve answers on a port of its own: loopback, or TLS with a certificate of the pool on both ends. Names and meaning of
// all figures are in docs/operations.md, which a test compares with what is exported.
package metrics
