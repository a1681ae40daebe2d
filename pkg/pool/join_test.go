package pool

import (
	"fmt"
	"slices"
	"testing"
)

func TestJoinYieldsEachKeyOfEitherTableOnceInOrder(t *testing.T) {
	a, b := map[string]string{}, map[string]int{}
	var want []string
	for i := range 1000 {
		k := fmt.Sprintf("k%04d", i)
		left, right := "-", "-"
		if i%2 == 0 {
			a[k], left = k, k
		}
		if i%3 == 0 {
			b[k], right = i, fmt.Sprint(i)
		}
		if left+right != "--" {
			want = append(want, left+right)
		}
	}
	var got []string
	for v, w := range Join(NewTable(a), NewTable(b)) {
		left, right := "-", "-"
		if v != nil {
			left = *v
		}
		if w != nil {
			right = fmt.Sprint(*w)
		}
		got = append(got, left+right)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %d, want %d: %v", len(got), len(want), got[:min(len(got), 10)])
	}
	for range Join(Table[string, int]{}, Table[string, int]{}) {
		t.Error("two empty tables yielded something")
	}
	for v := range Join(NewTable(a), NewTable(b)) {
		if v == nil || *v != "k0000" {
			t.Error("the walk does not begin with the first key")
		}
		break
	}
}
