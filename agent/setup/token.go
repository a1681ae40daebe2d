package setup

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"

	"github.com/holdfast-ha/holdfast/pkg/pki"
)

// Token is what a new machine or operator is given; see pki.Token.
type Token = pki.Token

// ParseToken reads a token; see pki.ParseToken.
func ParseToken(s string) (Token, error) { return pki.ParseToken(s) }

// newSecret draws an ID and a secret of 160 bits: too many to guess while a token lives.
func newSecret() (id, secret string, err error) {
	b := make([]byte, 26)
	if _, err := rand.Read(b); err != nil {
		return "", "", fmt.Errorf("draw a secret: %w", err)
	}
	return hex.EncodeToString(b[:6]), base64.RawURLEncoding.EncodeToString(b[6:]), nil
}

// tagID derives a token's ID from the request that makes it.
func tagID(tag string) string {
	return hex.EncodeToString(hash([]byte("token for request " + tag))[:6])
}

func hash(b []byte) []byte {
	sum := sha256.Sum256(b)
	return sum[:]
}

// newUUID draws a random UUID. RFC 9562, version 4.
func newUUID() (string, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("draw a UUID: %w", err)
	}
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16]), nil
}
