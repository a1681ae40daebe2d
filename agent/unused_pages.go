package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-ha/holdfast/pkg/clock"
)

// startPagesAfter is when an agent has connected to everything and found its VMs; from then on pages are given back
// every unusedPagesEvery: what is rare (a look at all VMs, a metrics scrape, a console) touches pages as well.
const (
	startPagesAfter  = 30 * time.Second
	unusedPagesEvery = 10 * time.Minute
)

// giveBackUnusedPages lets go of the program's own pages that nothing needs at the moment. A start touches most of the
// file (every package's initialisation, tables of types), an idle agent less than half of it. What is used again is mapped
// again from the page cache, where the guard, which runs the same file, keeps the code locked: so a page that comes back
// does not wait for a disk. It is no loss when it cannot be done.
func giveBackUnusedPages(ctx context.Context, clk clock.Clock, log *slog.Logger) error {
	for wait := startPagesAfter; ; wait = unusedPagesEvery {
		if err := clk.Sleep(ctx, wait); err != nil {
			return err
		}
		if err := dropOwnPages(); err != nil {
			log.Debug("pages of the program that are not in use stay mapped", "err", err)
		}
	}
}

func dropOwnPages() error {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	maps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return err
	}
	defer func() { _ = maps.Close() }()
	unchanged, err := unchangedParts(maps, program)
	if err != nil {
		return err
	}
	var failed error
	for _, p := range unchanged {
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, p.start, p.end-p.start, unix.MADV_DONTNEED); errno != 0 {
			failed = errors.Join(failed, fmt.Errorf("give back %x-%x: %w", p.start, p.end, errno))
		}
	}
	return failed
}

// part is a range of addresses.
type part struct{ start, end uintptr }

// unchangedParts finds where a program's file is mapped read-only and nothing of it was ever changed, so that every page
// is the file's: in text of proc_pid_smaps(5). The dynamic linker has written to some read-only parts before it closed them;
// those hold pages that are nowhere else.
func unchangedParts(smaps io.Reader, program string) ([]part, error) {
	var found []part
	var candidate *part
	scan := bufio.NewScanner(smaps)
	for scan.Scan() {
		f := strings.Fields(scan.Text())
		switch {
		case len(f) >= 6 && strings.Contains(f[0], "-"):
			candidate = nil
			if f[5] != program || len(f) > 6 || !strings.HasPrefix(f[1], "r-") || !strings.HasSuffix(f[1], "p") {
				continue
			}
			from, to, _ := strings.Cut(f[0], "-")
			start, err1 := strconv.ParseUint(from, 16, 64)
			end, err2 := strconv.ParseUint(to, 16, 64)
			if err := errors.Join(err1, err2); err != nil {
				return nil, fmt.Errorf("read %q: %w", scan.Text(), err)
			}
			candidate = &part{uintptr(start), uintptr(end)}
		case len(f) >= 5 && strings.Contains(f[0], "-"): // memory without a file
			candidate = nil
		case candidate != nil && len(f) == 3 && f[0] == "Anonymous:":
			if f[1] == "0" {
				found = append(found, *candidate)
			}
			candidate = nil
		}
	}
	return found, scan.Err()
}
