package cli

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-ha/holdfast/console/cli/text"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Pace of waiting for operations.
const (
	// firstLook and lastLook bound the pause between two looks at an operation.
	firstLook = 100 * time.Millisecond
	lastLook  = 500 * time.Millisecond
	// readBack is how long a request whose answer was lost is looked for.
	readBack = 10 * time.Second
)

const waitHelp = `The command waits until the operation has ended and shows how far it is. Ending
it earlier stops nothing; "holdfast operation wait ID" goes on waiting.`

// startOptions are the flags of commands that start operations.
type startOptions struct {
	why, requestID string
	noWait         bool
	timeout        time.Duration
}

func (o *startOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&o.noWait, "no-wait", false, "print the operation's ID and do not wait for its end")
	f.DurationVar(&o.timeout, "timeout", 10*time.Minute, "how long to wait; 0 is for ever")
	f.StringVar(&o.requestID, "request-id", "", "`name` of this request: the same one twice does it once; with several VMs it becomes NAME.VM")
}

// verb is what an operation does, for sentences.
type verb struct{ doing, done string }

// requestID returns the one given, or a new one: so that a request whose answer was lost can be found again.
func requestID(given string) string {
	if given != "" {
		return given
	}
	b := make([]byte, 8)
	// Read never fails (crypto/rand).
	_, _ = rand.Read(b)
	return "cli-" + hex.EncodeToString(b)
}

// operate starts one operation for each name and follows them to their end.
func (a *app) operate(ctx context.Context, s *session, names []string, o startOptions, v verb,
	start func(ctx context.Context, name, requestID string) (*pb.Operation, error),
) error {
	code := ExitOK
	var ops []*pb.Operation
	for _, name := range names {
		id := requestID(o.requestID)
		if o.requestID != "" && len(names) > 1 {
			id += "." + name
		}
		op, err := start(ctx, name, id)
		if errors.Is(err, pool.ErrOutcomeUnknown) {
			op, err = a.findRequest(ctx, s, id, err)
		}
		if err == nil && op.GetVm() != name {
			err = usagef("request %s was %s of %s; use another --request-id", id, word(op.GetKind()), op.GetVm())
		}
		if err != nil {
			report(a.env.Err, name, err)
			code = worse(code, Code(err))
			if Code(err) == ExitUnreachable || ctx.Err() != nil {
				break
			}
			continue
		}
		ops = append(ops, op)
		if o.noWait {
			a.say("%s", op.GetId())
		}
	}
	if o.noWait || len(ops) == 0 {
		return exitWith(code)
	}
	return exitWith(worse(code, a.await(ctx, s, ops, o.timeout, v)))
}

// findRequest looks for the operation of a request whose answer was lost. The request is not sent again.
func (a *app) findRequest(ctx context.Context, s *session, id string, lost error) (*pb.Operation, error) {
	fmt.Fprintln(a.env.Err, "holdfast: "+text.Clean(lost.Error())+"; looking for it")
	ctx, cancel := context.WithTimeout(ctx, readBack)
	defer cancel()
	for {
		resp, err := s.operations.ListOperations(ctx, &pb.ListOperationsRequest{})
		if err == nil {
			for _, op := range resp.GetOperations() {
				if op.GetRequestId() == id {
					return op, nil
				}
			}
		}
		if !waitFor(ctx, lastLook) {
			return nil, fmt.Errorf("no trace of it so far; look with \"holdfast operations\"; repeating with --request-id %s is safe: %w", id, lost)
		}
	}
}

// await follows operations to their end and returns the exit code for all of them.
func (a *app) await(ctx context.Context, s *session, ops []*pb.Operation, timeout time.Duration, v verb) int {
	limited := ctx
	if timeout > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	show := a.progress(v)
	pause, begun := firstLook, time.Now()
	var trouble error
	for {
		trouble = refresh(limited, s, ops)
		show.update(ops, trouble)
		if done(ops) {
			break
		}
		if !waitFor(limited, pause) {
			break
		}
		pause = min(pause*3/2, lastLook)
	}
	show.clear()
	return a.verdict(ctx, s, ops, time.Since(begun), v, trouble)
}

// refresh reads each operation that runs. It returns why one could not be read.
func refresh(ctx context.Context, s *session, ops []*pb.Operation) error {
	for i, op := range ops {
		if op == nil || op.GetOutcome() != pb.OperationOutcome_OPERATION_OUTCOME_RUNNING {
			continue
		}
		resp, err := s.operations.GetOperation(ctx, &pb.GetOperationRequest{Operation: op.GetId()})
		switch {
		case errors.Is(err, pool.ErrNotFound):
			// It ended and has left the history, or the pool was rebuilt: nobody can tell.
			op.Outcome, op.Error = pb.OperationOutcome_OPERATION_OUTCOME_UNSPECIFIED, err.Error()
		case err != nil:
			return err
		default:
			ops[i] = resp.GetOperation()
		}
	}
	return nil
}

func done(ops []*pb.Operation) bool {
	for _, op := range ops {
		if op.GetOutcome() == pb.OperationOutcome_OPERATION_OUTCOME_RUNNING {
			return false
		}
	}
	return true
}

// verdict says how each operation ended.
func (a *app) verdict(ctx context.Context, s *session, ops []*pb.Operation, waited time.Duration, v verb, trouble error) int {
	code := ExitOK
	for _, op := range ops {
		subject := operationSubject(op)
		switch op.GetOutcome() {
		case pb.OperationOutcome_OPERATION_OUTCOME_DONE:
			a.say("%s: %s%s%s", subject, v.done, a.whereNow(ctx, s, op), tookTail(op))
		case pb.OperationOutcome_OPERATION_OUTCOME_FAILED, pb.OperationOutcome_OPERATION_OUTCOME_CANCELLED:
			a.complain("%s: %s %s%s", subject, v.doing, word(op.GetOutcome()), colon(op.GetError()))
			code = worse(code, ExitFailed)
		case pb.OperationOutcome_OPERATION_OUTCOME_RUNNING:
			why := op.GetError()
			if trouble != nil && ctx.Err() == nil && waited > 0 {
				why = strings.TrimPrefix(why+"; not reachable now: "+trouble.Error(), "; ")
			}
			a.complain("%s: still %s after %s%s\n  it goes on; to wait again: holdfast operation wait %s", subject, v.doing, span(waited), colon(why), op.GetId())
			code = worse(code, ExitStillRunning)
		default:
			a.complain("%s: nobody can tell how it ended%s", subject, colon(op.GetError()))
			code = worse(code, ExitUnknown)
		}
	}
	return code
}

func (a *app) complain(format string, args ...any) {
	for line := range strings.SplitSeq(fmt.Sprintf(format, args...), "\n") {
		fmt.Fprintln(a.env.Err, text.Clean(line))
	}
}

func colon(s string) string {
	if s == "" {
		return ""
	}
	return ": " + s
}

func tookTail(op *pb.Operation) string {
	if t := took(op); t != "" {
		return " (" + t + ")"
	}
	return ""
}

// whereNow adds the server that a VM runs on after its operation. Nothing depends on it, so an error is silent.
func (a *app) whereNow(ctx context.Context, s *session, op *pb.Operation) string {
	if op.GetVm() == "" {
		return ""
	}
	r, err := s.vms.GetVM(ctx, &pb.GetVMRequest{Vm: op.GetVm()})
	if err != nil || r.GetVm().GetStatus() != pb.VMStatus_VM_STATUS_RUNNING {
		return ""
	}
	return ", runs on " + r.GetVm().GetClaim().GetServer()
}

func (a *app) waitCommand() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "wait ID...", Short: "Wait for operations to end; the exit code tells how they did",
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeOperations,
		RunE: a.with(func(ctx context.Context, s *session, ids []string) error {
			var ops []*pb.Operation
			for _, id := range ids {
				r, err := s.operations.GetOperation(ctx, &pb.GetOperationRequest{Operation: id})
				if err != nil {
					return err
				}
				ops = append(ops, r.GetOperation())
			}
			return exitWith(a.await(ctx, s, ops, timeout, verb{"running", "done"}))
		}),
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 10*time.Minute, "how long to wait; 0 is for ever")
	return cmd
}

// progress shows operations while they run: in place on a terminal, a line for each change elsewhere.
type progress struct {
	out      io.Writer
	terminal *Terminal
	now      func() time.Time
	begun    time.Time
	verb     verb
	drawn    int
	said     map[string]string
}

func (a *app) progress(v verb) *progress {
	return &progress{out: a.env.Err, terminal: a.env.ErrTerminal, now: a.env.Now, begun: a.env.Now(), verb: v, said: map[string]string{}}
}

func (p *progress) line(op *pb.Operation) string {
	where := strings.Join(strings.Fields(progressText(op.GetProgress())+" "+op.GetPhase()), " ")
	if where != "" {
		where = ", " + where
	}
	return operationSubject(op) + ": " + withReason(p.verb.doing+where, op.GetError())
}

func (p *progress) update(ops []*pb.Operation, trouble error) {
	if p.terminal == nil {
		p.lines(ops)
		return
	}
	p.clear()
	width, height := p.terminal.Size()
	for i, op := range ops {
		if op.GetOutcome() != pb.OperationOutcome_OPERATION_OUTCOME_RUNNING {
			continue
		}
		if p.drawn >= max(height-3, 1) {
			fmt.Fprintf(p.out, "... and %d more\n", len(ops)-i)
			p.drawn++
			break
		}
		line := p.line(op) + ", " + span(p.now().Sub(p.begun))
		if trouble != nil {
			line += ", not reachable now: " + trouble.Error()
		}
		fmt.Fprintln(p.out, text.Cut(text.Clean(line), max(width-1, 20)))
		p.drawn++
	}
}

// lines prints an operation when its line has changed.
func (p *progress) lines(ops []*pb.Operation) {
	for _, op := range ops {
		line := p.line(op)
		if op.GetOutcome() == pb.OperationOutcome_OPERATION_OUTCOME_RUNNING && p.said[op.GetId()] != line {
			p.said[op.GetId()] = line
			fmt.Fprintln(p.out, text.Clean(line))
		}
	}
}

// clear takes back what was drawn on a terminal.
func (p *progress) clear() {
	if p.drawn > 0 {
		fmt.Fprintf(p.out, "\x1b[%dA\r\x1b[J", p.drawn)
		p.drawn = 0
	}
}
