package pki

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// tokenPrefix marks a token for people and scripts that look for leaked secrets, and its version for us.
const tokenPrefix = "hf1-"

// Token is what a new machine, or a new operator, is given. It works once and not for long.
type Token struct {
	Pool string `json:"p"`
	// Servers are host:port of agents, the one that made the token first.
	Servers []string `json:"a"`
	// Pin is the fingerprint of the pool's CA (PinOf).
	Pin    string `json:"f"`
	ID     string `json:"i"`
	Secret string `json:"s"`
	// Expires is for messages only; the pool decides.
	Expires time.Time `json:"e"`
	// Name and Role are those of the certificate that a login token gives; empty in one that admits a machine.
	Name string `json:"n,omitempty"`
	Role Role   `json:"r,omitempty"`
}

// Login reports whether the token gives an operator's certificate, rather than admit a machine.
func (t Token) Login() bool { return t.Role != "" }

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
		return Token{}, fmt.Errorf("this is no token: one begins with %q; make one with `holdfast-agent token create` on a server of the pool: %w", tokenPrefix, pool.ErrInvalid)
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
