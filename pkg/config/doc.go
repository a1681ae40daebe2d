// Package config reads the settings of one machine: a server's /etc/holdfast/config.yaml, and the file that
// tells the command line how to reach a pool.
//
// What concerns the whole pool (HA, lease_ttl, limits) is not here: it stands in etcd, the same for all, and is
// changed with `holdfast set pool`. This file holds what differs from server to server or is needed before etcd
// can be reached.
//
// Reading is strict. An unknown key is an error that names the key, its line and the nearest known key; so is a
// key given twice, a second document, or a duration without a unit. Default is the only place with default
// values. Validate checks each value and the relations between values once, before anything starts; messages name
// both values. Secrets are never in the file: it holds the paths of files that hold them.
//
// The package reads files and nothing else. Values are plain data; a Config is not changed after Load.
package config
