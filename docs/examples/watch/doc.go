// Command watch prints who runs which VM, and every move and failover, from a pool's claims in etcd.
// For the demo: go run ./docs/examples/watch 127.0.0.1:7390 pool
package main
