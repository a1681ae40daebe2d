package guard

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// The protocol between agent and guard: one request and one reply for each connection, both a big-endian 32-bit
// length and that much JSON. Unknown fields are ignored: packages do not restart a guard, so it may be older than
// the agent.

// maxFrame bounds a frame; a Status of 10,000 VMs fits.
const maxFrame = 8 << 20

// Operations of a call.
const (
	opExtend = "extend"
	opHold   = "hold"
	opLetGo  = "let go"
	opStatus = "status"
)

// call is a request.
type call struct {
	Op string `json:"op"`
	// Expires is when the caller stops waiting, on the clock that both share. The guard does nothing after it: a
	// request that was delayed must not act behind the back of a caller that has gone on.
	Expires pool.Instant `json:"expires"`
	Lease   *Lease       `json:"lease,omitempty"`
	Held    *Held        `json:"held,omitempty"`
	VM      pool.VMID    `json:"vm,omitempty"`
}

// reply answers a call. Error is empty on success, Kind one of kinds or empty.
type reply struct {
	Error  string  `json:"error,omitempty"`
	Kind   string  `json:"kind,omitempty"`
	Status *Status `json:"status,omitempty"`
}

// kinds names the errors that a caller tells apart, in the order in which they are looked for.
var kinds = []struct {
	name string
	err  error
}{
	{"late", ErrLate}, {"outdated", ErrOutdated}, {"no process", ErrNoProcess}, {"doomed", ErrDoomed},
	{"invalid", pool.ErrInvalid}, {"unavailable", pool.ErrUnavailable}, {"unknown", pool.ErrOutcomeUnknown},
}

func failure(err error) reply {
	r := reply{Error: err.Error()}
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			r.Kind = k.name
			break
		}
	}
	return r
}

// remoteError is an error of the guard as the client returns it: its own words, comparable by kind.
type remoteError struct {
	text string
	kind error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.kind }

func (r reply) err() error {
	if r.Error == "" {
		return nil
	}
	for _, k := range kinds {
		if k.name == r.Kind {
			return &remoteError{r.Error, k.err}
		}
	}
	return &remoteError{text: r.Error}
}

func writeFrame(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) > maxFrame {
		return fmt.Errorf("%d bytes are more than a frame may hold: %w", len(b), pool.ErrInvalid)
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	return err
}

func readFrame(r io.Reader, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxFrame {
		return fmt.Errorf("%d bytes are more than a frame may hold: %w", n, pool.ErrInvalid)
	}
	b, err := io.ReadAll(io.LimitReader(r, int64(n)))
	if err != nil {
		return err
	}
	if len(b) < int(n) {
		return io.ErrUnexpectedEOF
	}
	return json.Unmarshal(b, v)
}
