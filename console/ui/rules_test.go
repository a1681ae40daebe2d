package ui

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/holdfast-ha/holdfast/console/cli/fakepool"
)

// What asks for a name to be typed, or ends a guest or a server, has no key of its own: it is found in the actions of the
// thing and in the palette only.
func TestDangerousActionsAreReachedByNoKeyOfTheirOwn(t *testing.T) {
	m := newBench(t, fakepool.Troubled(), 120, 40).m
	harmless := []string{"ha on", "ha off", "inbound-lock on", "inbound-lock off", "maintenance enter", "maintenance exit", "migrate", "operation cancel"}
	keys := map[string]bool{}
	for _, c := range keyMap {
		if c.group == "Change" {
			for _, k := range c.Keys() {
				keys[k] = true
			}
		}
	}
	if got, want := slices.Sorted(maps.Keys(keys)), []string{"A", "H", "L", "M", "X", "m"}; !slices.Equal(got, want) {
		t.Errorf("keys that change something: %v, want %v", got, want)
	}
	for _, a := range allActions {
		if a.key == "" {
			continue
		}
		if !slices.Contains(harmless, a.name) {
			t.Errorf("%s has the key %s", a.name, a.key)
		}
		if a.kind == nil {
			continue // HA of the pool: its name is typed, and the key works on Overview alone
		}
		for _, id := range []string{"db-main", "hv-06"} {
			if a.weigh(m, []string{id}) == named {
				t.Errorf("%s asks for a name to be typed and has the key %s", a.name, a.key)
			}
		}
	}
}

// Columns leave one after the other as a line gets shorter, in the order that they say, never the name nor the state, and
// none is there that was gone on a longer line.
func TestColumnsLeaveInTheirOrderAtAnyWidth(t *testing.T) {
	m := newBench(t, fakepool.Troubled(), 220, 60).m
	for _, k := range []*kind{vmKind, serverKind, operationKind, eventKind} {
		var longer []string
		dropped := map[string]int{}
		for w := 217; w >= 57; w-- {
			cols := k.layout(m, w)
			var names []string
			for _, c := range cols {
				names = append(names, c.name)
				if c.x+c.w > w {
					t.Fatalf("%s at %d cells: column %s ends at %d", k.name, w, c.name, c.x+c.w)
				}
			}
			if longer != nil {
				for _, n := range names {
					if !slices.Contains(longer, n) {
						t.Errorf("%s at %d cells: column %s comes back", k.name, w, n)
					}
				}
				for _, n := range longer {
					if !slices.Contains(names, n) {
						dropped[n] = w
					}
				}
			}
			longer = names
		}
		for _, a := range k.cols {
			at, gone := dropped[a.name]
			if a.drop == 0 && gone {
				t.Errorf("%s: column %s must stay and is gone at %d cells", k.name, a.name, at)
			}
			for _, b := range k.cols {
				if a.drop > 0 && b.drop > a.drop && at > dropped[b.name] {
					t.Errorf("%s: %s leaves at %d cells, before %s at %d", k.name, a.name, at, b.name, dropped[b.name])
				}
			}
		}
	}
}

func TestWhoCancelsAnEvacuationIsToldThatWhatHasMovedStays(t *testing.T) {
	b := newBench(t, fakepool.Troubled(), 120, 40)
	b.press("4", "X")
	b.sees("What is done stays done: VMs that have moved", "stay where they are.")
	for _, call := range b.others {
		t.Errorf("done already: %s", fmt.Sprint(call))
	}
}
