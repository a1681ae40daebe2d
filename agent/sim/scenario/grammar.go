package scenario

import (
	"fmt"
	"slices"
	"strings"
)

// form is one fault or command: its literal words, then its operands.
type form struct {
	kind  Kind
	words string
}

// forms is the grammar of faults and commands. SERVER, VM, DURATION, GROUPS and SETTINGS are operands.
var forms = []form{
	{Fault, "power off SERVER"}, {Fault, "power on SERVER"},
	{Fault, "cut SERVER"}, {Fault, "cut SERVER etcd"}, {Fault, "cut SERVER peers"}, {Fault, "cut SERVER from SERVER"},
	{Fault, "cut etcd to SERVER"}, {Fault, "cut SERVER to etcd"}, {Fault, "cut SERVER to SERVER"},
	{Fault, "heal all"}, {Fault, "heal SERVER"}, {Fault, "split GROUPS"},
	{Fault, "etcd down"}, {Fault, "etcd up"}, {Fault, "etcd freeze SERVER"}, {Fault, "etcd thaw SERVER"},
	{Fault, "etcd delete claim VM"}, {Fault, "etcd forge claim VM SERVER"}, {Fault, "etcd forge claim VM SERVER held"}, {Fault, "etcd forge release VM"},
	{Fault, "etcd rollback claim VM"},
	{Fault, "etcd delete member SERVER"}, {Fault, "etcd revoke lease SERVER"},
	{Fault, "agent kill SERVER"}, {Fault, "agent start SERVER"}, {Fault, "agent hang SERVER"},
	{Fault, "agent resume SERVER"}, {Fault, "agent stop SERVER"}, {Fault, "agent restart SERVER"}, {Fault, "agent upgrade SERVER"},
	{Fault, "guard kill SERVER"}, {Fault, "guard hang SERVER"}, {Fault, "guard start SERVER"},
	{Fault, "libvirtd kill SERVER"}, {Fault, "libvirtd start SERVER"},
	{Fault, "storage off SERVER"}, {Fault, "storage on SERVER"},
	{Fault, "vm crash VM"}, {Fault, "guest shutdown VM"}, {Fault, "guest panic VM"},
	{Fault, "snapshot VM"}, {Fault, "commit start VM"}, {Fault, "commit pivot VM"},
	{Fault, "fence fails SERVER"}, {Fault, "fence works SERVER"}, {Fault, "slow SERVER DURATION"},

	{Command, "maintenance enter SERVER"}, {Command, "maintenance exit SERVER"},
	{Command, "inbound-lock on SERVER"}, {Command, "inbound-lock off SERVER"},
	{Command, "migrate VM SERVER"}, {Command, "migrate VM"}, {Command, "relocate VM SERVER"}, {Command, "operation cancel"},
	{Command, "start VM"}, {Command, "stop VM"}, {Command, "kill VM"}, {Command, "restart VM"}, {Command, "clear VM"},
	{Command, "remove VM"}, {Command, "add NEW SETTINGS"},
	{Command, "ha on"}, {Command, "ha off"}, {Command, "ha on VM"}, {Command, "ha off VM"},
	{Command, "freeze"}, {Command, "unfreeze"}, {Command, "shutdown SERVER"}, {Command, "reboot SERVER"},
	{Command, "remove-server SERVER"}, {Command, "confirm-fenced SERVER"},
	{Command, "set pool SETTINGS"}, {Command, "set VM SETTINGS"},
}

// Forms lists every fault and operator command in the language's own words, for help and completion.
func Forms(k Kind) []string {
	var out []string
	for _, f := range forms {
		if f.kind == k {
			out = append(out, f.words)
		}
	}
	return out
}

func isOperand(w string) bool { return w == strings.ToUpper(w) }

// verb returns the literal words.
func (f form) verb() string {
	var lit []string
	for w := range strings.FieldsSeq(f.words) {
		if !isOperand(w) {
			lit = append(lit, w)
		}
	}
	return strings.Join(lit, " ")
}

// fits reports how many leading tokens agree with the form's literal words, and whether the number of tokens does.
func (f form) fits(tokens []token) (agree int, ok bool) {
	words := strings.Fields(f.words)
	open := slices.Contains(words, "SETTINGS") || slices.Contains(words, "GROUPS")
	for i, w := range words {
		if i >= len(tokens) {
			return agree, w == "SETTINGS"
		}
		if !isOperand(w) && (tokens[i].quoted || tokens[i].text != w) {
			return agree, false
		}
		agree++
	}
	return agree, open || len(tokens) == len(words)
}

// action reads a fault or command.
func (p *parser) action(st *Statement, tokens []token) error {
	best := -1
	for _, f := range forms {
		agree, ok := f.fits(tokens)
		if ok {
			st.Kind, st.Verb = f.kind, f.verb()
			return p.operands(st, f, tokens)
		}
		best = max(best, agree)
	}
	return p.unknownAction(tokens, best)
}

// unknownAction says how far a statement was understood and what could follow.
func (p *parser) unknownAction(tokens []token, best int) error {
	var could []string
	for _, f := range forms {
		if agree, _ := f.fits(tokens); agree == best {
			words := strings.Fields(f.words)
			next := "the end of the line"
			if best < len(words) {
				next = words[best]
			}
			if !slices.Contains(could, next) {
				could = append(could, next)
			}
		}
	}
	if best == 0 {
		return fmt.Errorf("unknown statement %q; %s", shorten(tokens[0].text), p.couldBe(tokens[0].text))
	}
	got := "the end of the line"
	if best < len(tokens) {
		got = fmt.Sprintf("%q", shorten(tokens[best].text))
	}
	return fmt.Errorf("understood %q, then expected %s, found %s", shorten(joined(tokens[:best])), strings.Join(could, " or "), got)
}

// couldBe lists the words that a statement may begin with, or the one that was probably meant.
func (p *parser) couldBe(word string) string {
	words := []string{"pool", "servers", "server", "vm", "at", "after", "by", "expect", "hold", "never"}
	for _, f := range forms {
		if first, _, _ := strings.Cut(f.words, " "); !slices.Contains(words, first) {
			words = append(words, first)
		}
	}
	for _, w := range words {
		if alike(strings.ToLower(word), w) {
			return "did you mean " + w + "?"
		}
	}
	return "statements begin with " + strings.Join(words, ", ")
}

// alike reports whether one word could be the other, mistyped: they differ in at most one letter, or one begins with the other.
func alike(a, b string) bool {
	if len(a) > 2 && len(b) > 2 && (strings.HasPrefix(a, b) || strings.HasPrefix(b, a)) {
		return true
	}
	if len(a) > len(b) {
		a, b = b, a
	}
	if len(a) < 3 && a != b || len(b)-len(a) > 1 {
		return a == b
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	if len(a) == len(b) {
		return i == len(a) || a[i+1:] == b[i+1:]
	}
	return a[i:] == b[i+1:]
}

func joined(tokens []token) string {
	var words []string
	for _, t := range tokens {
		if t.quoted {
			words = append(words, `"`+t.text+`"`)
			continue
		}
		words = append(words, t.text)
	}
	return strings.Join(words, " ")
}

// operands reads what the form's upper-case words stand for.
func (p *parser) operands(st *Statement, f form, tokens []token) error {
	for i, w := range strings.Fields(f.words) {
		var err error
		switch w {
		case "SERVER":
			err = p.serverOperand(st, tokens[i])
		case "VM":
			st.VM = tokens[i].text
			err = p.knownVM(tokens[i])
		case "NEW":
			st.VM = tokens[i].text
			err = p.newName("vm", tokens[i])
		case "DURATION":
			st.Length, err = parseDuration(tokens[i].text)
		case "GROUPS":
			st.Groups, err = p.groups(tokens[i:])
		case "SETTINGS":
			err = p.settings(st, tokens[i:])
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f.verb(), err)
		}
	}
	return nil
}

func (p *parser) serverOperand(st *Statement, t token) error {
	if st.Server == "" {
		st.Server = t.text
	} else {
		st.Other = t.text
		if st.Other == st.Server {
			return fmt.Errorf("server %s is named twice", st.Server)
		}
	}
	if t.text == "leader" && !t.quoted {
		return nil
	}
	return p.knownServer(t)
}

func (p *parser) settings(st *Statement, tokens []token) (err error) {
	if st.Settings, err = settingsOf(tokens); err != nil {
		return err
	}
	if len(st.Settings) == 0 && st.Verb != "add" {
		return fmt.Errorf("expected KEY=VALUE")
	}
	switch st.Verb {
	case "add":
		st.New, err = p.newVM(st.VM, st.Settings, st.Line)
		return err
	case "set pool":
		return p.checkPoolSettings(st.Settings)
	}
	return p.checkVMSettings(st.Settings)
}

// groups reads A,B / C,D,E.
func (p *parser) groups(tokens []token) ([][]string, error) {
	var out [][]string
	seen := map[string]bool{}
	for part := range strings.SplitSeq(joined(tokens), "/") {
		names, err := parseNames(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		for _, n := range names {
			if err := p.knownServer(token{text: n}); err != nil && n != "leader" {
				return nil, err
			}
			if seen[n] {
				return nil, fmt.Errorf("server %s is in two groups", n)
			}
			seen[n] = true
		}
		out = append(out, names)
	}
	if len(out) < 2 {
		return nil, fmt.Errorf("expected groups, such as A,B / C,D,E")
	}
	if _, ok := Larger(out); !ok {
		return nil, fmt.Errorf("no group is larger than every other, so it is not clear which keeps etcd")
	}
	return out, nil
}

// Larger returns the index of the group that is larger than every other; ok is false if there is none.
func Larger(groups [][]string) (index int, ok bool) {
	for i, g := range groups {
		switch {
		case i == 0 || len(g) > len(groups[index]):
			index, ok = i, true
		case len(g) == len(groups[index]):
			ok = false
		}
	}
	return index, ok
}
