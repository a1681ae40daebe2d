package api

import (
	"fmt"
	"time"

	"google.golang.org/grpc"

	"github.com/holdfast-ha/holdfast/agent/figures"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Figures hears how busy the members are while somebody watches.
type Figures interface {
	// Watch has it listen until the returned function is called.
	Watch() (leave func())
	// Read returns what is known of each member, in name order.
	Read() []figures.Heard
}

const (
	// figuresSoon is when the first figures of a watch are sent: by then they have come if they come at all.
	figuresSoon = time.Second
	// silentAfter is the age from which a measurement is not the present any more.
	silentAfter = 3 * figures.Period
)

// WatchFigures streams how busy servers and VMs are.
func (s *Server) WatchFigures(_ *pb.WatchFiguresRequest, stream grpc.ServerStreamingServer[pb.WatchFiguresResponse]) error {
	if s.cfg.Figures == nil {
		return fmt.Errorf("this agent hears no figures: %w", pool.ErrUnavailable)
	}
	if _, err := s.snapshot(); err != nil {
		return err
	}
	defer s.cfg.Figures.Watch()()
	ctx := stream.Context()
	sent := map[pool.ServerID]*pb.ServerFigures{}
	for wait := figuresSoon; ; wait = figures.Period {
		if err := stream.Send(s.newFigures(sent)); err != nil {
			return err
		}
		if err := s.cfg.Clock.Sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// newFigures is what has come since sent, which it brings up to date, and who is silent.
func (s *Server) newFigures(sent map[pool.ServerID]*pb.ServerFigures) *pb.WatchFiguresResponse {
	out := &pb.WatchFiguresResponse{ServedBy: string(s.cfg.Server)}
	now := s.cfg.Clock.Now()
	for _, h := range s.cfg.Figures.Read() {
		switch {
		case h.Figures == nil || now.Sub(h.At) > silentAfter:
			why := "not heard yet"
			if h.Err != nil {
				why = h.Err.Error()
			} else if h.Figures != nil {
				why = fmt.Sprintf("not heard for %s", now.Sub(h.At).Round(time.Second))
			}
			out.Silent = append(out.Silent, &pb.SilentServer{Server: string(h.Server), Reason: why})
		case sent[h.Server] != h.Figures:
			sent[h.Server] = h.Figures
			out.Servers = append(out.Servers, h.Figures)
		}
	}
	return out
}
