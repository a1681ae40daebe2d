// Command requirements compares docs/requirements.tsv with what the tests of
// this run did, and prints the closing lines of `make test`.
//
// The table has one row per claim: id, one line, checks, figure, separated by
// tabs. An id is an item ("A3"), a part of one ("A3b"), or a named claim of an
// issue that is no item ("A-leader-power-off"). Checks, separated by spaces:
//
//	test:./pkg/lease:TestName    a Go test, or TestName/subtest, of that package
//	labtest:TestName             a Go test anywhere below ./test/lab, or in ./agent/virt
//	bench:./pkg/plan:BenchName   a Go benchmark; it must exist, it is not run
//	cmd:make demo                a make target or a file; it must exist
//
// A test counts as shown when in at least one of the recorded runs it passed
// with none of its subtests skipped, and it failed in none. Lab tests are only
// demanded when the lab ran; otherwise the rows are listed as not checked.
//
// It reads `go test -json` streams (one file per part, NAME.json) and parts.tsv
// (part, state, note) from the results folder; both are written by the
// Makefile. It guarantees that "0 failed" is printed exactly when it exits
// with 0. It does not judge whether a test shows what its row says.
package main
