package ui

import (
	"unicode/utf8"
)

// input is one line that is being typed.
type input struct {
	text []rune
	at   int
}

const inputLimit = 500

func (in *input) String() string { return string(in.text) }

func (in *input) set(s string) {
	in.text = []rune(s)
	in.at = len(in.text)
}

// key edits the line; false if the key is none of its own.
func (in *input) key(k Key) bool {
	switch k.Name {
	case "left", "ctrl+b":
		in.at = max(in.at-1, 0)
	case "right", "ctrl+f":
		in.at = min(in.at+1, len(in.text))
	case "home", "ctrl+a":
		in.at = 0
	case "end", "ctrl+e":
		in.at = len(in.text)
	case "backspace":
		if in.at > 0 {
			in.text = append(in.text[:in.at-1:in.at-1], in.text[in.at:]...)
			in.at--
		}
	case "delete":
		if in.at < len(in.text) {
			in.text = append(in.text[:in.at:in.at], in.text[in.at+1:]...)
		}
	case "ctrl+u":
		in.text, in.at = in.text[in.at:], 0
	case "ctrl+w":
		from := in.at
		for in.at > 0 && in.text[in.at-1] == ' ' {
			in.at--
		}
		for in.at > 0 && in.text[in.at-1] != ' ' {
			in.at--
		}
		in.text = append(in.text[:in.at:in.at], in.text[from:]...)
	default:
		return in.insert(k.Text)
	}
	return true
}

// insert types text at the cursor; harmful characters are left out.
func (in *input) insert(s string) bool {
	if s == "" || !utf8.ValidString(s) {
		return false
	}
	var clean []rune
	for _, c := range s {
		if !harmful(c) && len(in.text)+len(clean) < inputLimit {
			clean = append(clean, c)
		}
	}
	rest := append([]rune{}, in.text[in.at:]...)
	in.text = append(append(in.text[:in.at:in.at], clean...), rest...)
	in.at += len(clean)
	return true
}

// draw shows the line with its cursor in w cells, scrolled so that the cursor is visible.
func (in *input) draw(r region, x, y, w int, focused bool) {
	if w < 3 {
		return
	}
	from := max(in.at-w+2, 0)
	end := r.sub(x, y, w, 1).put(0, 0, plain, string(in.text[from:]))
	if focused {
		at := min(cells(string(in.text[from:in.at])), w-1)
		cursor := r.sub(x+at, y, 1, 1)
		if at >= end {
			cursor.put(0, 0, plain, "_")
		}
		cursor.highlight(0)
	}
}
