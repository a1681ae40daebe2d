package setup

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// tokenPrefix marks a token for people and scripts that look for leaked secrets, and its version for us.
const tokenPrefix = "hf1-"

// Token is what a new machine is given.
type Token struct {
	Pool string `json:"p"`
	// Servers are host:port of agents, the one that made the token first.
	Servers []string `json:"a"`
	// Pin is the fingerprint of the pool's CA (pki.PinOf).
	Pin    string `json:"f"`
	ID     string `json:"i"`
	Secret string `json:"s"`
	// Expires is for messages only; the pool decides.
	Expires time.Time `json:"e"`
}

// String encodes the token as one word, with a checksum that finds a copy cut short. Keep it secret.
func (t Token) String() string {
	payload, err := json.Marshal(t)
	if err != nil {
		return "" // a struct of strings and a time always encodes
	}
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(append(payload, checksum(payload)...))
}

// ParseToken reads a token. It does not know whether the pool still accepts it.
func ParseToken(s string) (Token, error) {
	body, ok := strings.CutPrefix(strings.TrimSpace(s), tokenPrefix)
	if !ok {
		return Token{}, fmt.Errorf("this is no join token: it begins with %q; make one with `holdfast-agent token create` on a server of the pool: %w", tokenPrefix, pool.ErrInvalid)
	}
	raw, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil || len(raw) < checksumLen || !bytes.Equal(checksum(raw[:len(raw)-checksumLen]), raw[len(raw)-checksumLen:]) {
		return Token{}, fmt.Errorf("the token is damaged: copy the whole line that `holdfast-agent token create` printed: %w", pool.ErrInvalid)
	}
	var t Token
	if err := json.Unmarshal(raw[:len(raw)-checksumLen], &t); err != nil {
		return Token{}, fmt.Errorf("the token is damaged: %w: %w", err, pool.ErrInvalid)
	}
	if pool.CheckName("pool", t.Pool) != nil || len(t.Servers) == 0 || t.Pin == "" || t.ID == "" || t.Secret == "" || strings.Contains(t.ID, "/") {
		return Token{}, fmt.Errorf("the token is incomplete: %w", pool.ErrInvalid)
	}
	return t, nil
}

const checksumLen = 4

func checksum(b []byte) []byte {
	sum := sha256.Sum256(b)
	return sum[:checksumLen]
}

// newSecret draws an ID and a secret of 160 bits: too many to guess while a token lives.
func newSecret() (id, secret string, err error) {
	b := make([]byte, 26)
	if _, err := rand.Read(b); err != nil {
		return "", "", fmt.Errorf("draw a secret: %w", err)
	}
	return hex.EncodeToString(b[:6]), base64.RawURLEncoding.EncodeToString(b[6:]), nil
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
