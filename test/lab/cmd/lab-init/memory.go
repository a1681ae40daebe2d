package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// oddBytes makes the guest's memory no multiple of 64 pages, and is what QEMU rounds memory to.
const oddBytes = 8 << 10

var (
	sizeRE = regexp.MustCompile(`"size":\s*(\d+)`)
	ramRE  = regexp.MustCompile(`"id":\s*"pc\.ram"`)
)

// oddMemory gives a guest two pages more than libvirt says. Before QEMU 9.0 an emulated guest loses writes in a live
// migration if its memory is a multiple of 64 pages: the search for changed pages has a quick way for that case, which
// forgets to watch the pages again (QEMU commit "physmem: Fix migration dirty bitmap coherency with TCG memory
// access"). One guest in ten crashed or hung right after it had moved, with plain virsh too. KVM has no such fault.
func oddMemory(argv []string) []string {
	argv = slices.Clone(argv)
	ram := slices.IndexFunc(argv, func(a string) bool { return ramRE.MatchString(a) && sizeRE.MatchString(a) })
	m := slices.Index(argv, "-m")
	if ram < 0 || m < 0 || m+1 >= len(argv) {
		return argv
	}
	mib, err := strconv.Atoi(strings.TrimPrefix(argv[m+1], "size="))
	if err != nil {
		return argv
	}
	argv[m+1] = fmt.Sprintf("%dk", mib<<10+oddBytes>>10)
	argv[ram] = sizeRE.ReplaceAllString(argv[ram], fmt.Sprintf(`"size":%d`, mib<<20+oddBytes))
	return argv
}
