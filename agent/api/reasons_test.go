package api

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	refusalRE = regexp.MustCompile(`(?:Refuse\(|deny\(codes\.\w+, )"([A-Z][A-Z_]+)"`)
	constRE   = regexp.MustCompile(`const Code\w+ = "([A-Z_]+)"`)
	kindRE    = regexp.MustCompile(`\{pool\.Err\w+, codes\.\w+, "([A-Z_]+)"\}`)
	rowRE     = regexp.MustCompile("(?m)^\\| `([A-Z_]+)` \\|")
)

// The reasons of errors are an interface: scripts branch on them. So the manual has all of them, and none that is gone.
func TestTheManualListsEveryReasonOfErrors(t *testing.T) {
	used := map[string]bool{"CANCELED": true, "DEADLINE_EXCEEDED": true, "INTERNAL": true}
	for _, dir := range []string{"agent", "pkg", "console"} {
		err := filepath.WalkDir("../../"+dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "fakepool") {
				return err
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, re := range []*regexp.Regexp{refusalRE, kindRE, constRE} {
				for _, m := range re.FindAllStringSubmatch(string(data), -1) {
					used[m[1]] = true
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	manual, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(manual), "## Reasons")
	if !ok {
		t.Fatal("docs/api.md has no section of reasons")
	}
	listed := map[string]bool{}
	for _, m := range rowRE.FindAllStringSubmatch(section, -1) {
		listed[m[1]] = true
		if !used[m[1]] {
			t.Errorf("docs/api.md lists %s, which nothing answers", m[1])
		}
	}
	for reason := range used {
		if !listed[reason] {
			t.Errorf("docs/api.md does not list %s", reason)
		}
	}
	if len(used) < 50 {
		t.Errorf("found only %d reasons", len(used))
	}
}
