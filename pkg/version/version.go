package version

// Version is the release, such as "v0.3.0", or "devel" for a build outside the
// Makefile. It is set at link time and not changed afterwards.
var Version = "devel"

// Commit is the short hash of the source commit, with "-dirty" behind it when
// the work tree had changes. It is empty when unknown. It is set at link time
// and not changed afterwards.
var Commit = ""

// String returns version and commit as one line for people, such as
// "v0.3.0 (1a2b3c4)". Safe for concurrent use.
func String() string {
	if Commit == "" {
		return Version
	}
	return Version + " (" + Commit + ")"
}
