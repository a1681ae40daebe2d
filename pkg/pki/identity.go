package pki

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Role says what kind of identity a certificate is.
type Role string

// Roles. What each may call is decided by pkg/rpc's table alone.
const (
	// RoleServer: an agent, its guard and its etcd member.
	RoleServer Role = "server"
	// RoleWitness: a machine that carries only a vote of etcd.
	RoleWitness Role = "witness"
	// RoleAdmin: an operator who may do everything, identities included.
	RoleAdmin Role = "admin"
	// RoleOperator: an operator who may run VMs and servers.
	RoleOperator Role = "operator"
	// RoleViewer: reads only.
	RoleViewer Role = "viewer"
)

// Operator reports whether the role is a person's or a script's rather than a machine's.
func (r Role) Operator() bool { return r == RoleAdmin || r == RoleOperator || r == RoleViewer }

// Machine reports whether certificates of this role serve TLS and are admitted by etcd.
func (r Role) Machine() bool { return r == RoleServer || r == RoleWitness }

// ServerHost is a DNS name that every machine's certificate carries and no operator's. Dial with it as the TLS
// server name to accept any server of the pool whatever address it was reached by; etcd demands it of its clients.
const ServerHost = "server.holdfast.internal"

// Identity is who a verified certificate says somebody is.
type Identity struct {
	Name string
	Role Role
	Pool string
	// Serial is the certificate's serial number in hex, for the audit trail.
	Serial string
	// Issued and Expires are when the certificate was made, to the second, and when it ends.
	Issued, Expires time.Time
}

// String is the identity as it stands in events: "server srv-1" or "operator anna".
func (i Identity) String() string { return string(i.Role) + " " + i.Name }

// Of returns the identity in a certificate that has been verified against the pool's CA; it does not verify.
func Of(cert *x509.Certificate) (Identity, error) {
	s := cert.Subject
	if len(s.OrganizationalUnit) != 1 || len(s.Organization) != 1 || s.CommonName == "" {
		return Identity{}, fmt.Errorf("certificate of %q has no role: %w", s.CommonName, pool.ErrInvalid)
	}
	id := Identity{Name: s.CommonName, Role: Role(s.OrganizationalUnit[0]), Pool: s.Organization[0], Serial: cert.SerialNumber.Text(16),
		Issued: cert.NotBefore.Add(backdate), Expires: cert.NotAfter}
	if !id.Role.Operator() && !id.Role.Machine() {
		return Identity{}, fmt.Errorf("certificate of %q has an unknown role %q: %w", id.Name, id.Role, pool.ErrInvalid)
	}
	return id, nil
}

// Peer returns the identity of the other end of a connection; ok is false if it showed no certificate or TLS did
// not verify it.
func Peer(state tls.ConnectionState) (id Identity, ok bool) {
	if len(state.VerifiedChains) == 0 || len(state.VerifiedChains[0]) == 0 {
		return Identity{}, false
	}
	id, err := Of(state.VerifiedChains[0][0])
	return id, err == nil
}
