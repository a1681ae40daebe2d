package main

import (
	"strings"
	"testing"
)

func TestARowIsReadWithItsChecks(t *testing.T) {
	rows, errs := parseTable(strings.NewReader(strings.Join([]string{
		"# comment",
		"",
		"A3b\tclaims race\ttest:./pkg/store:TestTwoWriters/second labtest:TestPowerOff cmd:make demo bench:./pkg/plan:BenchmarkPlan\tunder 20 ms",
	}, "\n")))
	if len(errs) > 0 || len(rows) != 1 {
		t.Fatalf("parseTable = %d rows, errors %v", len(rows), errs)
	}
	r := rows[0]
	if r.line != 3 || r.item() != "A3" || r.figure != "under 20 ms" {
		t.Errorf("row = %+v, want line 3 of item A3 with its figure", r)
	}
	var got []string
	for _, c := range r.checks {
		got = append(got, c.String())
	}
	want := "test:./pkg/store:TestTwoWriters/second|labtest:TestPowerOff|cmd:make demo|bench:./pkg/plan:BenchmarkPlan"
	if strings.Join(got, "|") != want {
		t.Errorf("checks = %q, want %q", got, want)
	}
}

func TestABadRowIsNamedWithItsLine(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"too few columns", "A1\tx\ttest:./a:TestA", "line 1: has 3 columns"},
		{"unknown item", "A99\tx\tcmd:make test\t-", "there is no item A99"},
		{"no id", "first\tx\tcmd:make test\t-", `id "first"`},
		{"no words", "A1\t\tcmd:make test\t-", "says nothing"},
		{"no check", "A1\tx\t\t-", "names no check"},
		{"unknown check", "A1\tx\tlook at it\t-", `"look": want one of test:`},
		{"test without folder", "A1\tx\ttest:TestA\t-", "want test:./folder:Name"},
		{"lab test without name", "A1\tx\tlabtest:power\t-", "want labtest:TestName"},
		{"same id twice", "A1\tx\tcmd:make test\t-\nA1\ty\tcmd:make lint\t-", "line 2: id A1 is already on line 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, errs := parseTable(strings.NewReader(tt.text))
			if len(errs) != 1 || !strings.Contains(errs[0].Error(), tt.want) {
				t.Errorf("parseTable(%q) errors = %v, want one with %q", tt.text, errs, tt.want)
			}
		})
	}
}

func TestANamedClaimBelongsToNoItem(t *testing.T) {
	rows, errs := parseTable(strings.NewReader("A-leader-power-off\tx\tlabtest:TestLeader\t-"))
	if len(errs) > 0 || len(rows) != 1 || rows[0].item() != "" {
		t.Errorf("parseTable = %+v, %v, want one row without an item", rows, errs)
	}
}

func TestEveryItemOfTheIssuesIsKnown(t *testing.T) {
	items := knownItems()
	if len(items) != 14+11+9+8+9 || items[0] != "A1" || items[len(items)-1] != "E9" {
		t.Errorf("knownItems() = %d from %s to %s, want 51 from A1 to E9", len(items), items[0], items[len(items)-1])
	}
}
