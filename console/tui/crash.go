package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"

	tea "github.com/charmbracelet/bubbletea"

	"github.com/holdfast-ha/holdfast/console/ui"
)

// crash remembers a panic of the console and writes it to a file, so that the terminal is left as it was found.
type crash struct {
	file string

	mu   sync.Mutex
	what string
	err  error
}

func (c *crash) record(what any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.what != "" {
		return
	}
	c.what = fmt.Sprint(what)
	c.err = os.WriteFile(c.file, []byte(fmt.Sprintf("holdfast-console: %v\n\n%s", what, debug.Stack())), 0o600)
}

func (c *crash) happened() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.what != ""
}

func (c *crash) notice() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return fmt.Sprintf("holdfast-console ended by a fault of its own: %s (and could not write it down: %v). The pool is not concerned.", c.what, c.err)
	}
	return "holdfast-console ended by a fault of its own, which is written down in " + c.file + ". The pool is not concerned."
}

func crashFile(getenv func(string) string) string {
	dir := getenv("XDG_STATE_HOME")
	if dir == "" {
		dir = os.TempDir()
	}
	return filepath.Join(dir, fmt.Sprintf("holdfast-console-crash-%d.txt", os.Getpid()))
}

// guarded is a program whose panics end it in order.
type guarded struct {
	inner ui.Program
	crash *crash
}

// Init begins the program.
func (g guarded) Init() tea.Cmd { return g.inner.Init() }

// Update passes a message on; a panic becomes the end of the program.
func (g guarded) Update(msg tea.Msg) (m tea.Model, cmd tea.Cmd) {
	defer func() {
		if r := recover(); r != nil {
			g.crash.record(r)
			m, cmd = g, tea.Quit
		}
	}()
	_, cmd = g.inner.Update(msg)
	return g, cmd
}

// View draws the screen; after a panic nothing.
func (g guarded) View() (s string) {
	defer func() {
		if r := recover(); r != nil {
			g.crash.record(r)
			s = "a fault of the console: press any key"
		}
	}()
	return g.inner.View()
}
