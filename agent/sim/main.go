package sim

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/agent/sim/scenario"
)

// Exit statuses of simulate.
const (
	ExitHeld   = 0
	ExitFailed = 1
	ExitWrong  = 2
)

const usage = `usage: holdfast-agent simulate [flags] FILE...

Plays scenario files on a simulated pool: the real agents and leader, in virtual time. A directory stands for
every *.scenario file below it. Exit status: 0 everything held, 1 something did not, 2 a file or flag is wrong.

  -v         print the time line: every event, decision and change, virtual time first
  --seed N   choose the random delays; the same seed gives the same time line (1)
  --seeds N  run N seeds, from --seed on, and report the first that fails
  --logs     with -v: what agents and guards log, too
  --json     one JSON object a file, for tools
`

// command is a parsed command line.
type command struct {
	verbose, json, logs bool
	seed                uint64
	seeds               int
	files               []string
	several             bool
	out, err            io.Writer
}

// outcome is one file's result as --json prints it.
type outcome struct {
	File    string   `json:"file"`
	Passed  bool     `json:"passed"`
	Wrong   bool     `json:"wrong,omitempty"` // the file is no scenario, and nothing was played
	Seeds   int      `json:"seeds"`
	Seed    uint64   `json:"seed"`
	Virtual float64  `json:"virtualSeconds"`
	Real    float64  `json:"realSeconds"`
	Events  uint64   `json:"events"`
	Failure *failure `json:"failure,omitempty"`
	Lines   []line   `json:"timeLine,omitempty"`
}

type failure struct {
	Line     int     `json:"line,omitempty"`
	At       float64 `json:"atSeconds"`
	Expected string  `json:"expected,omitempty"`
	Seen     string  `json:"seen,omitempty"`
	Message  string  `json:"message"`
}

type line struct {
	At   float64 `json:"atSeconds"`
	Text string  `json:"text"`
}

// Main is `holdfast-agent simulate`: args are what follows that word. It returns the exit status.
func Main(args []string, stdout, stderr io.Writer) int {
	c, err := parseArgs(args, stdout, stderr)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, usage)
		return ExitHeld
	}
	if err != nil {
		fmt.Fprintf(stderr, "simulate: %v\n", err)
		return ExitWrong
	}
	// All files are read before the first runs: a wrong one should not show up after minutes.
	var files []*scenario.File
	wrong := 0
	for _, name := range c.files {
		f, err := load(name)
		if err != nil {
			c.reportWrong(name, err)
			wrong++
			continue
		}
		files = append(files, f)
	}
	status := c.run(files, wrong)
	if wrong > 0 {
		return ExitWrong
	}
	return status
}

// reportWrong tells of a file that cannot be played.
func (c *command) reportWrong(name string, err error) {
	fmt.Fprintln(c.err, err)
	if !c.json {
		return
	}
	o := outcome{File: name, Wrong: true, Failure: &failure{Message: err.Error()}}
	var e *scenario.Error
	if errors.As(err, &e) {
		o.Failure.Line = e.Line
	}
	c.report(o)
}

func parseArgs(args []string, stdout, stderr io.Writer) (*command, error) {
	c := &command{out: stdout, err: stderr}
	fs := flag.NewFlagSet("simulate", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.BoolVar(&c.verbose, "v", false, "")
	fs.BoolVar(&c.json, "json", false, "")
	fs.BoolVar(&c.logs, "logs", false, "")
	fs.Uint64Var(&c.seed, "seed", 1, "")
	fs.IntVar(&c.seeds, "seeds", 1, "")
	var names []string
	for len(args) > 0 {
		if err := fs.Parse(args); err != nil {
			return nil, err
		}
		if fs.NArg() == 0 {
			break
		}
		names = append(names, fs.Arg(0)) // flags may follow files
		args = fs.Args()[1:]
	}
	switch {
	case len(names) == 0:
		return nil, errors.New("no file given; see holdfast-agent simulate --help")
	case c.seeds < 1:
		return nil, fmt.Errorf("--seeds %d: must be at least 1", c.seeds)
	}
	var err error
	c.files, c.several, err = expand(names)
	return c, err
}

// expand replaces directories by the scenarios below them; several reports whether a closing count is wanted.
func expand(names []string) (files []string, several bool, err error) {
	for _, n := range names {
		info, err := os.Stat(n)
		if err != nil {
			return nil, false, err
		}
		if !info.IsDir() {
			files = append(files, n)
			continue
		}
		several = true
		var below []string
		err = filepath.WalkDir(n, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && strings.HasSuffix(path, ".scenario") {
				below = append(below, path)
			}
			return err
		})
		if err != nil {
			return nil, false, err
		}
		if len(below) == 0 {
			return nil, false, fmt.Errorf("%s: no *.scenario file below it", n)
		}
		slices.Sort(below)
		files = append(files, below...)
	}
	return files, several || len(files) > 1, nil
}

func load(name string) (*scenario.File, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return scenario.Parse(name, string(text))
}

// run plays all files and closes with a count where there are several; those that are wrong count as failed.
func (c *command) run(files []*scenario.File, wrong int) int {
	passed, failed := 0, wrong
	for _, f := range files {
		o := c.play(f)
		if o.Passed {
			passed++
		} else {
			failed++
		}
		c.report(o)
	}
	if c.several && !c.json {
		fmt.Fprintf(c.out, "%d passed, %d failed\n", passed, failed)
	}
	if failed > 0 {
		return ExitFailed
	}
	return ExitHeld
}

// play runs one file with all seeds, up to the first that fails.
func (c *command) play(f *scenario.File) outcome {
	o := outcome{File: f.Name, Passed: true}
	began := time.Now() //nolint:forbidigo // measures the simulator itself, for its report
	for i := range c.seeds {
		seed := c.seed + uint64(i)
		o.Lines = nil
		r := Run(f, Options{Seed: seed, Sink: c.sink(&o), Logs: c.logs})
		o.Seeds, o.Seed = i+1, seed
		o.Virtual += r.Virtual.Seconds()
		o.Events += r.Events
		if r.Err != nil {
			o.Passed = false
			o.Failure = describe(r.Err)
			break
		}
	}
	o.Real = time.Since(began).Seconds() //nolint:forbidigo // as above
	return o
}

func describe(err error) *failure {
	out := &failure{Message: err.Error()}
	var f *Failure
	if errors.As(err, &f) {
		out.Line, out.At, out.Expected, out.Seen = f.Line, f.At.Seconds(), f.Expected, f.Seen
	}
	return out
}

// sink is where the time line goes.
func (c *command) sink(o *outcome) func(Line) {
	switch {
	case !c.verbose:
		return nil
	case c.json:
		return func(l Line) { o.Lines = append(o.Lines, line{l.At.Seconds(), l.Text}) }
	}
	return func(l Line) { fmt.Fprintln(c.out, l) }
}

func (c *command) report(o outcome) {
	if c.json {
		b, err := json.Marshal(o)
		if err == nil {
			fmt.Fprintf(c.out, "%s\n", b)
		}
		return
	}
	seeds := ""
	if c.seeds > 1 {
		seeds = fmt.Sprintf(", %d seeds", o.Seeds)
	}
	if o.Passed {
		fmt.Fprintf(c.out, "ok    %s (%.0f s of pool life%s)\n", o.File, o.Virtual, seeds)
		return
	}
	if c.seeds > 1 {
		seeds = fmt.Sprintf(", seed %d", o.Seed)
	}
	fmt.Fprintf(c.out, "FAIL  %s%s\n      %s\n", o.File, seeds, o.Failure.Message)
}
