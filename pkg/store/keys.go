package store

import (
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Root is the beginning of every key of every pool. The number changes only with a key space that older agents
// could not share.
const Root = "/holdfast/v1/"

// Keys names the keys of one pool. The zero value is not usable; call NewKeys. Safe for concurrent use.
type Keys struct{ prefix string }

// NewKeys returns the keys of the pool of that name. The name must have passed pool.CheckName.
func NewKeys(name string) Keys { return Keys{prefix: Root + name + "/"} }

// Prefix is what all keys of the pool begin with; it ends with a slash.
func (k Keys) Prefix() string { return k.prefix }

// name is the pool's name.
func (k Keys) name() string { return strings.TrimSuffix(strings.TrimPrefix(k.prefix, Root), "/") }

// Kinds of key: the path element behind the prefix.
const (
	kindConfig     = "config"
	kindServers    = "servers"
	kindMembers    = "members"
	kindLeader     = "leader"
	kindRoster     = "roster"
	kindVMs        = "vms"
	kindClaims     = "claims"
	kindStates     = "states"
	kindHomes      = "homes"
	kindFences     = "fences"
	kindAlerts     = "alerts"
	kindSecrets    = "secrets"
	kindTokens     = "tokens"
	kindOperations = "operations"
	kindEvents     = "events"
	kindRevoked    = "revoked"
	kindIncidents  = "incidents"
)

// Config is the key of the pool's policy. Written by the API.
func (k Keys) Config() string { return k.prefix + kindConfig }

// Roster is the key of the list of those that may lead. Written by the leader.
func (k Keys) Roster() string { return k.prefix + kindRoster }

// Server is the key of a server's registration. Written by the API.
func (k Keys) Server(id pool.ServerID) string { return k.in(kindServers, string(id)) }

// Member is the key of a server's leased presence. Written by its agent.
func (k Keys) Member(id pool.ServerID) string { return k.in(kindMembers, string(id)) }

// Leaders is the prefix of the election's keys: the one with the lowest create revision leads.
func (k Keys) Leaders() string { return k.in(kindLeader, "") }

// Leader is the election key of the candidate with that lease, named as etcd's own election names it.
func (k Keys) Leader(lease kv.LeaseID) string {
	return k.in(kindLeader, fmt.Sprintf("%x", int64(lease)))
}

// VM is the key of a VM's registration. Written by the API.
func (k Keys) VM(id pool.VMID) string { return k.in(kindVMs, string(id)) }

// Claim is the key of the right to run a VM. Written by the leader and the owner's agent.
func (k Keys) Claim(id pool.VMID) string { return k.in(kindClaims, string(id)) }

// State is the key of what a VM's owner observes. Written by the owner's agent.
func (k Keys) State(id pool.VMID) string { return k.in(kindStates, string(id)) }

// Home is the key of where a VM belongs. Written by the leader.
func (k Keys) Home(id pool.VMID) string { return k.in(kindHomes, string(id)) }

// Fence is the key of what was proven about a server's lost session. Written by the leader.
func (k Keys) Fence(id pool.ServerID) string { return k.in(kindFences, string(id)) }

// Alert is the key of an open problem. Written by the leader.
func (k Keys) Alert(id pool.AlertID) string { return k.in(kindAlerts, string(id)) }

// Secret is the key of the passwords taken out of a VM's definition. Written by the API; not mirrored.
func (k Keys) Secret(id pool.VMID) string { return k.in(kindSecrets, string(id)) }

// Token is the key of a join token. Written by the API; not mirrored.
func (k Keys) Token(id string) string { return k.in(kindTokens, id) }

// Operation is the key of a long-running request. Created by the API, advanced by the leader and the source.
func (k Keys) Operation(id pool.OperationID) string { return k.in(kindOperations, string(id)) }

// Event is the key of one line of history. Written by anyone, once.
func (k Keys) Event(id pool.EventID) string { return k.in(kindEvents, string(id)) }

// Incident is the key of the record of an outage. Written by the leader.
func (k Keys) Incident(id pool.IncidentID) string { return k.in(kindIncidents, string(id)) }

// Revocation is the key of certificates that are no longer accepted. Written by the API.
func (k Keys) Revocation(id pool.RevocationID) string { return k.in(kindRevoked, string(id)) }

func (k Keys) in(kind, name string) string { return k.prefix + kind + "/" + name }

// split takes a key of this pool apart. Keys without a second part (config, roster) have an empty name; ok is
// false for a key of somebody else.
func (k Keys) split(key string) (kind, name string, ok bool) {
	rest, ok := strings.CutPrefix(key, k.prefix)
	if !ok {
		return "", "", false
	}
	kind, name, _ = strings.Cut(rest, "/")
	return kind, name, true
}

// EventID names an event so that IDs sort by time, then server, then counter. wall is the writer's wall clock;
// counter must differ between events of one server in the same microsecond: count up, from any start.
func EventID(wall time.Time, server pool.ServerID, counter uint64) pool.EventID {
	return pool.EventID(fmt.Sprintf("%s-%s-%06d", wall.UTC().Format("20060102T150405.000000"), server, counter%1_000_000))
}
