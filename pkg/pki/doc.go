// Package pki is a pool's identity: one certificate authority, a certificate for each server, one for each
// operator, and the TLS 1.3 settings that go with them.
//
// Who somebody is stands in the certificate's subject: common name = name, organizational unit = role, organization
// = pool. Only servers' certificates carry the DNS name ServerHost; etcd admits nobody without it, so that an
// operator's certificate opens the API but never etcd itself.
//
// Keys are ECDSA P-256: every TLS stack that scripts use knows it (some still refuse Ed25519). Files are PEM,
// written with mode 0600 and replaced as a whole. A Store reads them again when they change, so certificates are
// exchanged without closing a connection or restarting a process.
//
// The CA's key lies on every server (StateDir/pki/ca.key): any server can admit the next one and renew its own
// certificate, and no server's death takes that ability away. The price: root on one server can make any identity
// of the pool. Root on a server can already reach every disk of the shared storage and write every claim in etcd,
// so this adds no new power over VMs; it makes removal of a compromised server a matter of a new CA. A witness has
// no CA key. docs/operations.md, "Making a pool".
//
// What the package does not do: revocation (pkg/rpc asks at each call what etcd says), and decisions on
// what a role may do (pkg/rpc). Nothing here reads the clock except through TLS itself; callers pass the time.
package pki
