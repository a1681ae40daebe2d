package tunnel

import (
	"encoding/binary"
	"fmt"
	"net"
	"sync"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// frame is one message of a tunnel, in either direction. On the wire it is a TunnelRequest or a TunnelResponse, written
// and read without copying the data: memory goes through here at the speed of the network.
type frame struct {
	// open is set in the first message to a tunnel, and in no other.
	open *pb.TunnelOpen
	// end: nothing more will come. Only from a tunnel; to it, the stream itself is ended.
	end bool
	// data is freed by whoever received the frame; the sender's is freed by gRPC.
	data mem.BufferSlice
	// skip is where the payload begins in data that was received.
	skip int
}

// Field numbers of TunnelRequest and TunnelResponse.
const (
	fieldOpenOrEnd = 1
	fieldData      = 2
)

// codecName is the content-subtype of tunnels: the protobuf encoding, by this package's codec.
const codecName = "holdfast-tunnel"

func init() { encoding.RegisterCodecV2(codec{}) }

// codec encodes frames. Requests and responses differ in field 1 alone.
type codec struct{}

// Name implements encoding.CodecV2.
func (codec) Name() string { return codecName }

// Marshal implements encoding.CodecV2.
func (codec) Marshal(v any) (mem.BufferSlice, error) {
	f, ok := v.(*frame)
	if !ok {
		return nil, fmt.Errorf("a tunnel does not send %T", v)
	}
	var head []byte
	if f.open != nil {
		text, err := proto.Marshal(f.open)
		if err != nil {
			return nil, fmt.Errorf("open a tunnel: %w", err)
		}
		head = protowire.AppendBytes(protowire.AppendTag(head, fieldOpenOrEnd, protowire.BytesType), text)
	}
	if f.end {
		head = protowire.AppendVarint(protowire.AppendTag(head, fieldOpenOrEnd, protowire.VarintType), 1)
	}
	n := f.data.Len()
	if n == 0 {
		return mem.BufferSlice{mem.SliceBuffer(head)}, nil
	}
	head = protowire.AppendTag(head, fieldData, protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(n))
	return append(mem.BufferSlice{mem.SliceBuffer(head)}, f.data...), nil
}

// Unmarshal implements encoding.CodecV2.
func (codec) Unmarshal(in mem.BufferSlice, v any) error {
	f, ok := v.(*frame)
	if !ok {
		return fmt.Errorf("a tunnel does not receive %T", v)
	}
	*f = frame{}
	var start [1 + binary.MaxVarintLen64]byte
	head := start[:in.CopyTo(start[:])]
	if len(head) == 0 {
		return nil
	}
	if num, kind, tag := protowire.ConsumeTag(head); tag > 0 && num == fieldData && kind == protowire.BytesType {
		n, size := protowire.ConsumeVarint(head[tag:])
		if size > 0 && uint64(in.Len()-tag-size) == n {
			in.Ref()
			f.data, f.skip = in, tag+size
			return nil
		}
	}
	return f.parse(in.Materialize())
}

// parse reads a message that is not data alone.
func (f *frame) parse(text []byte) error {
	for len(text) > 0 {
		num, kind, n := protowire.ConsumeTag(text)
		if n < 0 {
			return fmt.Errorf("a tunnel's message: %w", protowire.ParseError(n))
		}
		text = text[n:]
		switch {
		case num == fieldOpenOrEnd && kind == protowire.BytesType:
			value, size := protowire.ConsumeBytes(text)
			f.open = &pb.TunnelOpen{}
			if size < 0 || proto.Unmarshal(value, f.open) != nil {
				return fmt.Errorf("a tunnel's first message cannot be read")
			}
			n = size
		case num == fieldOpenOrEnd && kind == protowire.VarintType:
			value, size := protowire.ConsumeVarint(text)
			f.end, n = value != 0, size
		case num == fieldData && kind == protowire.BytesType:
			value, size := protowire.ConsumeBytes(text)
			if size > 0 && len(value) > 0 {
				f.data = mem.BufferSlice{mem.SliceBuffer(value)}
			}
			n = size
		default:
			n = protowire.ConsumeFieldValue(num, kind, text)
		}
		if n < 0 {
			return fmt.Errorf("a tunnel's message: %w", protowire.ParseError(n))
		}
		text = text[n:]
	}
	return nil
}

// writeTo writes what a received frame carries and frees it.
func (f *frame) writeTo(conn net.Conn) error {
	defer f.data.Free()
	parts := make(net.Buffers, 0, len(f.data))
	skip := f.skip
	for _, b := range f.data {
		part := b.ReadOnlyData()
		if skip >= len(part) {
			skip -= len(part)
			continue
		}
		parts, skip = append(parts, part[skip:]), 0
	}
	_, err := parts.WriteTo(conn)
	return err
}

// chunk is how much is read from a socket for one message. More saves work per byte; less lets the other end begin
// sooner. A quarter MiB was as fast as 1 MiB.
const chunk = 256 << 10

// chunks is a pool of buffers of one size. gRPC's own clears what it hands out.
type chunks struct{ pool sync.Pool }

var buffers = &chunks{pool: sync.Pool{New: func() any { b := make([]byte, chunk); return &b }}}

// Get implements mem.BufferPool.
func (c *chunks) Get(n int) *[]byte {
	b, ok := c.pool.Get().(*[]byte)
	if !ok || n > chunk {
		fresh := make([]byte, n)
		return &fresh
	}
	*b = (*b)[:n]
	return b
}

// Put implements mem.BufferPool.
func (c *chunks) Put(b *[]byte) {
	if cap(*b) >= chunk {
		*b = (*b)[:chunk]
		c.pool.Put(b)
	}
}
