package ui

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/width"
)

// tone is what a piece of text means; a theme says how it looks.
type tone uint8

const (
	plain tone = iota
	dim
	good
	busy
	bad
	title
	accent
	alarm
	label
	bar
	tones // how many there are
)

// cell is one place on the screen. r is 0 in the second cell of a wide character.
type cell struct {
	r       rune
	tone    tone
	reverse bool
}

// grid is a frame being drawn. The zero value is empty; reset gives it a size.
type grid struct {
	w, h  int
	cells []cell
	// dimmed draws everything in the dim tone, alarms apart: what is shown is not the present.
	dimmed bool
	ascii  bool
}

// reset clears the grid to w by h blanks.
func (g *grid) reset(w, h int) {
	g.w, g.h = max(w, 0), max(h, 0)
	if n := g.w * g.h; cap(g.cells) < n {
		g.cells = make([]cell, n)
	} else {
		g.cells = g.cells[:n]
	}
	for i := range g.cells {
		g.cells[i] = cell{r: ' '}
	}
	g.dimmed = false
}

// all is the whole grid as a region.
func (g *grid) all() region { return region{g: g, w: g.w, h: g.h} }

// region is a rectangle of a grid; what is drawn outside of it is cut off.
type region struct {
	g          *grid
	x, y, w, h int
}

// sub is a part of r, clipped to it.
func (r region) sub(x, y, w, h int) region {
	x, y = min(max(x, 0), r.w), min(max(y, 0), r.h)
	return region{r.g, r.x + x, r.y + y, max(min(w, r.w-x), 0), max(min(h, r.h-y), 0)}
}

// rows are h rows of r from y on.
func (r region) rows(y, h int) region { return r.sub(0, y, r.w, h) }

// put writes s at x, y and returns the x behind it. It cleans s: harmful characters and those of uncertain width
// become one placeholder each.
func (r region) put(x, y int, t tone, s string) int {
	if y < 0 || y >= r.h {
		return x
	}
	if r.g.dimmed && t != alarm {
		t = dim
	}
	row := (r.y + y) * r.g.w
	for i := 0; i < len(s); {
		c := rune(s[i])
		n := 1
		if c >= utf8.RuneSelf {
			c, n = utf8.DecodeRuneInString(s[i:])
		}
		i += n
		c, cells := r.g.shape(c)
		if x+cells > r.w {
			return r.w
		}
		if x >= 0 {
			r.g.cells[row+r.x+x] = cell{r: c, tone: t}
			if cells == 2 {
				r.g.cells[row+r.x+x+1] = cell{tone: t}
			}
		}
		x += cells
	}
	return x
}

// right writes s so that it ends before x.
func (r region) right(x, y int, t tone, s string) { r.put(x-cells(s), y, t, s) }

// cut writes at most w cells of s and marks a cut with two dots.
func (r region) cut(x, y, w int, t tone, s string) int {
	if cells(s) <= w {
		return r.put(x, y, t, s)
	}
	if w <= 2 {
		return r.sub(x, y, w, 1).put(0, 0, t, "..") + x
	}
	end := r.sub(x, y, w-2, 1).put(0, 0, t, s)
	return r.put(x+min(end, w-2), y, t, "..")
}

// highlight reverses a whole row, without its colours.
func (r region) highlight(y int) {
	if y < 0 || y >= r.h {
		return
	}
	row := (r.y+y)*r.g.w + r.x
	for i := row; i < row+r.w; i++ {
		// In one look: a row of many colours, each reversed, cannot be read.
		r.g.cells[i].reverse, r.g.cells[i].tone = true, plain
	}
}

// clear blanks r.
func (r region) clear() {
	for y := range r.h {
		row := (r.y+y)*r.g.w + r.x
		for i := row; i < row+r.w; i++ {
			r.g.cells[i] = cell{r: ' '}
		}
	}
}

// placeholder stands for a character that must not, or cannot safely, be drawn.
const placeholder = '?'

// shape returns what is drawn for a character, and how many cells that takes.
func (g *grid) shape(c rune) (rune, int) {
	switch {
	case c >= ' ' && c < 0x7f:
		return c, 1
	case c == '\t' || c == '\n' || c == '\r' || unicode.IsSpace(c) && !harmful(c):
		return ' ', 1
	case g.ascii && !ours(c) || harmful(c):
		return placeholder, 1
	case ours(c):
		return c, 1
	}
	switch width.LookupRune(c).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		if c >= 0x1f000 { // emoji: terminals disagree about their width
			return placeholder, 1
		}
		return c, 2
	case width.EastAsianAmbiguous:
		return placeholder, 1
	}
	return c, 1
}

// ours reports whether c is one of the glyphs that the console itself draws; every terminal gives them one cell.
func ours(c rune) bool { return c >= 0x2500 && c <= 0x259f || c >= 0x2580 && c <= 0x2588 }

// harmful characters would disturb a terminal, deceive a reader, or join others into a shape of unknown width.
func harmful(c rune) bool {
	return c == utf8.RuneError || c < ' ' || c >= 0x7f && c < 0xa0 || !unicode.IsGraphic(c) || unicode.In(c, unicode.Cf, unicode.M, unicode.Zl, unicode.Zp)
}

var measure grid

// cells is how many cells put would use for s.
func cells(s string) int {
	n := 0
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			n = 0
			for _, c := range s {
				_, w := measure.shape(c)
				n += w
			}
			return n
		}
		n++
	}
	return n
}

// render writes the grid as lines for a terminal. seq gives the escape sequence for a tone, already through the
// terminal's colour profile; empty means none.
func (g *grid) render(seq *[tones][2]string) string {
	var b strings.Builder
	b.Grow(len(g.cells) + len(g.cells)/4)
	for y := range g.h {
		if y > 0 {
			b.WriteByte('\n')
		}
		row := g.cells[y*g.w : (y+1)*g.w]
		end := len(row)
		for end > 0 && row[end-1] == (cell{r: ' '}) {
			end--
		}
		open := ""
		for _, c := range row[:end] {
			if c.r == 0 {
				continue
			}
			want := seq[c.tone][0]
			if c.reverse {
				want = seq[c.tone][1]
			}
			if want != open {
				if open != "" {
					b.WriteString(sgrReset)
				}
				b.WriteString(want)
				open = want
			}
			if c.r < utf8.RuneSelf {
				b.WriteByte(byte(c.r))
			} else {
				b.WriteRune(c.r)
			}
		}
		if open != "" {
			b.WriteString(sgrReset)
		}
	}
	return b.String()
}

// sgrReset ends every style.
const sgrReset = "\x1b[0m"
