package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/muesli/termenv"
	"golang.org/x/term"

	"github.com/holdfast-ha/holdfast/console/contexts"
	"github.com/holdfast-ha/holdfast/console/ui"
	"github.com/holdfast-ha/holdfast/pkg/version"
)

// Exit codes, as those of the command line.
const (
	exitOK      = 0
	exitUsage   = 2
	exitCrashed = 70
)

func main() {
	p := program{
		args: os.Args[1:], in: os.Stdin, out: os.Stdout, err: os.Stderr, getenv: os.Getenv, now: time.Now,
		terminal: func() bool { return isTerminal(os.Stdin) && isTerminal(os.Stdout) },
	}
	settle(os.Getenv)
	os.Exit(p.run())
}

// settle makes the runtime quiet, unless the environment says otherwise. The program mostly waits: more threads than
// one would only wake each other up, which costs more than the work itself. Memory is collected less often: what is held
// is a few megabytes.
func settle(getenv func(string) string) {
	if getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(1)
	}
	if getenv("GOGC") == "" {
		debug.SetGCPercent(200)
	}
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) } //nolint:gosec // a file descriptor is small

// program is one run of the console.
type program struct {
	args     []string
	in       io.Reader
	out, err io.Writer
	getenv   func(string) string
	now      func() time.Time
	terminal func() bool
}

// options are the flags.
type options struct {
	wish      contexts.Wish
	readOnly  bool
	look      ui.Look
	plain     bool
	version   bool
	crashFile string
}

func (p program) flags() (options, error) {
	o := options{wish: contexts.Wish{Getenv: p.getenv}}
	fs := flag.NewFlagSet("holdfast-console", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&o.wish.Agents, "agents", "", "agents to talk to, `host:port,...`; any one of the pool will do (HOLDFAST_AGENTS)")
	fs.StringVar(&o.wish.Context, "context", "", "`name` of a context of the configuration file (HOLDFAST_CONTEXT)")
	fs.StringVar(&o.wish.File, "config", "", "configuration `file` instead of ~/.config/holdfast/config.yaml")
	fs.BoolVar(&o.readOnly, "read-only", false, "send nothing that changes anything")
	fs.StringVar(&o.look.Theme, "theme", dashIf(p.getenv("HOLDFAST_THEME"), "default"), "`name`: "+strings.Join(ui.ThemeNames(), ", ")+" (HOLDFAST_THEME)")
	fs.BoolVar(&o.look.Light, "light", p.getenv("HOLDFAST_BACKGROUND") == "light", "the terminal's background is light (HOLDFAST_BACKGROUND=light)")
	fs.BoolVar(&o.look.ASCII, "ascii", !utf8Locale(p.getenv), "draw with plain characters only")
	fs.BoolVar(&o.plain, "plain", p.getenv("ACCESSIBLE") != "", "no full screen: a line for each change, numbered choices (ACCESSIBLE=1)")
	fs.BoolVar(&o.version, "version", false, "print the version")
	err := fs.Parse(p.args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(p.out, "holdfast-console: the terminal console of a Holdfast pool. ? in it shows the keys.\n\nFlags:")
		fs.SetOutput(p.out)
		fs.PrintDefaults()
		return o, err
	}
	if err == nil && fs.NArg() > 0 {
		err = fmt.Errorf("%q: it takes flags only; commands are those of holdfast", fs.Arg(0))
	}
	if err == nil {
		err = ui.CheckTheme(o.look.Theme)
	}
	o.look.Profile = profile(p.getenv)
	o.crashFile = crashFile(p.getenv)
	return o, err
}

func dashIf(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// utf8Locale reports whether the terminal's user reads UTF-8.
func utf8Locale(getenv func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToLower(getenv(name)); v != "" {
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}

// profile is what the terminal can show, by its environment alone: nothing is asked of it.
func profile(getenv func(string) string) termenv.Profile {
	if getenv("NO_COLOR") != "" || getenv("TERM") == "dumb" {
		return termenv.Ascii
	}
	p := termenv.NewOutput(os.Stdout, termenv.WithEnvironment(environ(getenv)), termenv.WithTTY(true)).EnvColorProfile()
	if p == termenv.Ascii {
		return termenv.ANSI
	}
	return p
}

// environ gives termenv our environment.
type environ func(string) string

// Environ is not used for finding a colour profile.
func (environ) Environ() []string          { return nil }
func (e environ) Getenv(key string) string { return e(key) }

func (p program) run() int {
	o, err := p.flags()
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		return p.fail(err)
	case o.version:
		fmt.Fprintln(p.out, "holdfast-console", version.String())
		return exitOK
	}
	if !o.plain && !p.terminal() {
		return p.fail(errors.New("this needs a terminal; for scripts there is: holdfast status -o json"))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	opener := &opener{ctx: ctx, wish: o.wish, readOnly: o.readOnly}
	session, pool, err := opener.open("")
	if err != nil {
		return p.fail(err)
	}
	model := ui.New(ui.Options{
		Ports: ui.Ports{Now: p.now, Contexts: opener.names, Open: opener.open, Copy: p.copy, RequestID: requestID},
		Look:  o.look, Session: session, Pool: pool, Width: 80, Height: 24, Start: p.now(),
	})
	if o.plain {
		return p.plain(ctx, model, session)
	}
	return p.screen(ctx, model, o.crashFile)
}

func (p program) fail(err error) int {
	fmt.Fprintln(p.err, "holdfast-console:", err)
	return exitUsage
}

// screen runs the console on the whole terminal, and restores the terminal whatever happens.
func (p program) screen(ctx context.Context, m *ui.Model, crashFile string) int {
	c := &crash{file: crashFile}
	// Signals end ctx. The library's own handler beside that would wait for a loop that has ended already.
	_, err := tea.NewProgram(guarded{ui.Program{Model: m}, c}, tea.WithContext(ctx), tea.WithoutSignalHandler(), tea.WithAltScreen(), tea.WithFPS(30),
		tea.WithInput(p.in), tea.WithOutput(p.out)).Run()
	if c.happened() {
		fmt.Fprintln(p.err, c.notice())
		return exitCrashed
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, tea.ErrInterrupted) {
		return p.fail(err)
	}
	if s := m.Farewell(); s != "" {
		fmt.Fprintln(p.out, s)
	}
	return exitOK
}
