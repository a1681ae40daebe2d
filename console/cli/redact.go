package cli

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// removed stands where a secret was.
const removed = "(removed)"

var (
	// secretName is the name of a field, or of a parameter of a fence device, whose value is nobody's business.
	secretName = regexp.MustCompile(`(?i)pass(wd|word|phrase)?$|passw|secret|token|credential|private|community|(^|[_-])key$|apikey|auth_?key|priv_?(key|pass)|pwd`)
	// secretText is such a name with its value in a line of text: name=value, name: value, name="value with blanks".
	secretText = regexp.MustCompile(`(?i)([a-z0-9_-]*(?:passw(?:or)?d|passphrase|secret|token|credential|community|apikey|private_?key|pwd)[a-z0-9_-]*["']?\s*[=:]\s*)("[^"]*"|'[^']*'|[^\s,;}\])]+)`)
	pemBlock   = regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*-----.*?-----END [A-Z ]*-----`)
	pemOpen    = regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*`)
	inURL      = regexp.MustCompile(`([a-z][a-z0-9+.-]*://[^\s/:@]*):[^\s/@]+@`)
	// tokenText is a join token or anything else that is long and random.
	tokenText = regexp.MustCompile(`[A-Za-z0-9+_=-]{64,}`)
)

// withoutSecrets takes what looks like a password, a key or a token out of text.
func withoutSecrets(text []byte) []byte { return []byte(textWithoutSecrets(string(text))) }

func textWithoutSecrets(s string) string {
	s = pemBlock.ReplaceAllString(s, removed)
	s = pemOpen.ReplaceAllString(s, removed)
	s = inURL.ReplaceAllString(s, "${1}:"+removed+"@")
	s = secretText.ReplaceAllString(s, "${1}"+removed)
	return tokenText.ReplaceAllString(s, removed)
}

// messageWithoutSecrets prints an API message as indented JSON, without secrets.
func messageWithoutSecrets(m proto.Message) ([]byte, error) {
	data, err := protojson.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("print as json: %w", err)
	}
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		return nil, fmt.Errorf("print as json: %w", err)
	}
	return json.MarshalIndent(valueWithoutSecrets(v), "", "  ")
}

// valueWithoutSecrets goes through decoded JSON; texts that hold JSON themselves, as audited changes do, are gone through
// as well.
func valueWithoutSecrets(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			if _, plain := inner.(string); plain && secretName.MatchString(name) {
				v[name] = removed
				continue
			}
			v[name] = valueWithoutSecrets(inner)
		}
	case []any:
		for i := range v {
			v[i] = valueWithoutSecrets(v[i])
		}
	case string:
		var inner any
		if t := strings.TrimSpace(v); strings.HasPrefix(t, "{") && json.Unmarshal([]byte(t), &inner) == nil {
			if data, err := json.Marshal(valueWithoutSecrets(inner)); err == nil {
				return string(data)
			}
		}
		return textWithoutSecrets(v)
	}
	return v
}
