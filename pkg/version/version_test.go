package version

import "testing"

func TestStringNamesTheCommitOnlyWhenItIsKnown(t *testing.T) {
	oldVersion, oldCommit := Version, Commit
	t.Cleanup(func() { Version, Commit = oldVersion, oldCommit })

	tests := []struct{ version, commit, want string }{
		{"devel", "", "devel"},
		{"v0.3.0", "1a2b3c4", "v0.3.0 (1a2b3c4)"},
	}
	for _, tt := range tests {
		Version, Commit = tt.version, tt.commit
		if got := String(); got != tt.want {
			t.Errorf("String() with %q and %q = %q, want %q", tt.version, tt.commit, got, tt.want)
		}
	}
}
