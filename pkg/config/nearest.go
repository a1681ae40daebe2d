package config

import "strings"

// nearest returns the known dotted key that somebody who wrote path most likely meant, or "" if none is close: the
// same word in another section, or a word within a third of its letters in edits.
func nearest(path string, known []string) string {
	word := path[strings.LastIndexByte(path, '.')+1:]
	best, bestCost := "", 1+max(1, len(word)/3)
	for _, k := range known {
		last := k[strings.LastIndexByte(k, '.')+1:]
		cost := edits(normal(word), normal(last))
		if samePlace := len(k)-len(last) == len(path)-len(word) && strings.HasPrefix(path, k[:len(k)-len(last)]); !samePlace {
			if cost > 0 && cost*2 > max(1, len(word)/3) {
				continue // a look-alike far away misleads more than it helps
			}
			cost++
		}
		if cost < bestCost {
			best, bestCost = k, cost
		}
	}
	return best
}

// normal makes camelCase, kebab-case and snake_case equal.
func normal(s string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(s))
}

// edits is the Levenshtein distance: insertions, deletions and exchanges that turn a into b.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost = 1 + min(diagonal, row[j], row[j-1])
			}
			diagonal, row[j] = row[j], cost
		}
	}
	return row[len(b)]
}
