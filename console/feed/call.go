package feed

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Caller sends requests to a pool. Which call it is, the type of the request says: no two calls of the API share one.
type Caller struct {
	Conn grpc.ClientConnInterface
}

// Method returns the full name of the call that a request belongs to; empty if there is none.
func Method(request proto.Message) string {
	want := request.ProtoReflect().Descriptor().FullName()
	found := ""
	protoregistry.GlobalFiles.RangeFilesByPackage("holdfast.v1", func(f protoreflect.FileDescriptor) bool {
		services := f.Services()
		for i := range services.Len() {
			methods := services.Get(i).Methods()
			for k := range methods.Len() {
				if m := methods.Get(k); m.Input().FullName() == want {
					found = "/" + string(services.Get(i).FullName()) + "/" + string(m.Name())
				}
			}
		}
		return found == ""
	})
	return found
}

// Call sends one request, once, and returns the answer. Errors are those of pkg/pool: pool.ErrOutcomeUnknown means
// that a change may or may not have been made, and the caller has to look before it acts.
func (c Caller) Call(ctx context.Context, request proto.Message) (proto.Message, error) {
	method := Method(request)
	if method == "" {
		return nil, fmt.Errorf("no call takes %T: %w", request, pool.ErrInvalid)
	}
	name := strings.TrimSuffix(string(request.ProtoReflect().Descriptor().FullName()), "Request") + "Response"
	kind, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(name))
	if err != nil {
		return nil, fmt.Errorf("answer of %s: %w", method, err)
	}
	reply := kind.New().Interface()
	if err := c.Conn.Invoke(ctx, method, request, reply); err != nil {
		return nil, err
	}
	return reply, nil
}

// Agents is a Source over a client of the pool's agents.
type Agents struct {
	Client *rpc.Client
}

var _ Source = Agents{}

// Watch opens a stream without the VMs' XML, which is most of the bytes.
func (a Agents) Watch(ctx context.Context, after int64) (Stream, error) {
	return pb.NewPoolServiceClient(a.Client).WatchPool(ctx, &pb.WatchPoolRequest{WithoutXml: true, AfterRevision: after})
}

// Avoid asks another agent next.
func (a Agents) Avoid() { a.Client.Avoid() }

// Learn has agents asked that the operator did not name.
func (a Agents) Learn(agents []string) { a.Client.Learn(agents) }

// OutcomeUnknown reports whether a change may have been made although its answer is missing.
func OutcomeUnknown(err error) bool {
	return errors.Is(err, pool.ErrOutcomeUnknown) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}
