package pool

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestNamesThatCannotBeAreRefusedPrintably(t *testing.T) {
	for name, good := range map[string]bool{
		"srv-1": true, "a": true, "A.b_c-9": true, strings.Repeat("a", 63): true, "0": true,
		"": false, strings.Repeat("a", 64): false, "-a": false, ".a": false, "_a": false, "a b": false, "a/b": false,
		"a\n": false, "\x1b[2J": false, "\u009b2J": false, "ä": false, "..": false, "a\x00": false,
	} {
		err := CheckName("server", name)
		if good != (err == nil) {
			t.Errorf("%q: got %v, want good %v", name, err, good)
		}
		if err != nil && (!errors.Is(err, ErrInvalid) || !strings.HasPrefix(err.Error(), "server name")) {
			t.Errorf("%q: got %v, want %v naming the kind", name, err, ErrInvalid)
		}
	}
}

func TestAMessageAboutANameNeverDisturbsATerminal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		err := CheckName("vm", rapid.String().Draw(t, "name"))
		if err == nil {
			return
		}
		for _, r := range err.Error() {
			if r < 0x20 || (r >= 0x7f && r < 0xa0) {
				t.Fatalf("control character %q in %q", r, err)
			}
		}
	})
}

func TestWordsOfNewerVersionsAreShownAsNumbers(t *testing.T) {
	for _, s := range []string{Phase(99).String(), Cause(-1).String(), Proof(99).String(), Desired(99).String(), Outcome(99).String()} {
		if !strings.HasPrefix(s, "unknown(") {
			t.Errorf("got %q", s)
		}
	}
}
