package terminal

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Story is a list of steps for a console on a demo pool: what documentation's pictures are taken from. One step a line:
//
//	scenario FILE        the pool, beside the story
//	size WIDTH HEIGHT    the terminal
//	env NAME=VALUE       for the console, before it starts
//	press KEY...         keys by name, or what they type
//	type TEXT            a text as it is
//	wait TEXT            until the screen shows it
//	gone TEXT            until the screen does not show it any more
//	row NAME TEXT        until the line of NAME shows it, blanks apart
//	tell STATEMENT       in the words of the scenario language
//	frame NAME           keep the screen as text
//	picture NAME         keep the screen as SVG and PNG
type Story struct {
	dir   string
	steps []step
}

type step struct {
	line       int
	verb, rest string
}

// ReadStory reads a story file.
func ReadStory(path string) (*Story, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	s := &Story{dir: filepath.Dir(path)}
	in := bufio.NewScanner(f)
	for n := 1; in.Scan(); n++ {
		line := strings.TrimSpace(in.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		verb, rest, _ := strings.Cut(line, " ")
		s.steps = append(s.steps, step{n, verb, strings.TrimSpace(rest)})
	}
	return s, in.Err()
}

// Names lists what the story keeps by that verb: frame or picture.
func (s *Story) Names(verb string) []string {
	var out []string
	for _, st := range s.steps {
		if st.verb == verb {
			out = append(out, st.rest)
		}
	}
	return out
}

// Kept is what a story keeps.
type Kept struct {
	Name    string
	Text    string
	Picture Picture
	// Drawn says that a picture was asked for, rather than text.
	Drawn bool
}

// stepLimit bounds one step.
const stepLimit = 60 * time.Second

// Play plays a story with the console at program and hands on what it keeps.
func (s *Story) Play(ctx context.Context, program string, keep func(Kept) error) error {
	p := &player{story: s, program: program, keep: keep, width: 80, height: 24}
	defer p.close()
	for _, st := range s.steps {
		step, cancel := context.WithTimeout(ctx, stepLimit)
		err := p.do(ctx, step, st)
		cancel()
		if err != nil {
			return fmt.Errorf("line %d, %s %s: %w", st.line, st.verb, st.rest, err)
		}
	}
	return nil
}

type player struct {
	story         *Story
	program       string
	keep          func(Kept) error
	scenario      string
	env           []string
	width, height int
	demo          *Demo
	term          *Terminal
	temp          string
}

func (p *player) close() {
	if p.term != nil {
		p.term.Close()
	}
	if p.demo != nil {
		_ = p.demo.Close() // the story is over
	}
	_ = os.RemoveAll(p.temp)
}

// begin starts the pool and the console, at the first step that needs them.
func (p *player) begin(ctx context.Context) (err error) {
	if p.term != nil {
		return nil
	}
	if p.temp, err = os.MkdirTemp("", "holdfast-story-"); err != nil {
		return err
	}
	if p.demo, err = StartDemo(ctx, p.temp, p.scenario); err != nil {
		return err
	}
	p.term, err = Start(ctx, p.width, p.height, p.env, p.program, "--agents", p.demo.Address())
	return err
}

// do carries out one step; life is the console's, ctx the step's.
func (p *player) do(life, ctx context.Context, st step) error {
	switch st.verb {
	case "scenario":
		p.scenario = filepath.Join(p.story.dir, st.rest)
		return nil
	case "env":
		p.env = append(p.env, st.rest)
		return nil
	case "size":
		return p.size(st.rest)
	}
	if err := p.begin(life); err != nil {
		return err
	}
	switch st.verb {
	case "press":
		return p.term.Press(strings.Fields(st.rest)...)
	case "type":
		return p.term.Press(st.rest)
	case "wait":
		return p.term.Shows(ctx, st.rest)
	case "gone":
		return p.term.WaitFor(ctx, "the end of "+st.rest, func(s string) bool { return !strings.Contains(s, st.rest) })
	case "row":
		name, want, ok := strings.Cut(st.rest, " ")
		if !ok {
			return fmt.Errorf("row NAME TEXT")
		}
		return p.term.WaitFor(ctx, st.rest, func(s string) bool {
			for line := range strings.SplitSeq(s, "\n") {
				if strings.Contains(line, " "+name+" ") && strings.Contains(strings.Join(strings.Fields(line), " "), want) {
					return true
				}
			}
			return false
		})
	case "tell":
		return p.demo.Tell(st.rest)
	case "frame":
		return p.keep(Kept{Name: st.rest, Text: p.term.Screen()})
	case "picture":
		return p.keep(Kept{Name: st.rest, Picture: p.term.Picture(), Drawn: true})
	}
	return fmt.Errorf("no such step")
}

func (p *player) size(rest string) error {
	f := strings.Fields(rest)
	if len(f) != 2 {
		return fmt.Errorf("size WIDTH HEIGHT")
	}
	w, err := strconv.Atoi(f[0])
	if err != nil {
		return err
	}
	h, err := strconv.Atoi(f[1])
	if err != nil {
		return err
	}
	p.width, p.height = w, h
	if p.term != nil {
		return p.term.Resize(w, h)
	}
	return nil
}

// ReplaceFrame puts a frame into a document: between the line "<!-- frame NAME -->" and the end of the text block
// behind it.
func ReplaceFrame(document, name, frame string) (string, error) {
	mark := "<!-- frame " + name + " -->\n```text\n"
	i := strings.Index(document, mark)
	if i < 0 {
		return "", fmt.Errorf("the document has no place for the frame %s", name)
	}
	i += len(mark)
	end := strings.Index(document[i:], "```")
	if end < 0 {
		return "", fmt.Errorf("the frame %s has no end", name)
	}
	return document[:i] + frame + "\n" + document[i+end:], nil
}
