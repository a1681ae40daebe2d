package main

import (
	"bufio"
	"context"
	"fmt"
	"time"

	"github.com/holdfast-ha/holdfast/console/ui"
)

// plain runs the console without a full screen: a line for each change, and what is typed is a command.
func (p program) plain(ctx context.Context, m *ui.Model, s ui.Session) int {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	messages := make(chan any)
	send := func(msg any) bool {
		select {
		case messages <- msg:
			return true
		case <-ctx.Done():
			return false
		}
	}
	lines := ui.NewPlain(m)
	go func() {
		last := time.Time{}
		for {
			u, err := s.Next(last)
			last = p.now()
			if err != nil || !send(ui.News{Session: 1, At: last, Update: u}) {
				return
			}
		}
	}()
	go func() {
		in := bufio.NewScanner(p.in)
		for in.Scan() {
			if !send(ui.Typed(in.Text())) {
				return
			}
		}
	}()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return exitOK
		case <-tick.C:
			lines.Take(ui.Tick{Session: 1, At: p.now(), Link: s.Link()})
		case msg := <-messages:
			lines.Take(msg)
		}
		for _, e := range m.Take() {
			if !p.carryOut(e, s, send) {
				return exitOK
			}
		}
		for _, line := range lines.Lines() {
			fmt.Fprintln(p.out, line)
		}
	}
}

// carryOut does what the console wants; false: it wants to end.
func (p program) carryOut(e ui.Effect, s ui.Session, send func(any) bool) bool {
	switch e := e.(type) {
	case ui.Send:
		go func() {
			r, err := s.Call(e.Request)
			send(ui.Reply{Session: 1, At: p.now(), ID: e.ID, Message: r, Err: err})
		}()
	case ui.Ask:
		go func() {
			r, err := s.Call(e.Request)
			send(ui.Answer{Session: 1, At: p.now(), Topic: e.Topic, Message: r, Err: err})
		}()
	case ui.Reconnect:
		s.Reconnect()
	case ui.Quit:
		return false
	}
	return true
}
