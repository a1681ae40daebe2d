package lab

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/holdfast-ha/holdfast/test/lab/inside"
)

// BMC serves the power switches of all servers over HTTP, as baseboard
// management controllers on a management network would, at Lab.Address: a server that is cut
// off or off itself can still be switched. Program fence_lab speaks to it.
//
// GET /power/SERVER answers "on" or "off"; POST /power/SERVER?action=off cuts
// the power and answers when it is off, action=on switches it on.
type BMC struct {
	lab    *Lab
	server *http.Server
	done   chan struct{}
}

// FenceAgent is the path of fence_lab, inside the servers and outside. It has
// the interface of the ClusterLabs fence agents: key=value lines on standard
// input, exit status 0, or 2 for a status of "off".
func (l *Lab) FenceAgent() string { return filepath.Join(l.opts.dataDir(), "bin", "fence_lab") }

// ServeBMC starts to listen; the lab must be up. Close it, or end ctx, before
// the lab goes down.
func (l *Lab) ServeBMC(ctx context.Context) (*BMC, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", fmt.Sprintf("%s:%d", l.Address(), inside.BMCPort))
	if err != nil {
		return nil, fmt.Errorf("serve power switches: %w", err)
	}
	b := &BMC{lab: l, done: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /power/{server}", b.answer(status))
	mux.HandleFunc("POST /power/{server}", b.answer(press))
	b.server = &http.Server{Addr: listener.Addr().String(), Handler: mux, ReadHeaderTimeout: 10 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx }}
	go func() {
		defer close(b.done)
		_ = b.server.Serve(listener) // ends with Close
	}()
	return b, nil
}

// Address is host and port of the service.
func (b *BMC) Address() string { return b.server.Addr }

// Close ends the service.
func (b *BMC) Close() {
	_ = b.server.Close()
	<-b.done
}

// answer finds the server and applies its switch's manners.
func (b *BMC) answer(do func(s *Server, r *http.Request) (string, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s, err := b.lab.Server(r.PathValue("server"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		if err := s.manners(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		text, err := do(s, r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		b.lab.opts.Log.Info("power switch", "server", s.Name(), "method", r.Method, "action", r.FormValue("action"), "result", text)
		_, _ = fmt.Fprintln(w, text)
	}
}

func status(s *Server, _ *http.Request) (string, error) {
	if s.On() {
		return "on", nil
	}
	return "off", nil
}

func press(s *Server, r *http.Request) (string, error) {
	var err error
	switch action := r.FormValue("action"); action {
	case "off":
		_, err = s.PowerOff(r.Context())
	case "on":
		// A server that is switched on outlives the request.
		err = s.PowerOn(context.WithoutCancel(r.Context()))
	default:
		err = fmt.Errorf("action %q: want on or off", action)
	}
	if err != nil {
		return "", err
	}
	return status(s, r)
}

// SetFence makes the server's power switch fail, or answer only after a delay.
func (s *Server) SetFence(fails bool, delay time.Duration) error {
	w, err := s.wants()
	if err != nil {
		return err
	}
	w.FenceFails, w.FenceDelay = fails, delay
	return s.setWants(w)
}

func (s *Server) manners(ctx context.Context) error {
	w, err := s.wants()
	if err != nil {
		return err
	}
	if w.FenceDelay > 0 {
		timer := time.NewTimer(w.FenceDelay)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
		}
	}
	if w.FenceFails {
		return fmt.Errorf("the power switch of %s does not work", s.Name())
	}
	return nil
}
