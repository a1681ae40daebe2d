//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// dirtier writes to memory at a set rate, so that a live migration has
// something to copy again and again.
type dirtier struct {
	pages atomic.Uint64
}

// run touches rate MiB a second, round and round in a set of setMiB.
func (d *dirtier) run(rate, setMiB int) {
	const pageSize, tick = 4096, 20 * time.Millisecond
	// Outside Go's heap, which would grow to twice the set before it is collected.
	memory, err := unix.Mmap(-1, 0, max(setMiB, 1)<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		fmt.Println("lab guest: memory to dirty:", err)
		return
	}
	perTick := max(1, (rate<<20)/pageSize/int(time.Second/tick))
	at := 0
	for range time.Tick(tick) {
		for range perTick {
			memory[at]++
			at = (at + pageSize) % len(memory)
		}
		d.pages.Add(uint64(perTick))
	}
}

// fill fills memory with what cannot be compressed, and keeps it for good.
func fill(sizeMiB int) {
	memory, err := unix.Mmap(-1, 0, sizeMiB<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		fmt.Println("lab guest: memory to fill:", err)
		return
	}
	x := uint64(0x9e3779b97f4a7c15)
	for at := 0; at < len(memory); at += 8 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		binary.LittleEndian.PutUint64(memory[at:], x)
	}
}
