package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// source answers what exists in the tree, whether or not it was run.
type source struct {
	root   string
	module string
	labDir string                     // "./test/lab"
	funcs  map[string]map[string]bool // folder -> names of functions in its test files
}

func newSource(root string) (*source, error) {
	data, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return nil, fmt.Errorf("find the module: %w", err)
	}
	m := regexp.MustCompile(`(?m)^module\s+(\S+)`).FindSubmatch(data)
	if m == nil {
		return nil, fmt.Errorf("find the module: go.mod has no module line")
	}
	return &source{root: root, module: string(m[1]), labDir: "./test/lab", funcs: map[string]map[string]bool{}}, nil
}

// importPath turns a folder such as "./pkg/lease" into its import path.
func (s *source) importPath(folder string) string {
	return s.module + strings.TrimPrefix(folder, ".")
}

// isLab says whether the folder holds lab tests.
func (s *source) isLab(folder string) bool {
	return folder == s.labDir || strings.HasPrefix(folder, s.labDir+"/")
}

// hasFunc says whether a test file of the folder declares the function. Build
// tags are not looked at. name may be a subtest; its test is looked for.
func (s *source) hasFunc(folder, name string) (bool, error) {
	name, _, _ = strings.Cut(name, "/")
	names, ok := s.funcs[folder]
	if !ok {
		var err error
		if names, err = testFuncs(filepath.Join(s.root, folder)); err != nil {
			return false, err
		}
		s.funcs[folder] = names
	}
	return names[name], nil
}

// labFolder returns the folder below the lab, or else of the libvirt adapter,
// whose tests declare the name, or "" if there is none.
func (s *source) labFolder(name string) (string, error) {
	found := ""
	top := filepath.Join(s.root, s.labDir)
	if _, err := os.Stat(top); os.IsNotExist(err) {
		return "", nil
	}
	err := filepath.WalkDir(top, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() || found != "" {
			return err
		}
		rel, err := filepath.Rel(s.root, path)
		if err != nil {
			return err
		}
		folder := "./" + filepath.ToSlash(rel)
		has, err := s.hasFunc(folder, name)
		if has {
			found = folder
		}
		return err
	})
	if err != nil || found != "" {
		return found, err
	}
	if has, err := s.hasFunc(labToo, name); err != nil || !has {
		return "", err
	}
	return labToo, nil
}

// labToo is the other folder whose tests `make lab-test` runs: those of the libvirt adapter.
const labToo = "./agent/virt"

// hasCommand says whether the command can be there: a target of the Makefile,
// a file of the tree, or one of the two binaries the Makefile builds.
func (s *source) hasCommand(line string) (bool, error) {
	words := strings.Fields(line)
	if len(words) == 0 {
		return false, nil
	}
	if words[0] == "make" {
		if len(words) < 2 {
			return true, nil
		}
		data, err := os.ReadFile(filepath.Join(s.root, "Makefile"))
		if err != nil {
			return false, fmt.Errorf("look for make target: %w", err)
		}
		return regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(words[1]) + `:`).Match(data), nil
	}
	name := filepath.Base(words[0])
	if name == "holdfast" || name == "holdfast-agent" || name == "holdfast-console" {
		return true, nil
	}
	_, err := os.Stat(filepath.Join(s.root, words[0]))
	return err == nil, nil
}

func testFuncs(dir string) (map[string]bool, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		return nil, fmt.Errorf("list test files: %w", err)
	}
	names := map[string]bool{}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, fmt.Errorf("parse test file: %w", err)
		}
		for _, decl := range parsed.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil {
				names[f.Name.Name] = true
			}
		}
	}
	return names, nil
}
