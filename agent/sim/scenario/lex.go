package scenario

import (
	"fmt"
	"strings"
)

// token is one word, or one quoted text.
type token struct {
	text   string
	quoted bool
}

// lex splits a line into tokens; a comment ends it.
func lex(line string) ([]token, error) {
	var out []token
	for i := 0; i < len(line); {
		c := line[i]
		switch c {
		case ' ', '\t', '\r':
			i++
		case '#':
			return out, nil
		case '"':
			end := strings.IndexByte(line[i+1:], '"')
			if end < 0 {
				return nil, fmt.Errorf("the text that begins with %s has no closing quote", shorten(line[i:]))
			}
			text := line[i+1 : i+1+end]
			if n := len(out); n > 0 && i > 0 && line[i-1] == '=' && strings.Contains(out[n-1].text, "=") && len(out[n-1].text) > 1 {
				out[n-1].text += text // KEY="some text"
			} else {
				out = append(out, token{text, true})
			}
			i += end + 2
		default:
			j := i
			for j < len(line) && !strings.ContainsRune(" \t\r#\"", rune(line[j])) {
				j++
			}
			out = append(out, token{text: line[i:j]})
			i = j
		}
	}
	return out, nil
}

// shorten makes foreign text fit for a message.
func shorten(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
	if len(s) > 40 {
		return s[:40] + "..."
	}
	return s
}

// isName reports whether s is a name of the language.
func isName(s string) bool {
	for _, r := range s {
		if !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-", r) {
			return false
		}
	}
	return s != ""
}
