//go:build linux

package main

import (
	"sync/atomic"
	"time"
)

// dirtier writes to memory at a set rate, so that a live migration has
// something to copy again and again.
type dirtier struct {
	pages atomic.Uint64
}

// run touches rate MiB a second, round and round in a set of setMiB.
func (d *dirtier) run(rate, setMiB int) {
	const pageSize, tick = 4096, 20 * time.Millisecond
	memory := make([]byte, max(setMiB, 1)<<20)
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
