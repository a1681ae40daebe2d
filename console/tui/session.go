package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/holdfast-ha/holdfast/console/contexts"
	"github.com/holdfast-ha/holdfast/console/feed"
	"github.com/holdfast-ha/holdfast/console/ui"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
)

// opener opens sessions of the pools that the configuration names.
type opener struct {
	ctx      context.Context //nolint:containedctx // the program's life, given to sessions that a key opens
	wish     contexts.Wish
	readOnly bool
}

func (o *opener) names() []string {
	file := o.wish.File
	if file == "" {
		file = contexts.Path(o.wish.Getenv)
	}
	return contexts.Names(file)
}

// window holds the first message of a large pool, and spares the questions about how fast the connection is.
const window = 4 << 20

// open opens the pool of that context; empty: the one that flags and environment name.
func (o *opener) open(name string) (ui.Session, ui.Pool, error) {
	wish := o.wish
	if name != "" {
		wish.Context, wish.Agents = name, ""
	}
	choice, err := contexts.Find(wish)
	if err != nil {
		return nil, ui.Pool{}, err
	}
	client, err := rpc.Dial(choice.Target, rpc.Limits{Window: window})
	if err != nil {
		return nil, ui.Pool{}, err
	}
	p := ui.Pool{Name: choice.Name, Label: choice.Label, ReadOnly: choice.ReadOnly || o.readOnly}
	switch {
	case o.readOnly:
		p.ReadOnlyWhy = "started with --read-only"
	case choice.ReadOnly:
		p.ReadOnlyWhy = choice.Why + " says read_only"
	}
	ctx, cancel := context.WithCancel(o.ctx)
	s := &session{ctx: ctx, cancel: cancel, client: client, feed: feed.New(feed.Agents{Client: client}), readOnly: p.ReadOnly, ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		s.feed.Run(ctx)
	}()
	return s, p, nil
}

// session is one pool over its agents.
type session struct {
	ctx      context.Context //nolint:containedctx // the session's life
	cancel   context.CancelFunc
	client   *rpc.Client
	feed     *feed.Feed
	readOnly bool
	ended    chan struct{}
}

var _ ui.Session = (*session)(nil)

// Next waits for news.
func (s *session) Next(last time.Time) (feed.Update, error) { return s.feed.Next(s.ctx, last) }

// Link is how the connection stands.
func (s *session) Link() feed.Link { return s.feed.Link() }

// Reconnect tries another agent.
func (s *session) Reconnect() { s.feed.Reconnect() }

// Call sends one request. A read-only session lets no change out, whatever asked for it.
func (s *session) Call(req proto.Message) (proto.Message, error) {
	if method := feed.Method(req); s.readOnly && !rpc.IsRead(method) {
		return nil, fmt.Errorf("read-only: nothing was sent: %w", pool.ErrInvalid)
	}
	return feed.Caller{Conn: s.client}.Call(s.ctx, req)
}

// Close ends the session.
func (s *session) Close() {
	s.cancel()
	<-s.ended
	_ = s.client.Close() // nothing is left to say to anybody
}

// requestID names a request, so that one whose answer was lost can be found again.
func requestID() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return "console-" + hex.EncodeToString(b)
}

// copy puts text on the terminal's clipboard (OSC 52). A terminal that does not know this ignores it.
func (p program) copy(text string) {
	const most = 64 << 10
	if len(text) > most {
		text = text[:most]
	}
	_, _ = fmt.Fprintf(p.out, "\x1b]52;c;%s\x07", base64.StdEncoding.EncodeToString([]byte(text))) // a lost terminal ends the program anyway
}
