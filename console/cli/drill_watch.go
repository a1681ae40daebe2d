package cli

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// poolWatch follows the pool beside a drill and says when something was first seen.
type poolWatch struct {
	session *session

	mu      sync.Mutex
	st      *state
	changed chan struct{}
	// avoid is the server whose agent is not asked: its way to etcd is going to be closed.
	avoid string
	err   error
}

func newPoolWatch(s *session) *poolWatch {
	return &poolWatch{session: s, st: newState(), changed: make(chan struct{})}
}

var errElsewhere = errors.New("another agent is to be asked")

// run follows the pool until ctx ends.
func (w *poolWatch) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := w.session.follow(ctx, func(u update) error {
			if u.message == nil {
				return nil
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			if by := u.message.GetServedBy(); by != "" && by == w.avoid {
				return errElsewhere
			}
			w.st.fold(u.message)
			close(w.changed)
			w.changed = make(chan struct{})
			return nil
		})
		switch {
		case errors.Is(err, errElsewhere):
			w.session.client.Avoid()
		case err != nil:
			w.mu.Lock()
			w.err = err
			w.mu.Unlock()
		}
		waitFor(ctx, drillLook)
	}
}

// leave has the watch asked of another agent than this server's from now on.
func (w *poolWatch) leave(server string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.avoid = server
}

// until returns when f first held of the pool. what is for the error.
func (w *poolWatch) until(ctx context.Context, what string, limit time.Duration, f func(*state) bool) (time.Time, error) {
	whole := ctx
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		w.mu.Lock()
		held, changed, trouble := w.st.revision > 0 && f(w.st), w.changed, w.err
		w.mu.Unlock()
		if held {
			return time.Now(), nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if whole.Err() != nil {
				return time.Time{}, whole.Err()
			}
			if trouble != nil {
				return time.Time{}, fmt.Errorf("waited in vain until %s: %w", what, trouble)
			}
			return time.Time{}, fmt.Errorf("waited in vain until %s: %w", what, pool.ErrUnavailable)
		}
	}
}
