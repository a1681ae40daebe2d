package main

import (
	"fmt"
	"strings"
)

// finding is one row that is not shown, and why.
type finding struct {
	row   row
	check check
	why   string
}

// String returns the finding as one line.
func (f finding) String() string {
	return fmt.Sprintf("%-4s %s: %s", f.row.id, f.check, f.why)
}

// outcome is the comparison of the table with the runs.
type outcome struct {
	rows       int
	unmet      []finding // demanded and not shown
	notChecked []finding // lab tests while the lab did not run
	noRow      []string  // items without a row
}

// compare checks every row against the tree and the recorded runs.
func compare(rows []row, src *source, runs []*run) (outcome, error) {
	out := outcome{rows: len(rows)}
	labRan := false
	for _, r := range runs {
		labRan = labRan || r.name == "lab"
	}
	covered := map[string]bool{}
	for _, r := range rows {
		covered[r.item()] = true
		for _, c := range r.checks {
			why, lab, err := examine(c, src, runs)
			if err != nil {
				return out, fmt.Errorf("check %s of %s: %w", c, r.id, err)
			}
			switch f := (finding{r, c, why}); {
			case why == "":
			case lab && !labRan && (why == notRun || strings.HasPrefix(why, wasSkipped)):
				out.notChecked = append(out.notChecked, f)
			default:
				out.unmet = append(out.unmet, f)
			}
		}
	}
	for _, item := range knownItems() {
		if !covered[item] {
			out.noRow = append(out.noRow, item)
		}
	}
	return out, nil
}

// Reasons that are excused for lab tests when the lab did not run.
const (
	notRun     = "did not run"
	wasSkipped = "was skipped"
)

// examine returns "" if the check is shown, else the reason, and whether it is
// a lab test.
func examine(c check, src *source, runs []*run) (why string, lab bool, err error) {
	switch c.kind {
	case kindCommand:
		ok, err := src.hasCommand(c.name)
		if err == nil && !ok {
			why = "no such command"
		}
		return why, false, err
	case kindBench:
		ok, err := src.hasFunc(c.pkg, c.name)
		if err == nil && !ok {
			why = "no such benchmark"
		}
		return why, false, err
	}
	folder := c.pkg
	if c.kind == kindLabTest {
		if folder, err = src.labFolder(c.name); err != nil {
			return "", true, err
		}
		if folder == "" {
			return "no such test below " + src.labDir, true, nil
		}
	}
	ok, err := src.hasFunc(folder, c.name)
	if err != nil {
		return "", false, err
	}
	if !ok {
		return "no such test", src.isLab(folder), nil
	}
	return verdictOf(testKey{src.importPath(folder), c.name}, runs), src.isLab(folder), nil
}

// verdictOf joins the runs: a failure anywhere counts, else a pass anywhere.
func verdictOf(key testKey, runs []*run) string {
	passed, skipped := false, ""
	for _, r := range runs {
		switch s, ran := r.verdict(key); {
		case !ran:
		case s == statePassed:
			passed = true
		case s == stateSkipped:
			skipped = strings.TrimSuffix(wasSkipped+": "+r.reasons[key], ": ")
		default:
			return string(s)
		}
	}
	switch {
	case passed:
		return ""
	case skipped != "":
		return skipped
	default:
		return notRun
	}
}
