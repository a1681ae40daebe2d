package pool

import "testing"

func TestAnAgentIsTooOldOnlyBelowTheMinimum(t *testing.T) {
	for version, want := range map[string]bool{
		"": false, "devel": false, "devel (1a2b3c4)": false, "v0.1.0": false, "0.1": false, "v0.1.1-rc1 (1a2b3c4)": false,
		"v1.0.0": false, "v0.0.9": true, "0.0": true, "v0.0.9-dirty": true, "0.0.1+local": true,
	} {
		if got := TooOld(version); got != want {
			t.Errorf("TooOld(%q) = %v, want %v", version, got, want)
		}
	}
}
