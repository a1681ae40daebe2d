package text

import (
	"cmp"
	"slices"
	"strings"
)

// Tone is how a cell would be coloured; every cell's words say the same without it.
type Tone int

// Tones.
const (
	Plain Tone = iota
	Good
	Busy
	Bad
	Dim
	Title
)

// Column describes one column of a table.
type Column struct {
	Title string
	// Drop is the order in which columns go when the width is short, the largest number first; 0 stays always.
	Drop int
	// Min lets the column be cut down to this many cells before any column is dropped; 0: it is not cut.
	Min int
	// Right aligns it at the right, for figures.
	Right bool
}

// Cell is one field of a table.
type Cell struct {
	Text string
	Tone Tone
}

// Table is rows under titles. Cells are cleaned when it is laid out.
type Table struct {
	Columns []Column
	Rows    [][]Cell
}

// gap is what stands between two columns.
const gap = "  "

// Lay returns the table as lines, the titles first, none wider than w; 0 means no limit. paint colours a padded
// cell. A column without any content is left out if it may be dropped.
func (t Table) Lay(w int, paint func(Tone, string) string) []string {
	t = t.cleaned()
	widths := t.fit(w)
	lines := []string{t.line(widths, titles(t.Columns), paint)}
	for _, row := range t.Rows {
		lines = append(lines, t.line(widths, row, paint))
	}
	return lines
}

func (t Table) cleaned() Table {
	rows := make([][]Cell, 0, len(t.Rows))
	for _, row := range t.Rows {
		out := make([]Cell, len(row))
		for i, c := range row {
			out[i] = Cell{Clean(c.Text), c.Tone}
		}
		rows = append(rows, out)
	}
	return Table{t.Columns, rows}
}

func titles(columns []Column) []Cell {
	var out []Cell
	for _, c := range columns {
		out = append(out, Cell{c.Title, Title})
	}
	return out
}

// fit returns the width of each column; -1 for those left out.
func (t Table) fit(w int) []int {
	widths := t.natural()
	for w > 0 && total(widths) > w {
		if t.squeeze(widths, w) {
			break
		}
		i := t.nextDrop(widths)
		if i < 0 {
			t.crush(widths, w)
			break
		}
		dropped := t.natural()
		for k := range widths {
			if widths[k] < 0 || k == i {
				dropped[k] = -1
			}
		}
		widths = dropped
	}
	return widths
}

// natural is the width that each column would like to have.
func (t Table) natural() []int {
	widths := make([]int, len(t.Columns))
	for i, c := range t.Columns {
		content := 0
		for _, row := range t.Rows {
			content = max(content, Width(row[i].Text))
		}
		widths[i] = max(content, Width(c.Title))
		if content == 0 && c.Drop > 0 {
			widths[i] = -1
		}
	}
	return widths
}

func total(widths []int) int {
	n := -len(gap)
	for _, w := range widths {
		if w >= 0 {
			n += w + len(gap)
		}
	}
	return n
}

// squeeze narrows the columns that may be cut, the widest first; it reports whether all fit then. If not, widths
// are as before.
func (t Table) squeeze(widths []int, w int) bool {
	try := slices.Clone(widths)
	for total(try) > w {
		widest := -1
		for i, c := range t.Columns {
			if c.Min > 0 && try[i] > max(c.Min, Width(c.Title)) && (widest < 0 || try[i] > try[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return false
		}
		try[widest]--
	}
	copy(widths, try)
	return true
}

// nextDrop returns the column to leave out next, or -1.
func (t Table) nextDrop(widths []int) int {
	var left []int
	for i, c := range t.Columns {
		if widths[i] >= 0 && c.Drop > 0 {
			left = append(left, i)
		}
	}
	if len(left) == 0 {
		return -1
	}
	return slices.MaxFunc(left, func(a, b int) int { return cmp.Compare(t.Columns[a].Drop, t.Columns[b].Drop) })
}

// crush narrows whatever is left, the widest first, as far as it takes.
func (t Table) crush(widths []int, w int) {
	for total(widths) > w {
		widest := 0
		for i := range widths {
			if widths[i] > widths[widest] {
				widest = i
			}
		}
		if widths[widest] <= 1 {
			return
		}
		widths[widest]--
	}
}

func (t Table) line(widths []int, row []Cell, paint func(Tone, string) string) string {
	var b strings.Builder
	last := -1
	for i := range widths {
		if widths[i] >= 0 {
			last = i
		}
	}
	for i, w := range widths {
		if w < 0 {
			continue
		}
		s := Cut(row[i].Text, w)
		if i != last || t.Columns[i].Right {
			s = Pad(s, w, t.Columns[i].Right)
		}
		b.WriteString(paint(row[i].Tone, s))
		if i != last {
			b.WriteString(gap)
		}
	}
	return strings.TrimRight(b.String(), " ")
}
