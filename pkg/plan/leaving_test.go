package plan

import (
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

func TestMovesOffAServerCountTheirAttempts(t *testing.T) {
	r := newRosters(t, 3)
	r.held("v", "s3")
	srv := r.world.Servers["s3"]
	srv.Maintenance = true
	r.world.PutServer(srv)
	for attempt := 1; attempt <= 3; attempt++ {
		var op pool.Operation
		for _, a := range r.after(2 * time.Minute).Actions {
			if a.Kind == StartMove {
				op = a.Change.Operations[0]
			}
		}
		if op.VM != "v" || op.Attempt != attempt {
			t.Fatalf("move %d: %+v", attempt, op)
		}
		op = r.world.Operations[op.ID]
		op.Outcome, op.Error = pool.OutcomeFailed, "the copy broke"
		r.world.PutOperation(op)
	}
}
