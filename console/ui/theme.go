package ui

import (
	"fmt"
	"io"
	"strings"

	"github.com/charmbracelet/lipgloss"
	"github.com/muesli/termenv"
)

// Look is how the console is drawn on this terminal.
type Look struct {
	// Theme is one of ThemeNames.
	Theme string
	// Profile is what the terminal can show. termenv.Ascii has no colours and no attributes (NO_COLOR).
	Profile termenv.Profile
	// Light says that the background is light. It is never asked of the terminal.
	Light bool
	// ASCII draws with plain characters only.
	ASCII bool
}

// ThemeNames are the themes there are. None of them lets red and green alone tell anything apart: states are words.
func ThemeNames() []string { return []string{"default", "high-contrast", "colour-blind", "mono"} }

// palette is one colour for each tone on a dark and on a light background, as 256-colour numbers; empty: the
// terminal's own. lipgloss reduces them to 16 colours where that is all there is.
type palette struct {
	dark, light [tones]string
	bold        [tones]bool
}

var palettes = map[string]palette{
	"default": {
		dark:  [tones]string{dim: "245", good: "78", busy: "81", bad: "203", title: "255", accent: "117", alarm: "231", label: "231", bar: "110"},
		light: [tones]string{dim: "243", good: "28", busy: "25", bad: "160", title: "16", accent: "26", alarm: "231", label: "231", bar: "24"},
		bold:  [tones]bool{title: true, bad: true, alarm: true, label: true},
	},
	"high-contrast": {
		dark:  [tones]string{dim: "252", good: "46", busy: "51", bad: "226", title: "231", accent: "51", alarm: "231", label: "231", bar: "231"},
		light: [tones]string{dim: "238", good: "22", busy: "18", bad: "88", title: "16", accent: "18", alarm: "231", label: "231", bar: "16"},
		bold:  [tones]bool{title: true, good: true, busy: true, bad: true, accent: true, alarm: true, label: true},
	},
	// Blue and orange are told apart by all common kinds of colour blindness (Okabe and Ito, 2008).
	"colour-blind": {
		dark:  [tones]string{dim: "245", good: "75", busy: "117", bad: "214", title: "255", accent: "117", alarm: "16", label: "16", bar: "75"},
		light: [tones]string{dim: "243", good: "25", busy: "31", bad: "166", title: "16", accent: "25", alarm: "231", label: "231", bar: "25"},
		bold:  [tones]bool{title: true, bad: true, alarm: true, label: true},
	},
	"mono": {bold: [tones]bool{title: true, bad: true, alarm: true, label: true}},
}

// backgrounds of the tones that have one.
var backgrounds = map[string][tones]string{
	"default":       {alarm: "160", label: "124"},
	"high-contrast": {alarm: "196", label: "196"},
	"colour-blind":  {alarm: "214", label: "214"},
}

// sequences makes the escape sequences of a look, once: what opens each tone, plain and reversed.
func sequences(l Look) [tones][2]string {
	p, ok := palettes[l.Theme]
	if !ok {
		p = palettes["default"]
	}
	r := lipgloss.NewRenderer(io.Discard)
	r.SetColorProfile(l.Profile)
	r.SetHasDarkBackground(!l.Light)
	colours := p.dark
	if l.Light {
		colours = p.light
	}
	var out [tones][2]string
	for t := range tones {
		s := r.NewStyle().Bold(p.bold[t])
		if colours[t] != "" {
			s = s.Foreground(lipgloss.Color(colours[t]))
		}
		if bg := backgrounds[l.Theme][t]; bg != "" {
			s = s.Background(lipgloss.Color(bg))
		} else if t == alarm || t == label {
			s = s.Reverse(true)
		}
		if t == dim && colours[t] == "" {
			s = s.Faint(true)
		}
		out[t] = [2]string{opening(s), opening(s.Reverse(t != alarm && t != label || backgrounds[l.Theme][t] != ""))}
	}
	return out
}

// opening is what a style writes before text.
func opening(s lipgloss.Style) string {
	before, _, _ := strings.Cut(s.Render("x"), "x")
	return before
}

// CheckTheme fails for a theme that does not exist, naming those there are.
func CheckTheme(name string) error {
	if _, ok := palettes[name]; !ok {
		return fmt.Errorf("no theme %q; there are %s", name, strings.Join(ThemeNames(), ", "))
	}
	return nil
}

// glyphs are the console's own characters.
type glyphs struct {
	full, empty, over     string
	vertical, horizontal  string
	cornerTL, cornerTR    string
	cornerBL, cornerBR    string
	cursor, mark, leader  string
	live, delayed, halted string
	// sparks are heights, from nothing to all.
	sparks []string
}

func glyphsOf(l Look) glyphs {
	g := glyphs{
		full: "#", empty: "-", over: "!", vertical: "|", horizontal: "-", cornerTL: "+", cornerTR: "+", cornerBL: "+", cornerBR: "+",
		cursor: ">", mark: "+", leader: "*", live: "*", delayed: "~", halted: "!",
		sparks: []string{".", "-", "=", "+", "*", "#"},
	}
	if !l.ASCII {
		g.sparks = []string{"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"}
		g.full, g.empty, g.vertical, g.horizontal = "█", "░", "│", "─"
		g.cornerTL, g.cornerTR, g.cornerBL, g.cornerBR = "┌", "┐", "└", "┘"
	}
	return g
}

// gauge is a bar of n cells inside brackets, such as [######----].
func (g glyphs) gauge(part, whole int64, n int) string {
	if n <= 0 {
		return ""
	}
	k, last := 0, ""
	if whole > 0 {
		k = int(min(max(part*int64(n)/whole, 0), int64(n)))
		if part > 0 && k == 0 {
			k = 1
		}
		if part > whole {
			k, last = n-1, g.over
		}
	}
	return "[" + strings.Repeat(g.full, k) + last + strings.Repeat(g.empty, n-k-len(last)) + "]"
}
