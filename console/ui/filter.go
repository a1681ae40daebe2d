package ui

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// filter is a parsed filter line: every term must hold. docs/console.md, "Filters", is the manual.
type filter struct {
	line  string
	terms []term
}

// term is one condition.
type term struct {
	not   bool
	key   string
	op    string
	value string
	n     float64
	isNum bool
	re    *regexp.Regexp
}

// parseFilter reads a filter for one kind of thing. Errors name what can be said instead.
func parseFilter(k *kind, line string) (filter, error) {
	f := filter{line: strings.TrimSpace(line)}
	for _, w := range strings.Fields(line) {
		t, err := parseTerm(k, w)
		if err != nil {
			return filter{}, err
		}
		f.terms = append(f.terms, t)
	}
	return f, nil
}

// operators, longer ones first.
var operators = []string{"!=", ">=", "<=", ":", "=", ">", "<"}

func parseTerm(k *kind, w string) (term, error) {
	var t term
	if rest, ok := strings.CutPrefix(w, "-"); ok && rest != "" {
		t.not, w = true, rest
	}
	if len(w) > 1 && w[0] == '/' {
		re, err := regexp.Compile("(?i)" + strings.TrimSuffix(w[1:], "/"))
		if err != nil {
			return t, fmt.Errorf("%s: not a regular expression", w)
		}
		t.re = re
		return t, nil
	}
	at, op := len(w), ""
	for _, o := range operators {
		if i := strings.Index(w, o); i > 0 && i < at {
			at, op = i, o
		}
	}
	if op == "" {
		t.value = strings.ToLower(w)
		return t, nil
	}
	t.key, t.op, t.value = strings.ToLower(w[:at]), op, strings.ToLower(w[at+len(op):])
	if _, ok := k.field(t.key); !ok {
		return t, fmt.Errorf("%s have no %q; there are %s", k.name, t.key, strings.Join(k.keys(), ", "))
	}
	t.n, t.isNum = quantity(t.value)
	if (op == ">" || op == "<" || op == ">=" || op == "<=") && !t.isNum {
		return t, fmt.Errorf("%s: compare with a number, such as %s%s8G", w, t.key, op)
	}
	return t, nil
}

// quantity reads 12, 40%, 1.5, 8G, 512M.
func quantity(s string) (float64, bool) {
	s = strings.TrimSuffix(strings.ToLower(s), "%")
	unit := 1.0
	for suffix, u := range map[string]float64{"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40} {
		if rest, ok := strings.CutSuffix(s, suffix); ok {
			s, unit = rest, u
			break
		}
	}
	n, err := strconv.ParseFloat(s, 64)
	return n * unit, err == nil
}

// matches reports whether every term holds for a row.
func (f filter) matches(m *Model, k *kind, row any) bool {
	for _, t := range f.terms {
		if t.holds(m, k, row) == t.not {
			return false
		}
	}
	return true
}

func (t term) holds(m *Model, k *kind, row any) bool {
	if t.key == "" {
		text := k.text(m, row)
		if t.re != nil {
			return t.re.MatchString(text)
		}
		return strings.Contains(strings.ToLower(text), t.value)
	}
	c, ok := k.field(t.key)
	if !ok {
		return false
	}
	s, _ := c.cell(m, row)
	s = strings.ToLower(s)
	var n float64
	if c.num != nil {
		n = c.num(m, row)
	} else if q, ok := quantity(s); ok {
		n = q
	}
	switch t.op {
	case ">":
		return n > t.n
	case "<":
		return n < t.n
	case ">=":
		return n >= t.n
	case "<=":
		return n <= t.n
	case "=":
		return s == t.value || c.num != nil && t.isNum && n == t.n
	case "!=":
		return !strings.HasPrefix(s, t.value)
	}
	return strings.Contains(s, t.value) || c.num != nil && t.isNum && n == t.n
}
