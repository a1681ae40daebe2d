package etcdtest

import (
	"bytes"
	"net"
	"regexp"
	"sync"
)

// fault says what a proxy does to the connections through it.
type fault struct {
	// holdIn and holdOut keep bytes to and from the member until they are cleared.
	holdIn, holdOut bool
	// refuse closes connections, old and new.
	refuse bool
}

// proxy passes connections from a loopback port on to a member's socket.
type proxy struct {
	listener net.Listener
	// held reports whether the connection of the peer with that ID (hex; empty: unknown) is cut as well.
	held func(from string) bool

	mu      sync.Mutex
	socket  string
	changed *sync.Cond
	fault   fault
	closed  bool
	conns   map[net.Conn]bool
	running sync.WaitGroup
}

func newProxy(socket string, held func(string) bool) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: l, socket: socket, held: held, conns: map[net.Conn]bool{}}
	p.changed = sync.NewCond(&p.mu)
	p.running.Go(p.accept)
	return p, nil
}

func (p *proxy) url() string { return "http://" + p.listener.Addr().String() }

// set changes the fault and wakes held connections.
func (p *proxy) set(change func(*fault)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.fault)
	if p.fault.refuse {
		p.drop()
	}
	p.changed.Broadcast()
}

// redirect passes connections to another socket from now on and ends those of now.
func (p *proxy) redirect(socket string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.socket = socket
	p.drop()
}

func (p *proxy) target() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.socket
}

// wake makes held connections look at held again.
func (p *proxy) wake() { p.set(func(*fault) {}) }

// cut closes the connections of now.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop()
}

func (p *proxy) drop() {
	for c := range p.conns {
		_ = c.Close()
	}
}

func (p *proxy) close() {
	_ = p.listener.Close()
	p.mu.Lock()
	p.closed = true
	p.drop()
	p.changed.Broadcast()
	p.mu.Unlock()
	p.running.Wait()
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		if !p.add(client) {
			continue
		}
		p.running.Go(func() { p.serve(client) })
	}
}

func (p *proxy) serve(client net.Conn) {
	defer p.remove(client)
	member, err := net.Dial("unix", p.target())
	if err != nil || !p.add(member) {
		return
	}
	defer p.remove(member)
	from := &origin{}
	both := sync.WaitGroup{}
	both.Go(func() { p.copy(member, client, from, func(f fault) bool { return f.holdIn }) })
	both.Go(func() { p.copy(client, member, from, func(f fault) bool { return f.holdOut }) })
	both.Wait()
}

// add takes a connection on, or closes it.
func (p *proxy) add(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.fault.refuse {
		_ = c.Close()
		return false
	}
	p.conns[c] = true
	return true
}

func (p *proxy) remove(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	_ = c.Close()
}

// copy passes bytes on until one side ends, then ends the other.
func (p *proxy) copy(to, from net.Conn, who *origin, hold func(fault) bool) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		who.learn(buffer[:n])
		if n > 0 && !p.pass(who, hold) {
			return
		}
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// pass waits while bytes are held back; false once the proxy is closed.
func (p *proxy) pass(who *origin, hold func(fault) bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.closed && (hold(p.fault) || p.held(who.id())) {
		p.changed.Wait()
	}
	return !p.closed
}

// origin finds out which peer speaks on a connection: rafthttp puts its member ID into each request.
type origin struct {
	mu   sync.Mutex
	name string
	seen []byte
}

var fromHeader = regexp.MustCompile(`(?i)X-Server-From: ([0-9a-f]+)\r\n`)

func (o *origin) learn(b []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.name != "" || len(o.seen) > 4<<10 {
		return
	}
	o.seen = append(o.seen, b...)
	if m := fromHeader.FindSubmatch(o.seen); m != nil {
		o.name = string(bytes.ToLower(m[1]))
	}
}

func (o *origin) id() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.name
}
