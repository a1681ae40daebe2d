package stopwatch

import (
	"testing"
	"time"
)

// rounds is how often something may be slow before it is called slow.
const rounds = 3

// Within fails the test unless a round of what takes no longer than limit, by its own account. A round must leave things
// so that another can follow.
func Within(t *testing.T, limit time.Duration, what string, round func() time.Duration) {
	t.Helper()
	var took [rounds]time.Duration
	for i := range took {
		took[i] = round()
		if took[i] <= limit {
			return
		}
	}
	t.Errorf("%s: it took %v in %d rounds, want one within %v", what, took, rounds, limit)
}

// Of returns how long f takes.
func Of(f func()) time.Duration {
	began := time.Now()
	f()
	return time.Since(began)
}
