package imports

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// listed is what `go list -json` tells of one package.
type listed struct {
	ImportPath   string
	Dir          string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Deps         []string
	GoFiles      []string
	CgoFiles     []string
}

// folder returns the package's folder in the module, "" for the top.
func (l listed) folder() string { return folderOf(l.ImportPath) }

func folderOf(path string) string {
	return strings.TrimPrefix(strings.TrimPrefix(path, module), "/")
}

func ours(path string) bool { return within(path, module) }

// list runs go list with the tags of the product and of the lab. It is told to
// go on past packages that do not build: the compiler reports those better.
func list(t *testing.T) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-deps", "-tags=libvirt_dlopen,lab",
		"-json=ImportPath,Dir,Imports,TestImports,XTestImports,Deps,GoFiles,CgoFiles", module+"/...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var l listed
		if err := d.Decode(&l); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatalf("read go list: %v", err)
		}
		if ours(l.ImportPath) {
			packages = append(packages, l)
		}
	}
}

func TestImportsPointDownOnly(t *testing.T) {
	for _, p := range list(t) {
		if ruleFor(p.folder()) == "" {
			t.Errorf("%s has no rule: add it to test/imports/rules.go and docs/architecture.md", p.folder())
			continue
		}
		for _, path := range p.Imports {
			if ours(path) && !allowed(p.folder(), folderOf(path)) {
				t.Errorf("%s imports %s: not allowed by test/imports/rules.go", p.folder(), folderOf(path))
			}
		}
		for _, path := range slices.Concat(p.TestImports, p.XTestImports) {
			if ours(path) && !testAllowed(p.folder(), folderOf(path)) {
				t.Errorf("tests of %s import %s: not allowed by test/imports/rules.go", p.folder(), folderOf(path))
			}
		}
	}
}

func TestLibrariesStayAtTheirEdge(t *testing.T) {
	for _, p := range list(t) {
		for _, path := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			for _, e := range edges {
				inside := slices.ContainsFunc(e.folders, func(f string) bool { return within(p.folder(), f) })
				if within(path, e.library) && !inside {
					t.Errorf("%s imports %s: only %s may", p.folder(), path, strings.Join(e.folders, ", "))
				}
			}
		}
	}
}

func TestBinariesDoNotLinkWhatTheyMustNot(t *testing.T) {
	for _, p := range list(t) {
		for _, library := range neverLinked[p.folder()] {
			for _, path := range p.Deps {
				if within(path, library) {
					t.Errorf("%s depends on %s", p.folder(), path)
				}
			}
		}
	}
}

func TestPoolImportsTheStandardLibraryOnly(t *testing.T) {
	for _, p := range list(t) {
		if !within(p.folder(), "pkg/pool") {
			continue
		}
		for _, path := range p.Imports {
			first, _, _ := strings.Cut(path, "/")
			if strings.Contains(first, ".") {
				t.Errorf("%s imports %s: the words of the domain know no technology", p.folder(), path)
			}
		}
	}
}

func TestPurePackagesHaveNoHiddenInputs(t *testing.T) {
	for _, p := range list(t) {
		if !slices.ContainsFunc(pure, func(f string) bool { return within(p.folder(), f) }) {
			continue
		}
		for _, path := range p.Imports {
			if slices.Contains(banned, path) {
				t.Errorf("%s imports %s: it decides from its arguments alone", p.folder(), path)
			}
		}
		for _, name := range p.GoFiles {
			for _, impure := range impurities(t, filepath.Join(p.Dir, name)) {
				t.Errorf("%s: it decides from its arguments alone", impure)
			}
		}
	}
}

// impurities names the goroutines, channels and clock readings of a file.
func impurities(t *testing.T, file string) []string {
	t.Helper()
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatalf("parse: %v", err)
	}
	var found []string
	ast.Inspect(parsed, func(n ast.Node) bool {
		what := ""
		switch n := n.(type) {
		case *ast.GoStmt:
			what = "a goroutine"
		case *ast.ChanType, *ast.SelectStmt:
			what = "a channel"
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains([]string{"Now", "Since", "Until", "Sleep", "After"}, n.Sel.Name) {
				what = "time." + n.Sel.Name
			}
		}
		if what != "" {
			found = append(found, files.Position(n.Pos()).String()+" has "+what)
		}
		return true
	})
	return found
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	for _, p := range list(t) {
		if within(p.folder(), "proto") || len(p.GoFiles)+len(p.CgoFiles) == 0 {
			continue // the .proto files speak for themselves; tests need no doc
		}
		if !slices.Contains(p.GoFiles, "doc.go") {
			t.Errorf("%s has no doc.go", p.folder())
		}
	}
}
