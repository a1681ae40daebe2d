package ui

import (
	"time"

	tea "github.com/charmbracelet/bubbletea"
)

// Program is a Model as bubbletea runs it: it turns effects into commands and key presses into Keys.
type Program struct {
	*Model
}

var _ tea.Model = Program{}

// Init begins to listen to the pool and to the clock.
func (p Program) Init() tea.Cmd { return tea.Batch(p.listen(), p.tick()) }

// Update takes one message of the terminal or of the pool.
func (p Program) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	var again tea.Cmd
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		p.Reduce(Size{msg.Width, msg.Height})
	case tea.KeyMsg:
		for _, k := range keysOf(msg, p.ports.Now()) {
			p.Reduce(k)
		}
	case News:
		p.Reduce(msg)
		if msg.Session == p.sessionNo {
			again = p.listen()
		}
	case Tick:
		p.Reduce(msg)
		again = p.tick()
	case Opened:
		p.Reduce(msg)
		if msg.Err == nil {
			again = p.listen()
		}
	case Reply, Answer:
		p.Reduce(msg)
	case tea.ResumeMsg:
		again = tea.Batch(tea.ClearScreen, tea.WindowSize())
	}
	cmds := []tea.Cmd{again}
	for _, e := range p.Take() {
		cmds = append(cmds, p.carryOut(e))
	}
	return p, tea.Batch(cmds...)
}

// keysOf names key presses. What is typed fast comes as one message and is taken apart again; a paste stays whole.
func keysOf(k tea.KeyMsg, at time.Time) []Key {
	switch {
	case k.Paste:
		return []Key{{Name: "paste", Text: string(k.Runes), At: at}}
	case k.Type != tea.KeyRunes && k.Type != tea.KeySpace || k.Alt:
		return []Key{{Name: k.String(), At: at}}
	}
	var out []Key
	for _, c := range k.Runes {
		out = append(out, Key{Name: string(c), Text: string(c), At: at})
	}
	return out
}

// listen waits for the pool's next news.
func (p Program) listen() tea.Cmd {
	s, no, last, now := p.session, p.sessionNo, p.now, p.ports.Now
	return func() tea.Msg {
		u, err := s.Next(last)
		if err != nil {
			return nil // the session was closed
		}
		return News{Session: no, At: now(), Update: u}
	}
}

// tick comes once a second, for ages.
func (p Program) tick() tea.Cmd {
	s, no, now := p.session, p.sessionNo, p.ports.Now
	return tea.Tick(time.Second, func(time.Time) tea.Msg { return Tick{Session: no, At: now(), Link: s.Link()} })
}

// carryOut makes a command of an effect.
func (p Program) carryOut(e Effect) tea.Cmd {
	s, no, now := p.session, p.sessionNo, p.ports.Now
	switch e := e.(type) {
	case Send:
		return func() tea.Msg {
			r, err := s.Call(e.Request)
			return Reply{Session: no, At: now(), ID: e.ID, Message: r, Err: err}
		}
	case Ask:
		return func() tea.Msg {
			r, err := s.Call(e.Request)
			return Answer{Session: no, At: now(), Topic: e.Topic, Message: r, Err: err}
		}
	case Copy:
		to := p.ports.Copy
		return func() tea.Msg { to(e.Text); return nil }
	case Reconnect:
		return func() tea.Msg { s.Reconnect(); return nil }
	case Open:
		open := p.ports.Open
		return func() tea.Msg {
			fresh, pool, err := open(e.Context)
			return Opened{Session: fresh, Pool: pool, Err: err}
		}
	case closeSession:
		return func() tea.Msg { e.session.Close(); return nil }
	case Suspend:
		return tea.Suspend
	case Quit:
		return tea.Quit
	}
	return nil
}
