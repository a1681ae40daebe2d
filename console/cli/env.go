package cli

import (
	"io"
	"strconv"
	"time"
)

// Env is the world around one run of the command line.
type Env struct {
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string
	// Now is the wall clock, for ages and times of day; its location is the one shown.
	Now func() time.Time
	// OutTerminal and ErrTerminal are nil unless that writer is a terminal; InTerminal says that somebody can
	// answer a question.
	OutTerminal, ErrTerminal *Terminal
	InTerminal               bool
	// ServerFile replaces contexts.ServerPath in tests.
	ServerFile string
	// Console becomes the terminal console with these flags; it returns only if it cannot, wrapping fs.ErrNotExist if
	// there is none. nil: there is none.
	Console func(flags []string) error
	// Version is printed by --version.
	Version string
}

// Terminal is a terminal's present size.
type Terminal struct {
	Size func() (width, height int)
}

// width returns how wide lines on Out may be; 0 means any width. The rightmost column stays empty, because a
// wrongly measured character must not wrap the line.
func (e *Env) width() int {
	if e.OutTerminal != nil {
		if w, _ := e.OutTerminal.Size(); w > 1 {
			return w - 1
		}
	}
	if w, err := strconv.Atoi(e.Getenv("COLUMNS")); err == nil && w > 20 {
		return w - 1
	}
	return 0
}

// colours reports whether Out wants colours. https://no-color.org
func (e *Env) colours() bool {
	return e.OutTerminal != nil && e.Getenv("NO_COLOR") == "" && e.Getenv("TERM") != "dumb"
}
