package cli

import "github.com/holdfast-ha/holdfast/console/cli/text"

// Select Graphic Rendition codes. The 16 colours follow the terminal's own theme. Good and bad differ in weight as
// well, for eyes that do not tell green from red.
var colourCodes = map[text.Tone]string{
	text.Good: "\x1b[32m", text.Busy: "\x1b[33m", text.Bad: "\x1b[1;31m", text.Dim: "\x1b[2m", text.Title: "\x1b[1m",
}

// painter colours cells, or leaves them as they are.
func painter(colours bool) func(text.Tone, string) string {
	return func(t text.Tone, s string) string {
		code := colourCodes[t]
		if !colours || code == "" || s == "" {
			return s
		}
		return code + s + "\x1b[0m"
	}
}
