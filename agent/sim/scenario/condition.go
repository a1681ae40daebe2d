package scenario

import (
	"fmt"
	"slices"
	"strings"
)

// condition reads a whole condition.
func (p *parser) condition(tokens []token) (Condition, error) {
	var out Condition
	tokens = splitEquals(tokens)
	or := false
	for {
		t, rest, err := p.term(tokens)
		if err != nil {
			return nil, err
		}
		t.Or = or
		out = append(out, t)
		if len(rest) == 0 {
			return out, nil
		}
		switch {
		case rest[0].quoted || (rest[0].text != "and" && rest[0].text != "or"):
			return nil, fmt.Errorf("after a condition: expected and, or, or the end of the line, found %q", shorten(rest[0].text))
		case len(rest) == 1:
			return nil, fmt.Errorf("expected a condition after %q", rest[0].text)
		}
		or = rest[0].text == "or"
		tokens = rest[1:]
	}
}

// splitEquals makes tokens of `starts=1` as of `starts = 1`.
func splitEquals(tokens []token) []token {
	var out []token
	for _, t := range tokens {
		if t.quoted || t.text == "=" || !strings.Contains(t.text, "=") {
			out = append(out, t)
			continue
		}
		k, v, _ := strings.Cut(t.text, "=")
		for _, s := range []string{k, "=", v} {
			if s != "" {
				out = append(out, token{text: s})
			}
		}
	}
	return out
}

// term reads one simple condition and returns what follows it.
func (p *parser) term(tokens []token) (Term, []token, error) {
	if len(tokens) > 1 && tokens[0].text == "not" && !tokens[0].quoted {
		t, rest, err := p.term(tokens[1:])
		t.Not = !t.Not
		return t, rest, err
	}
	if len(tokens) == 0 {
		return Term{}, nil, fmt.Errorf("expected a condition, found the end of the line")
	}
	if tokens[0].quoted {
		return Term{}, nil, fmt.Errorf("expected a condition, found the text %q", shorten(tokens[0].text))
	}
	switch tokens[0].text {
	case "leader":
		return p.leaderTerm(tokens[1:])
	case "accepted":
		return Term{Test: AnswerAccepted}, tokens[1:], nil
	case "refused":
		t := Term{Test: AnswerRefused}
		rest := optionalText(&t, tokens[1:])
		return t, rest, nil
	case "operation":
		return operationTerm(tokens[1:])
	case "alert":
		if len(tokens) < 2 || !tokens[1].quoted {
			return Term{}, nil, fmt.Errorf("alert: expected a text in quotes")
		}
		return Term{Test: AlertOpen, Text: tokens[1].text}, tokens[2:], nil
	case "no":
		if len(tokens) < 2 || tokens[1].text != "alerts" {
			return Term{}, nil, fmt.Errorf("no: expected alerts")
		}
		return Term{Test: NoAlerts}, tokens[2:], nil
	}
	return p.subjectTerm(tokens)
}

func optionalText(t *Term, rest []token) []token {
	if len(rest) > 0 && rest[0].quoted {
		t.Text = rest[0].text
		return rest[1:]
	}
	return rest
}

func (p *parser) leaderTerm(rest []token) (Term, []token, error) {
	if len(rest) == 0 {
		return Term{}, nil, fmt.Errorf("leader: expected a server, or not and a server, or any, or none")
	}
	switch rest[0].text {
	case "any":
		return Term{Test: LeaderAny}, rest[1:], nil
	case "none":
		return Term{Test: LeaderNone}, rest[1:], nil
	case "not":
		if len(rest) == 1 {
			return Term{}, nil, fmt.Errorf("leader not: expected a server")
		}
		return Term{Test: LeaderIsNot, Subject: rest[1].text}, rest[2:], p.knownServer(rest[1])
	}
	return Term{Test: LeaderIs, Subject: rest[0].text}, rest[1:], p.knownServer(rest[0])
}

func operationTerm(rest []token) (Term, []token, error) {
	if len(rest) > 0 && !rest[0].quoted {
		switch rest[0].text {
		case "done":
			return Term{Test: OperationDone}, rest[1:], nil
		case "failed":
			t := Term{Test: OperationFailed}
			rest = optionalText(&t, rest[1:])
			return t, rest, nil
		}
	}
	return Term{}, nil, fmt.Errorf("operation: expected done or failed")
}

// subjectTerm reads a condition that begins with a VM or a server.
func (p *parser) subjectTerm(tokens []token) (Term, []token, error) {
	name := tokens[0].text
	isVM, isServer := p.vms[name], p.servers[name]
	if !isVM && !isServer {
		return Term{}, nil, fmt.Errorf("%q is neither a VM nor a server of this scenario, nor one of the words not, leader, refused, accepted, operation, alert, no", shorten(name))
	}
	if len(tokens) == 1 {
		return Term{}, nil, fmt.Errorf("%s: expected a condition after the name", name)
	}
	word := tokens[1]
	test := TestUnspecified
	if !word.quoted && isVM {
		test = vmWords[word.text]
	}
	if !word.quoted && test == TestUnspecified && isServer {
		test = serverWords[word.text]
	}
	t := Term{Subject: name, Test: test}
	rest := tokens[2:]
	switch test {
	case TestUnspecified:
		return Term{}, nil, fmt.Errorf("%s: %q is not a condition of a %s; there are %s", name, shorten(word.text), whatIs(isVM), wordsOf(isVM))
	case VMRunning:
		return p.runningTerm(t, rest)
	case VMStarts, VMMigrations, ServerVMs:
		return countTerm(t, word.text, rest)
	case VMReason:
		if len(rest) == 0 || !rest[0].quoted {
			return Term{}, nil, fmt.Errorf("%s reason: expected a text in quotes, such as \"no server\"", name)
		}
		t.Text = rest[0].text
		return t, rest[1:], nil
	}
	return t, rest, nil
}

func (p *parser) runningTerm(t Term, rest []token) (Term, []token, error) {
	if len(rest) == 0 || rest[0].quoted || rest[0].text != "on" {
		return t, rest, nil
	}
	if len(rest) == 1 {
		return t, nil, fmt.Errorf("%s running on: expected servers", t.Subject)
	}
	names, err := parseNames(rest[1].text)
	if err != nil {
		return t, nil, err
	}
	for _, n := range names {
		if err := p.knownServer(token{text: n}); err != nil {
			return t, nil, err
		}
	}
	t.On = names
	return t, rest[2:], nil
}

func countTerm(t Term, word string, rest []token) (Term, []token, error) {
	if len(rest) < 2 || rest[0].text != "=" {
		return t, nil, fmt.Errorf("%s %s: expected = and a number, such as %s = 1", t.Subject, word, word)
	}
	n, err := parseCount(rest[1].text)
	t.Count = n
	return t, rest[2:], err
}

func whatIs(vm bool) string {
	if vm {
		return "VM"
	}
	return "server"
}

func wordsOf(vm bool) string {
	words := serverWords
	if vm {
		words = vmWords
	}
	var out []string
	for w := range words {
		out = append(out, w)
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}
