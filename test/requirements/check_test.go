package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// project is a small module whose tests are really run by the go command, so
// that the checker is tried on what it reads in earnest.
type project struct {
	t    *testing.T
	root string
}

const projectTests = `package a

import "testing"

func TestPasses(t *testing.T)  { t.Run("sub", func(*testing.T) {}) }
func TestFails(t *testing.T)   { t.Error("no") }
func TestSkipped(t *testing.T) { t.Skip("no such disk") }
func TestSkipsApart(t *testing.T) {
	t.Run("one", func(*testing.T) {})
	t.Run("two", func(t *testing.T) { t.Skip("later") })
}
func TestShort(t *testing.T) {
	if testing.Short() {
		t.Skip("long")
	}
}
func BenchmarkX(b *testing.B) {}
`

const labTests = `//go:build lab

package lab

import "testing"

func TestPowerOff(t *testing.T) {}
`

func newProject(t *testing.T) project {
	t.Helper()
	p := project{t, t.TempDir()}
	p.write("go.mod", "module example.org/p\n\ngo 1.26\n")
	p.write("Makefile", "test: build\n")
	p.write("a/a_test.go", projectTests)
	p.write("broken/b_test.go", "package b\n\nimport \"testing\"\n\nfunc TestBroken(t *testing.T) { undefined() }\n")
	p.write("test/lab/lab_test.go", labTests)
	return p
}

func (p project) write(name, text string) {
	p.t.Helper()
	file := filepath.Join(p.root, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// run records `go test -json args...` under the name.
func (p project) run(name string, args ...string) {
	p.t.Helper()
	cmd := exec.CommandContext(p.t.Context(), "go", append([]string{"test", "-json", "-vet=off"}, args...)...)
	cmd.Dir = p.root
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	out, err := cmd.Output() // fails when a test fails, which is wanted here
	if len(out) == 0 {
		p.t.Fatalf("go test %v printed nothing: %v", args, err)
	}
	p.write("results/"+name+".json", string(out))
}

// judge runs the checker on one row and returns failures and report.
func (p project) judge(checks string) (int, string) {
	p.t.Helper()
	p.write("docs/requirements.tsv", "A1\tx\t"+checks+"\t-\n")
	var b bytes.Buffer
	failed, err := judge(&b, p.root, filepath.Join(p.root, "results"))
	if err != nil {
		p.t.Fatal(err)
	}
	return failed, b.String()
}

func TestARowNamingAMissingTestFails(t *testing.T) {
	p := newProject(t)
	p.run("unit", "-run", "^TestPasses$", "./a")
	tests := []struct{ name, checks, want string }{
		{"missing test", "test:./a:TestGone", "test:./a:TestGone: no such test"},
		{"missing package", "test:./gone:TestPasses", "test:./gone:TestPasses: no such test"},
		{"missing subtest", "test:./a:TestPasses/other", "did not run"},
		{"existing test that did not run", "test:./a:TestSkipped", "did not run"},
		{"missing benchmark", "bench:./a:BenchmarkGone", "no such benchmark"},
		{"missing target", "cmd:make gone", "no such command"},
		{"missing lab test", "labtest:TestGone", "no such test below ./test/lab"},
		{"one of two", "test:./a:TestPasses test:./a:TestGone", "no such test"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			failed, report := p.judge(tt.checks)
			if failed != 1 || !strings.Contains(report, "NOT SHOWN: A1") || !strings.Contains(report, tt.want) {
				t.Errorf("judge(%q) = %d failures, want 1 with %q; report:\n%s", tt.checks, failed, tt.want, report)
			}
		})
	}
}

func TestARowWhoseTestsPassedIsShown(t *testing.T) {
	p := newProject(t)
	p.run("unit", "-run", "^TestPasses$", "./a")
	failed, report := p.judge("test:./a:TestPasses test:./a:TestPasses/sub bench:./a:BenchmarkX cmd:make test")
	if failed != 0 || !strings.HasSuffix(report, "total: 2 passed, 0 failed, 0 skipped\n") {
		t.Errorf("judge = %d failures, want 0 and 2 passed; report:\n%s", failed, report)
	}
	if !strings.Contains(report, "no row yet: A2 A3") {
		t.Errorf("the items without a row are not printed:\n%s", report)
	}
}

func TestARowNamingASkippedTestFails(t *testing.T) {
	p := newProject(t)
	p.run("unit", "-run", "Skip", "./a")
	if failed, report := p.judge("test:./a:TestSkipped"); failed != 1 || !strings.Contains(report, "was skipped: a_test.go:7: no such disk") {
		t.Errorf("judge = %d failures, want 1 with the reason of the skip; report:\n%s", failed, report)
	}
	if failed, report := p.judge("test:./a:TestSkipsApart"); failed != 1 || !strings.Contains(report, "was skipped") {
		t.Errorf("judge = %d failures, want 1 for the skipped subtest; report:\n%s", failed, report)
	}
	if failed, report := p.judge("test:./a:TestSkipsApart/one"); failed != 0 {
		t.Errorf("judge = %d failures, want 0 for the subtest that ran; report:\n%s", failed, report)
	}
}

func TestATestSkippedInTheShortRunIsShownByTheFullRun(t *testing.T) {
	p := newProject(t)
	p.run("race", "-short", "-run", "TestShort", "./a")
	if failed, _ := p.judge("test:./a:TestShort"); failed != 1 {
		t.Errorf("judge after the short run = %d failures, want 1", failed)
	}
	p.run("unit", "-run", "TestShort", "./a")
	if failed, report := p.judge("test:./a:TestShort"); failed != 0 {
		t.Errorf("judge after both runs = %d failures, want 0; report:\n%s", failed, report)
	}
}

func TestFailuresAreCountedOnce(t *testing.T) {
	p := newProject(t)
	p.run("unit", "./a", "./broken")
	p.write("results/parts.tsv", "lint\tfailed\tsee above\nunit\tfailed\t\n")
	failed, report := p.judge("cmd:make test")
	// TestFails, the package that does not build, and lint; unit itself is
	// the first two again.
	if failed != 3 || !strings.Contains(report, "example.org/p/broken (does not build, or died)") {
		t.Errorf("judge = %d failures, want 3; report:\n%s", failed, report)
	}
	if failed, _ := p.judge("test:./a:TestFails"); failed != 4 {
		t.Errorf("judge with a row naming the failed test = %d failures, want 4", failed)
	}
}

func TestLabTestsAreDemandedOnlyWhenTheLabRan(t *testing.T) {
	p := newProject(t)
	p.run("unit", "-run", "^TestPasses$", "./a")
	p.write("results/parts.tsv", "lab\tskipped\tnot root\n")
	failed, report := p.judge("labtest:TestPowerOff test:./test/lab:TestPowerOff")
	if failed != 0 || !strings.Contains(report, "NOT CHECKED") || !strings.Contains(report, "lab           skipped  not root") {
		t.Errorf("judge without the lab = %d failures, want 0, said loudly; report:\n%s", failed, report)
	}
	p.run("lab", "-tags", "lab", "-run", "TestOther", "./test/lab")
	if failed, report := p.judge("labtest:TestPowerOff"); failed != 1 {
		t.Errorf("judge after a lab run without the test = %d failures, want 1; report:\n%s", failed, report)
	}
	p.run("lab", "-tags", "lab", "./test/lab")
	if failed, report := p.judge("labtest:TestPowerOff"); failed != 0 {
		t.Errorf("judge after the lab run = %d failures, want 0; report:\n%s", failed, report)
	}
}

func TestALabTestThatSkippedItselfIsExcusedOnlyWithoutALab(t *testing.T) {
	p := newProject(t)
	p.write("test/lab/self_test.go", "package lab\n\nimport \"testing\"\n\nfunc TestSelf(t *testing.T) { t.Skip(\"no lab\") }\n")
	p.run("unit", "./test/lab")
	if failed, report := p.judge("labtest:TestSelf"); failed != 0 || !strings.Contains(report, "NOT CHECKED") {
		t.Errorf("judge without the lab = %d failures, want 0, said loudly; report:\n%s", failed, report)
	}
	p.run("lab", "./test/lab")
	if failed, report := p.judge("labtest:TestSelf"); failed != 1 {
		t.Errorf("judge after the lab skipped it = %d failures, want 1; report:\n%s", failed, report)
	}
}

func TestATestThatNeverEndedFails(t *testing.T) {
	p := newProject(t)
	p.write("results/unit.json", `{"Action":"run","Package":"example.org/p/a","Test":"TestPasses"}
not json
{"Action":"output","Package":"example.org/p/a","Test":"TestPasses","Output":"fatal error\n"}
`)
	if failed, report := p.judge("test:./a:TestPasses"); failed != 2 || !strings.Contains(report, "TestPasses: unfinished") {
		t.Errorf("judge = %d failures, want the test and its row; report:\n%s", failed, report)
	}
}

func TestABadTableFails(t *testing.T) {
	p := newProject(t)
	p.run("unit", "-run", "^TestPasses$", "./a")
	if failed, report := p.judge("nothing"); failed != 1 || !strings.Contains(report, "docs/requirements.tsv: line 1") {
		t.Errorf("judge = %d failures, want 1 naming the line; report:\n%s", failed, report)
	}
}

func TestTheTableOfThisRepositoryIsWellFormed(t *testing.T) {
	f, err := os.Open("../../docs/requirements.tsv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, errs := parseTable(f); len(errs) > 0 {
		t.Errorf("docs/requirements.tsv: %v", errs)
	}
}
