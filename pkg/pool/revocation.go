package pool

import "time"

// RevocationID names a Revocation: what kind of thing is revoked, and which.
type RevocationID string

// Revocation says which certificates are no longer accepted. Source: docs/security.md, "Revocation".
type Revocation struct {
	ID RevocationID
	// IssuedUntil: all certificates of the name in ID that were issued until then. Of a serial number it is the one,
	// whenever it was issued.
	IssuedUntil time.Time
	// Revoked says who revoked, when and why.
	Revoked  Mark
	Revision Revision
}

// RevokedSerial is the ID for one certificate, by its serial number in hex.
func RevokedSerial(serial string) RevocationID { return RevocationID("serial-" + serial) }

// RevokedOperator is the ID for all certificates of a person or script.
func RevokedOperator(name string) RevocationID { return RevocationID("operator-" + name) }

// RevokedServer is the ID for all certificates of a server or witness.
func RevokedServer(name string) RevocationID { return RevocationID("server-" + name) }

// RootOperator is the name of root's operator certificate on a server.
func RootOperator(server ServerID) string {
	name := "root-" + string(server)
	return name[:min(len(name), 63)]
}

// RevokeServer revokes what was issued to a server until now: its own certificates and root's there.
func RevokeServer(server ServerID, m Mark) []Revocation {
	return []Revocation{
		{ID: RevokedServer(string(server)), IssuedUntil: m.At, Revoked: m},
		{ID: RevokedOperator(RootOperator(server)), IssuedUntil: m.At, Revoked: m},
	}
}

// Audit is the call of the API behind an event.
type Audit struct {
	// Role and Serial are those of the caller's certificate.
	Role, Serial string
	// From is host:port of the caller.
	From string
	// Method is the call's full name, RequestID what the caller or else the agent named the request.
	Method, RequestID string
	// Before and After are JSON of the fields that the call changed, by record.
	Before, After string
}

// Revokes reports whether a certificate is no longer accepted: serial is its number in hex, machine tells a server's or
// witness's from a person's, issued is when it was made. Certificates know whole seconds, so one that was made in the
// very second of its name's revocation counts as made before.
func (s *Snapshot) Revokes(serial string, machine bool, name string, issued time.Time) bool {
	if s.Revocations.Len() == 0 {
		return false
	}
	if s.Revocations.Has(RevokedSerial(serial)) {
		return true
	}
	id := RevokedOperator(name)
	if machine {
		id = RevokedServer(name)
	}
	r, ok := s.Revocations.Get(id)
	return ok && !issued.After(r.IssuedUntil)
}

// IssueAt returns when a new certificate of that name shall count as made: now, or, where the clock of whoever revoked
// the name's earlier certificates is ahead, the second after that.
func (s *Snapshot) IssueAt(machine bool, name string, now time.Time) time.Time {
	id := RevokedOperator(name)
	if machine {
		id = RevokedServer(name)
	}
	if r, ok := s.Revocations.Get(id); ok && !now.Truncate(time.Second).After(r.IssuedUntil) {
		return r.IssuedUntil.Truncate(time.Second).Add(time.Second)
	}
	return now
}
