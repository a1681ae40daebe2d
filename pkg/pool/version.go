package pool

import (
	"strconv"
	"strings"
)

// MinVersion is the oldest agent that keeps every promise of docs/safety.md. Servers with an older one are given
// no VM, and HA is not switched on while one is a member.
const MinVersion = "0.1.0"

// TooOld reports whether an agent's version is older than MinVersion. A build that is no release ("devel", or
// none named) counts as current; a text that begins with no number does too, since nothing is known against it.
func TooOld(version string) bool {
	have, ok := parseVersion(version)
	if !ok {
		return false
	}
	need, _ := parseVersion(MinVersion)
	for i := range need {
		if have[i] != need[i] {
			return have[i] < need[i]
		}
	}
	return false
}

// parseVersion reads "v1.2.3", "1.2" or "1.2.3-rc1 (abc)"; missing parts are 0.
func parseVersion(s string) (v [3]int, ok bool) {
	s, _, _ = strings.Cut(strings.TrimPrefix(s, "v"), " ")
	s, _, _ = strings.Cut(s, "-")
	s, _, _ = strings.Cut(s, "+")
	for i, part := range strings.SplitN(s, ".", 3) {
		n, err := strconv.Atoi(part)
		if err != nil {
			return v, false
		}
		v[i] = n
	}
	return v, true
}
