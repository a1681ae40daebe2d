package text

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/width"
)

// Harmful reports whether a character could disturb a terminal or deceive a reader: control characters (escape
// among them), characters that change the direction of text, and others without a shape of their own.
func Harmful(r rune) bool {
	return r == utf8.RuneError || !unicode.IsGraphic(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029'
}

// Clean makes one harmless line of s: line ends and tabs become spaces, harmful characters a question mark.
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case Harmful(r):
			return '?'
		case unicode.IsSpace(r):
			return ' '
		}
		return r
	}, s)
}

// Width returns how many cells a cleaned line takes on a terminal.
func Width(s string) int {
	n := 0
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

func runeWidth(r rune) int {
	if r < 0x80 {
		return 1
	}
	if unicode.In(r, unicode.Mn, unicode.Me) {
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// Cut shortens s to w cells and marks the cut with two dots.
func Cut(s string, w int) string {
	if Width(s) <= w {
		return s
	}
	mark := ".."
	if w < len(mark) {
		mark = mark[:max(w, 0)]
	}
	n := len(mark)
	for i, r := range s {
		if n += runeWidth(r); n > w {
			return s[:i] + mark
		}
	}
	return s
}

// Pad fills s with spaces to w cells, at the left if right is set.
func Pad(s string, w int, right bool) string {
	gap := strings.Repeat(" ", max(w-Width(s), 0))
	if right {
		return gap + s
	}
	return s + gap
}

// Wrap breaks a cleaned sentence into lines of at most w cells, between words where it can. w 0 means one line.
func Wrap(s string, w int) []string {
	if w <= 0 || Width(s) <= w {
		return []string{s}
	}
	var lines []string
	line := ""
	for _, word := range strings.Fields(s) {
		for Width(word) > w {
			head, rest := split(word, w)
			if line != "" {
				lines, line = append(lines, line), ""
			}
			lines, word = append(lines, head), rest
		}
		switch {
		case line == "":
			line = word
		case Width(line)+1+Width(word) <= w:
			line += " " + word
		default:
			lines, line = append(lines, line), word
		}
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}

// split takes at least one character and at most w cells off the front.
func split(s string, w int) (head, rest string) {
	n := 0
	for i, r := range s {
		if n += runeWidth(r); n > w && i > 0 {
			return s[:i], s[i:]
		}
	}
	return s, ""
}
