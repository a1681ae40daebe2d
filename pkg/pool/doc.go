// Package pool holds the words of the domain: servers, VMs, claims, sessions, and the rules that bind them.
//
// It knows no technology: no etcd, no libvirt, no gRPC, only the standard library. It reads no clock, starts
// nothing and logs nothing. Every value is plain data; a Snapshot and all that hangs on it is immutable once
// built and may be shared between goroutines.
//
// docs/glossary.md explains the words, docs/safety.md the rules.
package pool
