package lab

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-ha/holdfast/test/lab/guest/record"
)

// readBlock reads one block with O_DIRECT where the file system can: QEMU writes
// past the page cache, and so must a reader who wants the truth.
func readBlock(path string, offset int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		if f, err = os.Open(path); err != nil {
			return nil, err
		}
	}
	defer func() { _ = f.Close() }()
	page, err := unix.Mmap(-1, 0, record.BlockSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("map a page: %w", err)
	}
	defer func() { _ = unix.Munmap(page) }()
	if _, err := f.ReadAt(page, offset); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return append([]byte(nil), page...), nil
}

// WaitCounter returns once the guest's counter has risen by at least that much over
// what it is now, so the guest certainly executes. Before the first boot the
// counter is 0.
func WaitCounter(ctx context.Context, disk string, by uint64) (record.Record, error) {
	start, _ := ReadRecord(disk) // an empty disk counts as 0
	var last record.Record
	err := waitFor(ctx, 20*time.Millisecond, func() (bool, error) {
		r, err := ReadRecord(disk)
		if err == nil {
			last = r
		}
		return err == nil && r.Counter >= start.Counter+by, nil
	})
	if err != nil {
		return last, fmt.Errorf("the counter of %s rose from %d to %d only: %w", disk, start.Counter, last.Counter, err)
	}
	return last, nil
}
