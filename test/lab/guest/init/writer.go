//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-ha/holdfast/test/lab/guest/record"
)

// writer writes the guest's record and notices everybody else who does.
type writer struct {
	disk *os.File
	page []byte // aligned for O_DIRECT
	rec  record.Record
	d    *dirtier
	// unsure is set after a failed write, which may have reached the disk all the same.
	unsure bool
}

// newWriter continues where the disk's last boot left off and enters this boot
// into the history.
func newWriter(mark string, d *dirtier) (*writer, error) {
	f, err := openDisk()
	if err != nil {
		return nil, err
	}
	page, err := unix.Mmap(-1, 0, record.BlockSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("map a page: %w", err)
	}
	w := &writer{disk: f, page: page, d: d}
	last, err := w.read()
	if err != nil && !errors.Is(err, record.ErrEmpty) {
		fmt.Println("lab guest: the disk's last record:", err)
	}
	w.rec = record.Record{Boot: bootID(), Mark: mark, Counter: last.Counter, Boots: last.Boots + 1, Foreign: last.Foreign}
	if err := w.enterBoot(); err != nil {
		return nil, err
	}
	return w, w.write()
}

func (w *writer) enterBoot() error {
	if _, err := w.disk.ReadAt(w.page, record.BootsOffset); err != nil {
		return fmt.Errorf("read history: %w", err)
	}
	boots, err := record.DecodeBoots(w.page)
	if err != nil && !errors.Is(err, record.ErrEmpty) {
		fmt.Println("lab guest: the disk's history:", err)
	}
	boots = append(boots, record.Boot{ID: w.rec.Boot, Mark: w.rec.Mark, First: w.rec.Counter, Wall: time.Now()})
	copy(w.page, record.EncodeBoots(boots))
	if _, err := w.disk.WriteAt(w.page, record.BootsOffset); err != nil {
		return fmt.Errorf("write history: %w", err)
	}
	return nil
}

// step checks that the disk still holds what this boot wrote last, and writes
// the next record. A foreign record is counted; its own count and counter are
// taken over, so that two guests fighting for a disk lose no evidence.
func (w *writer) step() error {
	seen, err := w.read()
	switch {
	case err != nil && !errors.Is(err, record.ErrCorrupt) && !errors.Is(err, record.ErrEmpty):
		return err
	case err != nil:
		w.rec.Foreign++
	case w.unsure && seen.Boot == w.rec.Boot && seen.Counter == w.rec.Counter+1:
		w.rec.Counter = seen.Counter
	case seen.Boot != w.rec.Boot || seen.Counter != w.rec.Counter:
		w.rec.Foreign = max(w.rec.Foreign, seen.Foreign) + 1
		w.rec.Counter = max(w.rec.Counter, seen.Counter)
		w.rec.Boots = max(w.rec.Boots, seen.Boots)
	}
	return w.write()
}

func (w *writer) read() (record.Record, error) {
	if _, err := w.disk.ReadAt(w.page, record.RecordOffset); err != nil {
		return record.Record{}, fmt.Errorf("read record: %w", err)
	}
	return record.Decode(w.page)
}

func (w *writer) write() error {
	next := w.rec
	next.Counter++
	next.Uptime, next.Wall, next.Dirtied = monotonic(), time.Now(), w.d.pages.Load()
	copy(w.page, next.Encode())
	if _, err := w.disk.WriteAt(w.page, record.RecordOffset); err != nil {
		w.unsure = true
		return fmt.Errorf("write record: %w", err)
	}
	w.unsure, w.rec = false, next
	return nil
}
