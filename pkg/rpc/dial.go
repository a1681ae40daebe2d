package rpc

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Target says which agents to talk to, and how.
type Target struct {
	// Agents are host:port of agents of one pool; any of them will do, and they are tried in this order.
	Agents []string
	// TLS is how to authenticate both ends. Nil means plaintext, which is accepted for loopback addresses only.
	TLS *tls.Config
}

// Validate reports the first thing that cannot work. Plaintext to another machine is refused here, and once more
// when the address has been resolved.
func (t Target) Validate() error {
	if len(t.Agents) == 0 {
		return fmt.Errorf("no agent to talk to: name at least one as host:port: %w", pool.ErrInvalid)
	}
	for _, a := range t.Agents {
		host, port, err := net.SplitHostPort(a)
		if err != nil || host == "" || port == "" {
			return fmt.Errorf("agent %q: write host:port, such as srv-1:7400: %w", a, pool.ErrInvalid)
		}
		if t.TLS == nil && !loopback(host) {
			return fmt.Errorf("agent %s: without certificates only an agent on this machine's loopback can be talked to; configure a context with ca, cert and key: %w",
				a, pool.ErrInvalid)
		}
	}
	return nil
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// Limits bound the calls of a Client. The zero value of a field means its default.
type Limits struct {
	// Connect bounds the search for an agent that answers: 3 s.
	Connect time.Duration
	// Stagger is how long one agent has before the next is tried beside it: 250 ms. Less finds a living agent
	// sooner, more spares the others useless connections.
	Stagger time.Duration
	// Read bounds one attempt of a call that changes nothing, before the next agent is asked: 5 s.
	Read time.Duration
	// Write bounds a call that changes something: 60 s, as a registration asks every server. Its outcome is
	// unknown when that has passed.
	Write time.Duration
	// Window is how many bytes an agent may send before they are read: at first 64 KiB, and then what gRPC finds
	// useful by asking the agent at nearly every message. Whoever reads without end saves that with a window of its own.
	Window int32
}

// maxReply is the largest message accepted: a snapshot of 10,000 VMs with their XML stays below it.
const maxReply = 256 << 20

func (l Limits) withDefaults() Limits {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&l.Connect, 3 * time.Second}, {&l.Stagger, 250 * time.Millisecond}, {&l.Read, 5 * time.Second}, {&l.Write, time.Minute}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	return l
}

// Client talks to whichever agent of a pool answers. It is a grpc.ClientConnInterface, so the generated clients
// work on it. It follows these rules:
//
//   - A call that changes nothing (IsRead) goes to the next agent when one is unavailable or silent.
//   - A call that changes something is sent once. It goes to another agent only if it was never sent, or if the
//     agent's own answer was UNAVAILABLE, which promises that nothing was changed. A broken connection or a
//     time-out on the way is pool.ErrOutcomeUnknown: the caller reads back before it acts.
//   - Errors are those of pkg/pool (see FromStatus), with the gRPC status inside.
//
// Safe for concurrent use.
type Client struct {
	limits Limits
	tls    *tls.Config

	mu        sync.Mutex
	preferred int
	// agents only grows: an agent's number stays its own.
	agents []*agent
	closed bool
}

// agent is one address and its connection, which gRPC makes when it is first used.
type agent struct {
	address string
	conn    *grpc.ClientConn
}

var _ grpc.ClientConnInterface = (*Client)(nil)

// Dial prepares a Client; it connects at the first call. Close frees it.
func Dial(t Target, l Limits) (*Client, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	c := &Client{limits: l.withDefaults(), tls: t.TLS}
	for _, address := range unique(t.Agents) {
		if err := c.add(address); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// add takes one more agent. c.mu is held, or nobody else has c yet.
func (c *Client) add(address string) error {
	conn, err := grpc.NewClient("passthrough:///"+address, dialOptions(c.tls, c.limits.Window)...)
	if err != nil {
		return fmt.Errorf("agent %s: %w", address, err)
	}
	c.agents = append(c.agents, &agent{address: address, conn: conn})
	return nil
}

// mostAgents bounds what is learnt: pools are smaller.
const mostAgents = 256

// Learn takes the addresses of more agents of the same pool, as the pool itself tells them. They are asked when those
// known before do not answer. What Dial would refuse, or is known already, is left out.
func (c *Client) Learn(addresses []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, address := range unique(addresses) {
		known := slices.ContainsFunc(c.agents, func(a *agent) bool { return a.address == address })
		if known || c.closed || len(c.agents) >= mostAgents || (Target{Agents: []string{address}, TLS: c.tls}).Validate() != nil {
			continue
		}
		_ = c.add(address) // an address that gRPC cannot read is none to ask
	}
}

// agent returns one by its number.
func (c *Client) agent(i int) *agent {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.agents[i]
}

func dialOptions(tlsConfig *tls.Config, window int32) []grpc.DialOption {
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	creds := insecure.NewCredentials()
	if tlsConfig != nil {
		creds = credentials.NewTLS(tlsConfig)
	} else {
		dialer.Control = loopbackOnly
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", address)
		}),
		grpc.WithNoProxy(),
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.3, MaxDelay: 2 * time.Second},
			MinConnectTimeout: 3 * time.Second,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxReply)),
	}
	if window > 0 {
		options = append(options, grpc.WithInitialWindowSize(window), grpc.WithInitialConnWindowSize(window))
	}
	return options
}

// loopbackOnly refuses a plaintext connection that would leave the machine, whatever the name resolved to.
func loopbackOnly(_, address string, _ syscall.RawConn) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("%s is not on this machine's loopback, and there are no certificates", address)
	}
	return nil
}

// Close ends all connections.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	var first error
	for _, a := range c.agents {
		if err := a.conn.Close(); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// Agents returns the addresses in the order in which they were given, those that were learnt last.
func (c *Client) Agents() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, a := range c.agents {
		out = append(out, a.address)
	}
	return out
}

// Agent returns the address that answered last, or that is asked first.
func (c *Client) Agent() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.agents[c.preferred].address
}

// prefer asks this agent first from now on.
func (c *Client) prefer(i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.preferred = i
}

// avoid asks another agent first from now on, if this one was the first.
func (c *Client) avoid(i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.preferred == i {
		c.preferred = (i + 1) % len(c.agents)
	}
}

// order lists agents' numbers, the preferred one first, without those in tried.
func (c *Client) order(tried []int) []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []int
	for k := range c.agents {
		if i := (c.preferred + k) % len(c.agents); !slices.Contains(tried, i) {
			out = append(out, i)
		}
	}
	return out
}

func unique(in []string) []string {
	var out []string
	for _, s := range in {
		if s = strings.TrimSpace(s); !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}
