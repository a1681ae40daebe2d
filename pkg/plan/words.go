package plan

import (
	"fmt"
	"strings"
	"time"
)

// fewNames is how many names a sentence lists before it counts.
const fewNames = 5

// names lists names for people: all of a few, else the first ones and how many more.
func names[T ~string](list []T) string {
	var out []string
	for _, n := range list[:min(len(list), fewNames)] {
		out = append(out, string(n))
	}
	text := strings.Join(out, ", ")
	if len(list) > fewNames {
		text += fmt.Sprintf(" and %d more", len(list)-fewNames)
	}
	return text
}

// count writes "1 VM" or "3 VMs".
func count(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

// seconds prints a duration for people, to a tenth of a second.
func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
