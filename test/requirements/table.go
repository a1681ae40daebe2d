package main

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// kind is the sort of proof that a check names.
type kind int

const (
	kindUnspecified kind = iota
	kindTest
	kindLabTest
	kindBench
	kindCommand
)

// check is one proof named in a row.
type check struct {
	kind kind
	pkg  string // folder such as "./pkg/lease"; empty for lab tests and commands
	name string // test or benchmark, or the command line
}

// String returns the check as it is written in the table.
func (c check) String() string {
	switch c.kind {
	case kindTest:
		return "test:" + c.pkg + ":" + c.name
	case kindLabTest:
		return "labtest:" + c.name
	case kindBench:
		return "bench:" + c.pkg + ":" + c.name
	case kindCommand:
		return "cmd:" + c.name
	default:
		return "unspecified"
	}
}

// row is one line of the table.
type row struct {
	line   int
	id     string
	claim  string
	checks []check
	figure string
}

// item returns the numbered item that the row belongs to ("A3" for "A3b"), or
// "" for a named claim.
func (r row) item() string {
	return itemPattern.FindString(r.id)
}

// lastItem gives the highest item number of each issue, in print order.
var lastItem = []struct {
	issue string
	last  int
}{{"A", 14}, {"B", 11}, {"C", 9}, {"D", 8}, {"E", 9}}

var (
	itemPattern = regexp.MustCompile(`^[A-Z][0-9]+`)
	idPattern   = regexp.MustCompile(`^[A-Z]([0-9]+[a-z]?|(-[a-z0-9]+)+)$`)
	goPattern   = regexp.MustCompile(`^(\./[^:\s]+):([A-Z][^:\s]*)$`)
)

// knownItems lists every item of every issue, in order.
func knownItems() []string {
	var items []string
	for _, issue := range lastItem {
		for n := 1; n <= issue.last; n++ {
			items = append(items, fmt.Sprintf("%s%d", issue.issue, n))
		}
	}
	return items
}

// parseTable reads the table. Empty lines and lines that begin with # are
// passed over. The errors are one per bad line, in order; good rows are
// returned all the same.
func parseTable(r io.Reader) ([]row, []error) {
	var rows []row
	var errs []error
	seen := map[string]int{}
	known := map[string]bool{}
	for _, id := range knownItems() {
		known[id] = true
	}
	s := bufio.NewScanner(r)
	for n := 1; s.Scan(); n++ {
		text := strings.TrimRight(s.Text(), "\r")
		if strings.TrimSpace(text) == "" || strings.HasPrefix(text, "#") {
			continue
		}
		parsed, err := parseRow(text, known)
		parsed.line = n
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("line %d: %w", n, err))
		case seen[parsed.id] != 0:
			errs = append(errs, fmt.Errorf("line %d: id %s is already on line %d", n, parsed.id, seen[parsed.id]))
		default:
			seen[parsed.id] = n
			rows = append(rows, parsed)
		}
	}
	if err := s.Err(); err != nil {
		errs = append(errs, err)
	}
	return rows, errs
}

func parseRow(text string, known map[string]bool) (row, error) {
	fields := strings.Split(text, "\t")
	if len(fields) != 4 {
		return row{}, fmt.Errorf("has %d columns separated by tabs, want 4: id, one line, check, figure", len(fields))
	}
	for i := range fields {
		fields[i] = strings.TrimSpace(fields[i])
	}
	r := row{id: fields[0], claim: fields[1], figure: fields[3]}
	if !idPattern.MatchString(r.id) {
		return row{}, fmt.Errorf("id %q: want an item (A3), a part of one (A3b) or a named claim (A-leader-power-off)", r.id)
	}
	if item := r.item(); item != "" && !known[item] {
		return row{}, fmt.Errorf("id %s: there is no item %s", r.id, item)
	}
	if r.claim == "" {
		return row{}, fmt.Errorf("id %s: says nothing in the second column", r.id)
	}
	checks, err := parseChecks(fields[2])
	if err != nil {
		return row{}, fmt.Errorf("id %s: %w", r.id, err)
	}
	r.checks = checks
	return r, nil
}

// parseChecks reads the third column. A word without a known prefix continues
// the command before it.
func parseChecks(text string) ([]check, error) {
	var checks []check
	for _, word := range strings.Fields(text) {
		prefix, rest, found := strings.Cut(word, ":")
		if !found {
			prefix = "" // so that "cmd:make test" keeps its second word
		}
		switch prefix {
		case "test", "bench":
			m := goPattern.FindStringSubmatch(rest)
			if m == nil {
				return nil, fmt.Errorf("check %q: want %s:./folder:Name", word, prefix)
			}
			k := kindTest
			if prefix == "bench" {
				k = kindBench
			}
			checks = append(checks, check{kind: k, pkg: strings.TrimRight(m[1], "/"), name: m[2]})
		case "labtest":
			if !strings.HasPrefix(rest, "Test") {
				return nil, fmt.Errorf("check %q: want labtest:TestName", word)
			}
			checks = append(checks, check{kind: kindLabTest, name: rest})
		case "cmd":
			checks = append(checks, check{kind: kindCommand, name: rest})
		default:
			if len(checks) == 0 || checks[len(checks)-1].kind != kindCommand {
				return nil, fmt.Errorf("check %q: want one of test: labtest: bench: cmd: in front", word)
			}
			checks[len(checks)-1].name += " " + word
		}
	}
	if len(checks) == 0 {
		return nil, fmt.Errorf("names no check")
	}
	return checks, nil
}
