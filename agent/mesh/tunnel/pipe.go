package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"google.golang.org/grpc/mem"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// stream is one end of a gRPC stream, as the caller or the called sees it.
type stream interface {
	SendMsg(m any) error
	RecvMsg(m any) error
	Context() context.Context
}

// pipe carries bytes between a socket and a stream until both directions have ended, or one has failed. endSending
// ends the stream's sending direction. The socket is closed when it returns; the stream is the caller's to end. A
// reader that is left behind ends with the stream.
func pipe(conn *net.UnixConn, s stream, endSending func() error) error {
	defer func() { _ = conn.Close() }() // what matters was written, or has failed, before
	up, down := make(chan error, 1), make(chan error, 1)
	go func() { up <- toStream(conn, s, endSending) }()
	go func() { down <- toSocket(conn, s) }()
	for range 2 {
		var err error
		select {
		case err = <-up:
			up = nil
		case err = <-down:
			down = nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// toStream sends what comes from the socket.
func toStream(conn *net.UnixConn, s stream, endSending func() error) error {
	for {
		b := buffers.Get(chunk)
		n, err := conn.Read(*b)
		if n > 0 {
			*b = (*b)[:n]
			// gRPC frees the buffer, whether it sends it or not.
			if serr := s.SendMsg(&frame{data: mem.BufferSlice{mem.NewBuffer(b, buffers)}}); serr != nil {
				return sendFailure(s, serr)
			}
		} else {
			buffers.Put(b)
		}
		switch {
		case errors.Is(err, io.EOF):
			return endSending()
		case err != nil:
			return fmt.Errorf("read from the local socket: %w: %w", err, pool.ErrUnavailable)
		}
	}
}

// toSocket writes what comes out of the stream.
func toSocket(conn *net.UnixConn, s stream) error {
	ended := false
	for {
		var f frame
		err := s.RecvMsg(&f)
		if errors.Is(err, io.EOF) {
			if ended {
				return nil
			}
			return closeWrite(conn)
		}
		if err != nil {
			return err
		}
		if f.data != nil {
			if err := f.writeTo(conn); err != nil {
				return fmt.Errorf("write to the local socket: %w: %w", err, pool.ErrUnavailable)
			}
		}
		if f.end && !ended {
			ended = true
			if err := closeWrite(conn); err != nil {
				return err
			}
		}
	}
}

// sendFailure returns why a stream broke: a failed send only says that it has.
func sendFailure(s stream, err error) error {
	if !errors.Is(err, io.EOF) {
		return err
	}
	if cause := context.Cause(s.Context()); cause != nil {
		return cause
	}
	return fmt.Errorf("the other end has ended the tunnel: %w", pool.ErrUnavailable)
}

// closeWrite ends one direction of a socket. One that its owner has closed altogether needs no word of that.
func closeWrite(conn *net.UnixConn) error {
	if err := conn.CloseWrite(); err != nil && !closedAlready(err) {
		return fmt.Errorf("end the local socket: %w: %w", err, pool.ErrUnavailable)
	}
	return nil
}
