package lab

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Cut is one way of cutting a server off.
type Cut string

// The cuts. CutFrom makes the one that concerns a single other server.
const (
	// CutAll pulls the network cable: nothing gets in or out, storage stays.
	CutAll Cut = "all"
	// CutEtcd blocks the etcd ports between this server and the others, both ways.
	CutEtcd Cut = "etcd"
	// CutPeers blocks the agents' port between this server and the others.
	CutPeers Cut = "peers"
	// CutIn and CutOut block one direction of everything.
	CutIn  Cut = "in"
	CutOut Cut = "out"
)

// CutFrom blocks everything between this server and one other.
func CutFrom(server string) Cut { return Cut("from " + server) }

// ParseCut reads the words after `cut SERVER`: none, "etcd", "peers", "in",
// "out" or "from SERVER".
func ParseCut(words ...string) (Cut, error) {
	c := Cut(strings.Join(words, " "))
	switch {
	case c == "":
		return CutAll, nil
	case slices.Contains([]Cut{CutAll, CutEtcd, CutPeers, CutIn, CutOut}, c):
		return c, nil
	case len(words) == 2 && words[0] == "from":
		return c, nil
	}
	return "", fmt.Errorf("cut %q: want etcd, peers, in, out, from SERVER or nothing", c)
}

// filterTable is the nftables table that the lab owns inside a server.
const filterTable = "inet holdfast_lab"

// rules renders the cuts as an nftables script that replaces the lab's table.
// Everything is dropped silently, as a broken network does: no reset, no ICMP.
func (o Options) rules(cuts []Cut, address func(server string) (string, error)) (string, error) {
	var in, out []string
	both := func(rule string, args ...any) {
		in, out = append(in, fmt.Sprintf(rule, args...)), append(out, fmt.Sprintf(rule, args...))
	}
	for _, c := range cuts {
		switch c {
		case CutAll: // done at the switch
		case CutEtcd:
			both("tcp dport { %[1]s } drop", ports(o.EtcdPorts))
			both("tcp sport { %[1]s } drop", ports(o.EtcdPorts))
		case CutPeers:
			both("tcp dport { %[1]s } drop", ports(o.PeerPorts))
			both("tcp sport { %[1]s } drop", ports(o.PeerPorts))
		case CutIn:
			in = append(in, "drop")
		case CutOut:
			out = append(out, "drop")
		default:
			ip, err := address(strings.TrimPrefix(string(c), "from "))
			if err != nil {
				return "", err
			}
			in, out = append(in, "ip saddr "+ip+" drop"), append(out, "ip daddr "+ip+" drop")
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "table %[1]s {\n}\ndelete table %[1]s\n", filterTable)
	if len(in)+len(out) > 0 {
		fmt.Fprintf(&b, "table %s {\n", filterTable)
		chain(&b, "input", "iifname", in)
		chain(&b, "output", "oifname", out)
		b.WriteString("}\n")
	}
	return b.String(), nil
}

func chain(b *strings.Builder, hook, match string, rules []string) {
	fmt.Fprintf(b, "  chain %[1]s {\n    type filter hook %[1]s priority 0\n    policy accept\n    %[2]s \"lo\" accept\n", hook, match)
	for _, r := range rules {
		fmt.Fprintf(b, "    %s\n", r)
	}
	b.WriteString("  }\n")
}

func ports(list []int) string {
	words := make([]string, len(list))
	for i, p := range list {
		words[i] = strconv.Itoa(p)
	}
	return strings.Join(words, ", ")
}

// Cut adds a cut. It stays over power cuts until it is healed.
func (s *Server) Cut(ctx context.Context, c Cut) error {
	return s.changeCuts(ctx, func(cuts []Cut) []Cut {
		if slices.Contains(cuts, c) {
			return cuts
		}
		return append(cuts, c)
	})
}

// Heal mends the given cuts, or with none given all that the server has.
func (s *Server) Heal(ctx context.Context, mend ...Cut) error {
	return s.changeCuts(ctx, func(cuts []Cut) []Cut {
		return slices.DeleteFunc(cuts, func(c Cut) bool { return len(mend) == 0 || slices.Contains(mend, c) })
	})
}

func (s *Server) changeCuts(ctx context.Context, change func([]Cut) []Cut) error {
	wants, err := s.wants()
	if err != nil {
		return err
	}
	wants.Cuts = change(wants.Cuts)
	if err := s.setWants(wants); err != nil {
		return err
	}
	if !s.On() {
		return nil
	}
	return s.applyCuts(ctx, wants.Cuts)
}

// applyCuts makes the running server's network what cuts say.
func (s *Server) applyCuts(ctx context.Context, cuts []Cut) error {
	port := portForwarding
	if slices.Contains(cuts, CutAll) {
		port = portDisabled
	}
	if err := s.lab.opts.setPort(ctx, s.number, port); err != nil {
		return err
	}
	script, err := s.lab.opts.rules(cuts, s.lab.addressOf)
	if err != nil {
		return err
	}
	pid, err := s.initPID()
	if err != nil {
		return err
	}
	_, err = run(ctx, script, "nsenter", "-t", strconv.Itoa(pid), "-n", "--", "nft", "-f", "-")
	return err
}

// LimitLink bounds what the server receives over the lab's network until it loses power: rate in tc's words, such as "1gbit".
func (s *Server) LimitLink(ctx context.Context, rate string) error {
	return s.lab.opts.limitLink(ctx, s.number, rate)
}

// Cuts lists the server's cuts.
func (s *Server) Cuts() ([]Cut, error) {
	w, err := s.wants()
	return w.Cuts, err
}
