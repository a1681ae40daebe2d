package main

import (
	"fmt"
	"io"
	"sort"
	"strings"
)

// totals counts tests and subtests over all runs, each once: a test that
// failed anywhere failed, one that passed anywhere else passed.
type totals struct {
	passed, failed, skipped int
	failures, skips         []string
}

func count(runs []*run) totals {
	worst := map[testKey]state{}
	reason := map[testKey]string{}
	var t totals
	for _, r := range runs {
		for key, s := range r.tests {
			if old, ok := worst[key]; !ok || rank(s) > rank(old) {
				worst[key] = s
				reason[key] = r.reasons[key]
			}
		}
		for pkg, s := range r.packages {
			if s == stateFailed && !r.hasFailedTest(pkg) {
				t.failed++
				t.failures = append(t.failures, pkg+" (does not build, or died)")
			}
		}
	}
	for key, s := range worst {
		name := key.pkg + "." + key.name
		switch s {
		case statePassed:
			t.passed++
		case stateSkipped:
			t.skipped++
			t.skips = append(t.skips, name+": "+reason[key])
		default:
			t.failed++
			t.failures = append(t.failures, name+" ("+string(s)+")")
		}
	}
	sort.Strings(t.failures)
	sort.Strings(t.skips)
	return t
}

func rank(s state) int {
	return map[state]int{stateSkipped: 1, statePassed: 2, stateRunning: 3, stateFailed: 4}[s]
}

func (r *run) hasFailedTest(pkg string) bool {
	for key, s := range r.tests {
		if key.pkg == pkg && (s == stateFailed || s == stateRunning) {
			return true
		}
	}
	return false
}

// report prints everything that a reader of the last screen needs, the plain
// counts last, and returns the number of failures: tests, packages, parts that
// failed for another reason, bad lines of the table, and unmet rows.
func report(w io.Writer, o outcome, bad []error, runs []*run, parts []part) int {
	t := count(runs)
	fmt.Fprintf(w, "\n== Summary\n")
	list(w, "failed tests", t.failures)
	list(w, "skipped tests", t.skips)
	failed := t.failed
	for _, p := range parts {
		fmt.Fprintf(w, "%-13s %s  %s\n", p.name, p.state, p.note)
		if p.state == stateFailed && !recordsFailure(runs, p.name) {
			failed++
		}
	}
	for _, err := range bad {
		fmt.Fprintf(w, "docs/requirements.tsv: %v\n", err)
	}
	for _, f := range o.unmet {
		fmt.Fprintf(w, "NOT SHOWN: %s\n", f)
	}
	if len(o.notChecked) > 0 {
		fmt.Fprintf(w, "NOT CHECKED, because the lab did not run (as root on Debian: make lab-test):\n")
		for _, f := range o.notChecked {
			fmt.Fprintf(w, "  %s\n", f)
		}
	}
	if len(o.noRow) > 0 {
		fmt.Fprintf(w, "no row yet: %s\n", strings.Join(o.noRow, " "))
	}
	failed += len(bad) + len(o.unmet)
	fmt.Fprintf(w, "requirements: %d rows, %d checks not shown, %d not checked, %d items without a row\n",
		o.rows, len(o.unmet), len(o.notChecked), len(o.noRow))
	fmt.Fprintf(w, "total: %d passed, %d failed, %d skipped\n", t.passed, failed, t.skipped)
	return failed
}

// recordsFailure says whether a stream of the part (NAME.json, NAME-MORE.json)
// already counts a failure.
func recordsFailure(runs []*run, name string) bool {
	for _, r := range runs {
		if (r.name == name || strings.HasPrefix(r.name, name+"-")) && count([]*run{r}).failed > 0 {
			return true
		}
	}
	return false
}

func list(w io.Writer, title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(w, "%s:\n", title)
	for _, line := range lines {
		fmt.Fprintf(w, "  %s\n", line)
	}
}
