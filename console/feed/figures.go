package feed

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

const (
	// figuresSilent is how long a stream of figures may say nothing: agents send every two seconds.
	figuresSilent = 10 * time.Second
	// figuresPause and figuresLastPause bound the pauses before figures are asked for again.
	figuresPause     = time.Second
	figuresLastPause = 30 * time.Second
	// figuresKept bounds what waits for somebody to take it.
	figuresKept = 30
)

// FigureSource is a Source that can also tell how busy servers and VMs are.
type FigureSource interface {
	// Figures opens a stream on the agent that is connected.
	Figures(ctx context.Context) (FigureStream, error)
}

// FigureStream is an open WatchFigures.
type FigureStream interface {
	Recv() (*pb.WatchFiguresResponse, error)
}

// Figures is what one message of WatchFigures said, and when.
type Figures struct {
	At      time.Time
	Message *pb.WatchFiguresResponse
}

var _ FigureSource = Agents{}

// Figures opens a stream of live figures.
func (a Agents) Figures(ctx context.Context) (FigureStream, error) {
	return pb.NewPoolServiceClient(a.Client).WatchFigures(ctx, &pb.WatchFiguresRequest{})
}

// followFigures collects figures until ctx ends. They matter less than the pool itself: their absence is no fault of
// the connection.
func (f *Feed) followFigures(ctx context.Context, src FigureSource) {
	pause := figuresPause
	for ctx.Err() == nil {
		heard, err := f.streamFigures(ctx, src)
		if heard {
			pause = figuresPause
		}
		if code := status.Code(err); code == codes.Unimplemented || code == codes.PermissionDenied {
			pause = figuresLastPause
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
		pause = min(2*pause, figuresLastPause)
	}
}

// streamFigures passes one stream on until it ends or is silent for too long.
func (f *Feed) streamFigures(ctx context.Context, src FigureSource) (heard bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	quiet := time.AfterFunc(figuresSilent, cancel)
	defer quiet.Stop()
	s, err := src.Figures(ctx)
	if err != nil {
		return false, err
	}
	for {
		r, err := s.Recv()
		if err != nil {
			return heard, err
		}
		heard = true
		quiet.Reset(figuresSilent)
		if len(r.GetServers()) == 0 {
			continue // what is missing grows old by itself
		}
		f.with(true, func() {
			if n := len(f.figures) - figuresKept + 1; n > 0 {
				f.figures = f.figures[n:]
			}
			f.figures = append(f.figures, Figures{At: time.Now(), Message: r})
		})
	}
}
