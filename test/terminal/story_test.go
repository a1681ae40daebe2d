package terminal

import (
	"os"
	"slices"
	"strings"
	"testing"
)

func TestTheManualShowsEveryFrameThatTheStoriesKeepAndNoOther(t *testing.T) {
	data, err := os.ReadFile("../../docs/console.md")
	if err != nil {
		t.Fatal(err)
	}
	var kept []string
	for _, path := range []string{"testdata/newcomer.story", "testdata/plain-terminal.story"} {
		s, err := ReadStory(path)
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, s.Names("frame")...)
		for _, name := range s.Names("picture") {
			for _, ext := range []string{".svg", ".png"} {
				if _, err := os.Stat("../../docs/images/" + name + ext); err != nil {
					t.Errorf("%v; make screenshots draws it", err)
				}
			}
		}
	}
	document := string(data)
	for line := range strings.SplitSeq(document, "\n") {
		name, ok := strings.CutPrefix(line, "<!-- frame ")
		if name = strings.TrimSuffix(name, " -->"); ok && !slices.Contains(kept, name) {
			t.Errorf("no story keeps the frame %s", name)
		}
	}
	for _, name := range kept {
		if _, err := ReplaceFrame(document, name, ""); err != nil {
			t.Error(err)
		}
		if strings.Contains(document, "<!-- frame "+name+" -->\n```text\n```") {
			t.Errorf("the frame %s is empty; make screenshots takes it", name)
		}
	}
}
