package pool

import (
	"fmt"
	"regexp"
	"strings"
)

// ServerID names a server. It is unique in the pool and never reused for another machine while registered.
type ServerID string

// VMID names a VM. It is unique in the pool and is also the libvirt domain's name.
type VMID string

// OperationID names an operation.
type OperationID string

// EventID names an event; IDs sort by time.
type EventID string

// AlertID names an open alert.
type AlertID string

// Revision is an etcd revision: of the store as a whole, or of one key's last change.
type Revision int64

// Session is one unbroken life of a member's lease. Its number is the member key's create revision. Zero: none.
type Session int64

// FormerLife is the session of claims that were made under an etcd whose data was lost (docs/safety.md, "Rebuild"): one
// that no member can have, because the first write to an etcd has revision 2.
const FormerLife Session = 1

// Epoch counts the owners of a claim: the fencing token.
type Epoch int64

var nameRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// CheckName reports whether name may name a server, VM, pool or group. kind is the word used in the message.
// The error says what is allowed.
func CheckName(kind, name string) error {
	if nameRE.MatchString(name) {
		return nil
	}
	return InField(kind, fmt.Errorf("%s name %q: use 1 to 63 letters, digits, dots, dashes or underscores, the first a letter or digit: %w",
		kind, printable(name), ErrInvalid))
}

// printable replaces control characters, so that an error message cannot disturb a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return '?'
		}
		return r
	}, s)
}
