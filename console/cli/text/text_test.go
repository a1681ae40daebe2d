package text

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func plain(_ Tone, s string) string { return s }

func TestOutsideTextCannotDisturbTheTerminal(t *testing.T) {
	tests := map[string]string{
		"web-01":               "web-01",
		"a\x1b[2Jb":            "a?[2Jb",
		"two\nlines\tand tabs": "two lines and tabs",
		"c1\u009bcsi":          "c1?csi",
		"bidi\u202egnp.exe":    "bidi?gnp.exe",
		"zero\u200bwidth":      "zero?width",
		"bell\a":               "bell?",
		"bad\xffutf8":          "bad?utf8",
		"Größe 大きい":            "Größe 大きい",
	}
	for in, want := range tests {
		if got := Clean(in); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestWideCharactersTakeTwoCells(t *testing.T) {
	for s, want := range map[string]int{"abc": 3, "大き": 4, "e\u0301": 1, "Größe": 5} {
		if got := Width(s); got != want {
			t.Errorf("Width(%q) = %d, want %d", s, got, want)
		}
	}
}

func TestColumnsGoInAFixedOrderAndNeverTheName(t *testing.T) {
	table := Table{
		Columns: []Column{{Title: "VM"}, {Title: "STATE"}, {Title: "SERVER", Drop: 1}, {Title: "MEM", Drop: 2, Right: true}, {Title: "NOTE", Drop: 3, Min: 8}},
		Rows:    [][]Cell{{{Text: "web-01"}, {Text: "waiting"}, {Text: "-"}, {Text: "32G"}, {Text: "no server has 32 GiB free"}}},
	}
	want := map[int]string{
		0:  "VM      STATE    SERVER  MEM  NOTE",
		50: "VM      STATE    SERVER  MEM  NOTE",
		38: "VM      STATE    SERVER  MEM  NOTE",
		36: "VM      STATE    SERVER  MEM",
		25: "VM      STATE    SERVER",
		20: "VM      STATE",
	}
	for w, head := range want {
		lines := table.Lay(w, plain)
		if lines[0] != head {
			t.Errorf("width %d: titles %q, want %q", w, lines[0], head)
		}
		if !strings.HasPrefix(lines[1], "web-01  waiting") {
			t.Errorf("width %d: row %q lost name or state", w, lines[1])
		}
	}
	if got := table.Lay(40, plain)[1]; !strings.HasSuffix(got, "..") {
		t.Errorf("a cut note does not say so: %q", got)
	}
}

func TestAColumnWithoutContentIsLeftOut(t *testing.T) {
	table := Table{Columns: []Column{{Title: "A"}, {Title: "NOTE", Drop: 1}}, Rows: [][]Cell{{{Text: "x"}, {}}}}
	if got := table.Lay(0, plain); !slices.Equal(got, []string{"A", "x"}) {
		t.Errorf("lines = %q", got)
	}
}

func TestNoLineIsWiderThanAsked(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 6).Draw(t, "columns")
		table := Table{}
		for range n {
			table.Columns = append(table.Columns, Column{
				Title: rapid.StringMatching(`[A-Z]{1,8}`).Draw(t, "title"),
				Drop:  rapid.IntRange(0, 4).Draw(t, "drop"), Min: rapid.IntRange(0, 10).Draw(t, "min"),
				Right: rapid.Bool().Draw(t, "right"),
			})
		}
		for range rapid.IntRange(0, 5).Draw(t, "rows") {
			var row []Cell
			for range n {
				row = append(row, Cell{Text: rapid.String().Draw(t, "cell")})
			}
			table.Rows = append(table.Rows, row)
		}
		w := rapid.IntRange(20, 200).Draw(t, "width")
		for _, line := range table.Lay(w, plain) {
			if Width(line) > w {
				t.Fatalf("width %d: line %q takes %d", w, line, Width(line))
			}
			if Clean(line) != line {
				t.Fatalf("line %q is not clean", line)
			}
		}
	})
}

func TestWrappingLosesNoWordAndKeepsToTheWidth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Clean(rapid.String().Draw(t, "text"))
		w := rapid.IntRange(2, 60).Draw(t, "width")
		lines := Wrap(s, w)
		for _, line := range lines {
			if Width(line) > w {
				t.Fatalf("line %q takes %d of %d cells", line, Width(line), w)
			}
		}
		strip := func(s string) string { return strings.Join(strings.Fields(s), "") }
		if got := strip(strings.Join(lines, " ")); got != strip(s) {
			t.Fatalf("wrapped %q to %q", s, lines)
		}
	})
}
