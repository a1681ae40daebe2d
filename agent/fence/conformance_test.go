package fence

import (
	"strings"
	"testing"

	"github.com/holdfast-ha/holdfast/agent/fence/fencetest"
)

func TestFenceProgramsDoWhatAFencerMust(t *testing.T) {
	fencetest.Run(t, func(t *testing.T) fencetest.Edge {
		b := newBench(t)
		server := b.program("fence_switch", honest)
		return fencetest.Edge{Fencer: b.Fencer, Server: server,
			HasPower: func() bool { return strings.TrimSpace(b.kept("state")[0]) == "ON" },
			Break:    func() { b.program("fence_switch", `echo "it does not answer" >&2; exit 1`) },
			Mend:     func() { b.program("fence_switch", honest) },
			Do:       func(f func()) { f() }}
	})
}
