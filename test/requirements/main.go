package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

func main() {
	root := flag.String("root", ".", "the repository")
	results := flag.String("results", ".cache/results", "folder with NAME.json and parts.tsv")
	flag.Parse()
	failed, err := judge(os.Stdout, *root, *results)
	if err != nil {
		fmt.Fprintln(os.Stderr, "requirements:", err)
		os.Exit(2)
	}
	if failed > 0 {
		os.Exit(1)
	}
}

// judge reads table and results, prints the report and returns the number of
// failures.
func judge(w io.Writer, root, results string) (failed int, err error) {
	f, err := os.Open(filepath.Join(root, "docs", "requirements.tsv"))
	if err != nil {
		return 0, fmt.Errorf("open the table: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	rows, bad := parseTable(f)
	src, err := newSource(root)
	if err != nil {
		return 0, err
	}
	runs, parts, err := readResults(results)
	if err != nil {
		return 0, err
	}
	o, err := compare(rows, src, runs)
	if err != nil {
		return 0, err
	}
	return report(w, o, bad, runs, parts), nil
}
