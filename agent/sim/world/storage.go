package world

import (
	"context"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Storage reports whether the server's path to the shared storage is up.
func (s *Server) Storage() bool { return s.storage }

// CutStorage takes the path to the shared storage away: guests that write are paused by QEMU within moments.
func (s *Server) CutStorage() {
	if !s.storage {
		return
	}
	s.storage = false
	s.w.emit(KindStorage, s.Name, "", "%s loses its path to the shared storage", s.Name)
	for _, q := range s.qemus {
		s.checkStorage(q)
	}
	s.domainsChanged()
}

// MendStorage brings the path back. Paused guests stay paused until somebody resumes them.
func (s *Server) MendStorage() {
	if s.storage {
		return
	}
	s.storage = true
	s.w.emit(KindStorage, s.Name, "", "%s has its path to the shared storage again", s.Name)
	s.domainsChanged()
}

// checkStorage has a running guest meet the error at its next write.
func (s *Server) checkStorage(q *QEMU) {
	if s.storage || q.state != stateRunning {
		return
	}
	s.w.s.After(s.w.s.Between(50*time.Millisecond, time.Second), func() {
		if !s.storage && q.state == stateRunning {
			q.halt(stateIOError, "input/output error")
		}
	})
}

// Missing returns what the server lacks of needs.
func (h *Hypervisor) Missing(ctx context.Context, needs []pool.Need) ([]string, error) {
	if err := h.p.Await(ctx, time.Millisecond); err != nil {
		return nil, err
	}
	var out []string
	for _, n := range needs {
		if n.Kind == pool.NeedFile && !h.s.storage {
			out = append(out, "file "+n.Name+" cannot be read")
		}
	}
	return out, nil
}

// StorageLost reports whether the path to the shared storage is gone.
func (h *Hypervisor) StorageLost(ctx context.Context) (bool, error) {
	if err := h.p.Await(ctx, time.Millisecond); err != nil {
		return false, err
	}
	return !h.s.storage, nil
}
