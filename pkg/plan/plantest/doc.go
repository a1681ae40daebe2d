// Package plantest keeps a pool in memory for tests of whatever decides about one: records with revisions, changes
// applied under their guards, servers that come and go. It is for tests only; the real store is pkg/store.
package plantest
