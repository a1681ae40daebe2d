package main

import (
	"slices"
	"testing"
)

func TestGuestsMemoryIsNoMultipleOf64Pages(t *testing.T) {
	got := oddMemory([]string{"qemu", "-m", "80", "-object", `{"qom-type":"memory-backend-ram","id":"pc.ram","size":83886080}`, "-S"})
	want := []string{"qemu", "-m", "81928k", "-object", `{"qom-type":"memory-backend-ram","id":"pc.ram","size":83894272}`, "-S"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, other := range [][]string{{"qemu", "-m", "80"}, {"qemu", "-m", "size=81920k,slots=4"}, {"qemu"}, {"qemu", "-m"}} {
		if got := oddMemory(other); !slices.Equal(got, other) {
			t.Errorf("%q became %q", other, got)
		}
	}
}
