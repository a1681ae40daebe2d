package pool

import "testing"

func TestATableIsTheSameUntilItIsChanged(t *testing.T) {
	a := NewTable(map[string]int{"x": 1, "y": 2})
	b := a
	if !a.Same(b) || !(Table[string, int]{}).Same(Table[string, int]{}) || !a.Same(a.Without("none")) {
		t.Error("unchanged tables differ")
	}
	for name, c := range map[string]Table[string, int]{"a new entry": a.With("z", 3), "another value": a.With("x", 7), "one less": a.Without("y"), "empty": {}} {
		if a.Same(c) || c.Same(a) {
			t.Errorf("%s: taken for the same", name)
		}
	}
}
