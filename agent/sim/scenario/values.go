package scenario

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

func parseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration; write 5s, 1m30s or 250ms", shorten(s))
	}
	if d < 0 {
		return 0, fmt.Errorf("%q: a duration cannot be negative", shorten(s))
	}
	if d > 10000*time.Hour {
		return 0, fmt.Errorf("%q: longer than 10000h", shorten(s))
	}
	return d, nil
}

func parseSize(s string) (int64, error) {
	n, err := pool.ParseSize(s)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("%q is not a size; write 512M or 4G", shorten(s))
	}
	return n, nil
}

// parseRate reads a size that may be 0.
func parseRate(s string) (int64, error) {
	n, err := pool.ParseSize(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a rate; write 10M, or 0", shorten(s))
	}
	return n, nil
}

func parseCount(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > 1_000_000 || s[0] == '+' {
		return 0, fmt.Errorf("%q is not a number", shorten(s))
	}
	return n, nil
}

func parseWord(s string, words ...string) (int, error) {
	for i, w := range words {
		if s == w {
			return i, nil
		}
	}
	return 0, fmt.Errorf("%q: must be %s", shorten(s), strings.Join(words, ", "))
}

func parseBool(s, yes, no string) (bool, error) {
	i, err := parseWord(s, yes, no)
	return i == 0, err
}

func parseNames(s string) ([]string, error) {
	names := strings.Split(s, ",")
	for _, n := range names {
		if !isName(n) {
			return nil, fmt.Errorf("%q is not a list of names; write S1,S2", shorten(s))
		}
	}
	return names, nil
}
