package holdfast

import (
	"context"
	"fmt"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Operation returns one operation as the pool sees it.
func (p *Pool) Operation(ctx context.Context, id string) (*pb.Operation, error) {
	r, err := p.Operations.GetOperation(ctx, &pb.GetOperationRequest{Operation: id})
	return r.GetOperation(), err
}

// UntilEnded waits until an operation has come to an end, good or bad.
func (p *Pool) UntilEnded(ctx context.Context, id string) (*pb.Operation, error) {
	var o *pb.Operation
	err := until(ctx, "operation "+id+" has ended", func() (bool, string) {
		var err error
		if o, err = p.Operation(ctx, id); err != nil {
			return false, err.Error()
		}
		return o.GetOutcome() != pb.OperationOutcome_OPERATION_OUTCOME_RUNNING,
			fmt.Sprintf("%v %s %s %v", o.GetOutcome(), o.GetPhase(), o.GetError(), o.GetProgress())
	})
	return o, err
}
