package place

import (
	"fmt"
	"slices"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// rank is how much a server is preferred for a VM; the smaller, the better, field by field.
type rank struct {
	// wish: 0 where the VM stays, then its preferred servers in order, then home and last server, then the rest.
	wish int
	// memory and cpus are the shares that would be promised afterwards.
	memory, cpus float64
	server       pool.ServerID
}

func (a rank) before(b rank) bool {
	switch {
	case a.wish != b.wish:
		return a.wish < b.wish
	case a.memory != b.memory:
		return a.memory < b.memory
	case a.cpus != b.cpus:
		return a.cpus < b.cpus
	default:
		return a.server < b.server
	}
}

func (l *Load) rank(s *slot, r *Request, memory int64, cpus int) rank {
	m, c := l.after(s, &r.VM, memory, cpus)
	return rank{wish: wish(s.server.ID, r), memory: m, cpus: c, server: s.server.ID}
}

func wish(s pool.ServerID, r *Request) int {
	if r.Stay != "" && s == r.Stay {
		return 0
	}
	if i := slices.Index(r.VM.Prefer, s); i >= 0 {
		return 1 + i
	}
	if i := slices.Index(r.Home, s); i >= 0 {
		return 1 + len(r.VM.Prefer) + i
	}
	return 1 + len(r.VM.Prefer) + len(r.Home)
}

// why says in words what decided for the server; qualified is how many others could have taken the VM.
func (l *Load) why(k rank, r *Request, qualified int) string {
	switch {
	case k.wish == 0 && r.StayWhy != "":
		return r.StayWhy
	case k.wish == 0:
		return "it stays there"
	case k.wish <= len(r.VM.Prefer):
		return "its preferred server"
	case k.wish <= len(r.VM.Prefer)+len(r.Home):
		return "where it ran before"
	case qualified == 1:
		return "the only server that qualifies"
	default:
		return fmt.Sprintf("least loaded of %d that qualify, %.0f%% of its memory promised now", qualified, 100*k.memory)
	}
}
