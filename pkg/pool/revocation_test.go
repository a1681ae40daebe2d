package pool

import (
	"testing"
	"time"
)

func TestARevocationOfANameEndsWhatWasIssuedUntilThenAndNothingLater(t *testing.T) {
	at := time.Date(2030, 1, 2, 3, 4, 5, 600, time.UTC)
	var s Snapshot
	s.Revocations = s.Revocations.With(RevokedOperator("anna"), Revocation{ID: RevokedOperator("anna"), IssuedUntil: at})
	s.Revocations = s.Revocations.With(RevokedSerial("4f"), Revocation{ID: RevokedSerial("4f")})
	for name, tt := range map[string]struct {
		serial, name string
		machine      bool
		issued       time.Time
		want         bool
	}{
		"issued before":             {"1", "anna", false, at.Add(-time.Hour), true},
		"issued in the same second": {"1", "anna", false, at.Truncate(time.Second), true},
		"issued a second later":     {"1", "anna", false, at.Truncate(time.Second).Add(time.Second), false},
		"a server of that name":     {"1", "anna", true, at.Add(-time.Hour), false},
		"another name":              {"1", "ben", false, at.Add(-time.Hour), false},
		"by its serial":             {"4f", "ben", false, at.Add(time.Hour), true},
	} {
		if got := s.Revokes(tt.serial, tt.machine, tt.name, tt.issued); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}

func TestACertificateIssuedAfterARevocationIsGoodWhateverTheClocksSay(t *testing.T) {
	at := time.Date(2030, 1, 2, 3, 4, 5, 600, time.UTC)
	var s Snapshot
	s.Revocations = s.Revocations.With(RevokedServer("srv-2"), Revocation{ID: RevokedServer("srv-2"), IssuedUntil: at})
	for _, now := range []time.Time{at.Add(-time.Minute), at, at.Add(time.Millisecond), at.Add(time.Hour)} {
		issued := s.IssueAt(true, "srv-2", now).Truncate(time.Second)
		if s.Revokes("1", true, "srv-2", issued) {
			t.Errorf("a certificate made at %v is revoked", now)
		}
	}
	if got := s.IssueAt(true, "srv-3", at); !got.Equal(at) {
		t.Errorf("without a revocation: %v", got)
	}
}
