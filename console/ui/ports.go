package ui

import (
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/holdfast-ha/holdfast/console/feed"
)

// Session is one pool that the console shows. Its methods are called outside of Update and may block; they are safe
// for concurrent use.
type Session interface {
	// Next waits for news, at least a tenth of a second after the last ones. It fails once the session is closed.
	Next(last time.Time) (feed.Update, error)
	// Link is how the connection stands now.
	Link() feed.Link
	// Call sends one request, once.
	Call(request proto.Message) (proto.Message, error)
	// Reconnect tries another agent at once.
	Reconnect()
	// Close ends all of it.
	Close()
}

// Pool says which pool a session shows.
type Pool struct {
	// Name is the context's name, empty without one; Label is shown with every question, such as PROD.
	Name, Label string
	// ReadOnly lets no change through; ReadOnlyWhy says who wants it so.
	ReadOnly    bool
	ReadOnlyWhy string
}

// Ports are what the console may do to the world besides talking to a pool.
type Ports struct {
	// Now is the wall clock with its monotonic reading; its location is the one shown.
	Now func() time.Time
	// Contexts lists the pools that can be opened, and Open opens one.
	Contexts func() []string
	Open     func(name string) (Session, Pool, error)
	// Copy puts text on the terminal's clipboard.
	Copy func(text string)
	// RequestID makes a new name for a request.
	RequestID func() string
}

// Effect is something that a Model wants done. Update turns effects into commands; tests read them.
type Effect interface{ effect() }

type (
	// Send asks the pool for a change, once. The answer comes as a Reply with the same ID.
	Send struct {
		ID      string
		Request proto.Message
	}
	// Ask asks the pool something. The answer comes as an Answer with the same Topic.
	Ask struct {
		Topic   string
		Request proto.Message
	}
	// Copy puts text on the clipboard.
	Copy struct{ Text string }
	// Reconnect tries another agent at once.
	Reconnect struct{}
	// Open switches to another pool.
	Open struct{ Context string }
	// Quit ends the console.
	Quit struct{}
	// Suspend stops the console until the shell resumes it.
	Suspend struct{}
)

func (Send) effect()      {}
func (Ask) effect()       {}
func (Copy) effect()      {}
func (Reconnect) effect() {}
func (Open) effect()      {}
func (Quit) effect()      {}
func (Suspend) effect()   {}

type (
	// News is an update of the feed of session number Session.
	News struct {
		Session int
		At      time.Time
		Update  feed.Update
	}
	// Tick comes once a second, for ages and freshness.
	Tick struct {
		Session int
		At      time.Time
		Link    feed.Link
	}
	// Reply is the answer to a Send.
	Reply struct {
		Session int
		At      time.Time
		ID      string
		Message proto.Message
		Err     error
	}
	// Answer is the answer to an Ask.
	Answer struct {
		Session int
		At      time.Time
		Topic   string
		Message proto.Message
		Err     error
	}
	// Opened is the outcome of an Open.
	Opened struct {
		Session Session
		Pool    Pool
		Err     error
	}
	// Key is a key press, by its name: "a", "enter", "ctrl+c". Text is what it types, if anything.
	Key struct {
		Name, Text string
		At         time.Time
	}
	// Size is the terminal's size.
	Size struct{ Width, Height int }
)
