package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// state is how something ended.
type state string

const (
	statePassed  state = "passed"
	stateFailed  state = "failed"
	stateSkipped state = "skipped"
	stateRunning state = "unfinished" // begun, and the stream ended
)

// testKey names a test or subtest of a package by its import path.
type testKey struct {
	pkg, name string
}

// part is one step of `make test`, as the Makefile noted it.
type part struct {
	name  string
	state state
	note  string
}

// run is one recorded stream of `go test -json`.
type run struct {
	name     string // file name without .json
	tests    map[testKey]state
	packages map[string]state // packages that failed as a whole, or had no tests
	reasons  map[testKey]string
}

// event is the part of test2json's output that matters here.
// Source: `go doc test2json`, `go help buildjson`.
type event struct {
	Action      string
	Package     string
	ImportPath  string
	Test        string
	Output      string
	FailedBuild string
}

// readRun reads one stream. Lines that are no JSON are passed over: a crashed
// test binary may write anything. A test that began and did not end is
// unfinished.
func readRun(name string, r io.Reader) (*run, error) {
	out := &run{name: name, tests: map[testKey]state{}, packages: map[string]state{}, reasons: map[testKey]string{}}
	b := bufio.NewReader(r)
	for {
		line, err := b.ReadBytes('\n')
		var e event
		if len(line) > 0 && line[0] == '{' && json.Unmarshal(line, &e) == nil {
			out.add(e)
		}
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read results of %s: %w", name, err)
		}
	}
}

func (r *run) add(e event) {
	if e.Package == "" {
		return // build output; the package's own fail event follows
	}
	key := testKey{e.Package, e.Test}
	ended := map[string]state{"pass": statePassed, "fail": stateFailed, "skip": stateSkipped}
	switch s, ok := ended[e.Action]; {
	case ok && e.Test != "":
		r.tests[key] = s
	case ok:
		r.packages[e.Package] = s
	case e.Action == "run":
		r.tests[key] = stateRunning
	case e.Action == "output" && e.Test != "":
		// The reason of a skip is the last line before its verdict.
		if text := strings.TrimSpace(e.Output); text != "" && !strings.HasPrefix(text, "---") && !strings.HasPrefix(text, "===") {
			r.reasons[key] = text
		}
	}
}

// verdict says how the named test ended in this run: passed only if none of
// its subtests was skipped. The second result is false if it did not run.
func (r *run) verdict(key testKey) (state, bool) {
	s, ok := r.tests[key]
	if !ok || s != statePassed {
		return s, ok
	}
	for sub, subState := range r.tests {
		if sub.pkg == key.pkg && strings.HasPrefix(sub.name, key.name+"/") && subState == stateSkipped {
			return stateSkipped, true
		}
	}
	return statePassed, true
}

// readResults reads every NAME.json and parts.tsv of the folder, sorted by
// name. A missing parts.tsv means no parts.
func readResults(dir string) ([]*run, []part, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, nil, fmt.Errorf("list results: %w", err)
	}
	sort.Strings(files)
	var runs []*run
	for _, file := range files {
		r, err := readRunFile(file)
		if err != nil {
			return nil, nil, err
		}
		runs = append(runs, r)
	}
	data, err := os.ReadFile(filepath.Join(dir, "parts.tsv"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("read parts: %w", err)
	}
	parts, err := parseParts(string(data))
	return runs, parts, err
}

func readRunFile(file string) (_ *run, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("open results: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return readRun(strings.TrimSuffix(filepath.Base(file), ".json"), f)
}

func parseParts(text string) ([]part, error) {
	var parts []part
	for line := range strings.Lines(text) {
		fields := strings.SplitN(strings.TrimRight(line, "\n"), "\t", 3)
		if len(fields) != 3 {
			return nil, fmt.Errorf("parts.tsv: %q: want part, state, note", line)
		}
		p := part{name: fields[0], state: state(fields[1]), note: fields[2]}
		if p.state != statePassed && p.state != stateFailed && p.state != stateSkipped {
			return nil, fmt.Errorf("parts.tsv: %s: state %q", p.name, p.state)
		}
		parts = append(parts, p)
	}
	return parts, nil
}
