package rpc

import (
	"context"
	"crypto/tls"
	"net"
	"sync"

	"google.golang.org/grpc/credentials"
)

// record is how much TLS encrypts, and writes, at a time.
const record = 16 << 10

// gatherMost bounds what is gathered: what gRPC writes at once, with what TLS adds to its records.
const gatherMost = IOBuffer + IOBuffer/record*64

// BulkTLS returns credentials of a client that sends much. What gRPC writes at once goes to the kernel at once, and not
// by the records of TLS, each of which would pass the kernel's whole network stack by itself: that was a quarter of the
// processor time of a live migration's memory.
func BulkTLS(config *tls.Config) credentials.TransportCredentials {
	config = config.Clone()
	config.DynamicRecordSizingDisabled = true
	return &bulkCredentials{credentials.NewTLS(config)}
}

type bulkCredentials struct {
	credentials.TransportCredentials
}

// Clone implements credentials.TransportCredentials.
func (c *bulkCredentials) Clone() credentials.TransportCredentials {
	return &bulkCredentials{c.TransportCredentials.Clone()}
}

// ClientHandshake implements credentials.TransportCredentials.
func (c *bulkCredentials) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	below := &gathering{Conn: raw}
	conn, info, err := c.TransportCredentials.ClientHandshake(ctx, authority, below)
	if err != nil {
		return nil, nil, err
	}
	return &gathered{conn, below}, info, nil
}

// gathered is a TLS connection above a gathering one: one Write is one write to the kernel. Only one goroutine writes at
// a time, as gRPC does.
type gathered struct {
	net.Conn
	below *gathering
}

// Write implements net.Conn.
func (c *gathered) Write(b []byte) (int, error) {
	c.below.begin(len(b))
	n, err := c.Conn.Write(b)
	if ferr := c.below.finish(); err == nil && ferr != nil {
		return 0, ferr
	}
	return n, err
}

// Close implements net.Conn. What waits to be written to an end that does not read does not hold it up.
func (c *gathered) Close() error {
	if !c.below.mu.TryLock() {
		_ = c.below.Conn.Close() // TLS would wait for its turn to say farewell
		return c.Conn.Close()
	}
	c.below.mu.Unlock()
	return c.Conn.Close()
}

// gathering is a connection that keeps what is written between begin and finish together.
type gathering struct {
	net.Conn

	// mu: TLS may answer a message of its own kind (a change of keys) from the reading goroutine.
	mu      sync.Mutex
	holding bool
	buf     []byte
}

// begin gathers from here on; n is how much will be written above TLS. What fits into a record is not worth it.
func (c *gathering) begin(n int) {
	if n <= record {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.buf == nil {
		c.buf = make([]byte, 0, gatherMost)
	}
	c.holding = true
}

// finish writes what was gathered.
func (c *gathering) finish() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.holding = false
	return c.flush()
}

func (c *gathering) flush() error {
	if len(c.buf) == 0 {
		return nil
	}
	_, err := c.Conn.Write(c.buf)
	c.buf = c.buf[:0]
	return err
}

// Write implements net.Conn.
func (c *gathering) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.holding {
		return c.Conn.Write(b)
	}
	if len(c.buf)+len(b) > cap(c.buf) {
		if err := c.flush(); err != nil {
			return 0, err
		}
	}
	if len(b) > cap(c.buf) {
		return c.Conn.Write(b)
	}
	c.buf = append(c.buf, b...)
	return len(b), nil
}
