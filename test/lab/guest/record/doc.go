// Package record is the format of what a lab guest writes to its disk.
//
// The guest owns the first two blocks of its disk. Block 0 holds a Record,
// rewritten ten times a second; block 1 holds the history of boots. Both carry
// a checksum, so a torn or foreign block is told apart from a valid one.
//
// The package is used on both sides: by the guest's init program and by the
// tests that read the disk image from outside. It does no I/O of its own and
// guarantees nothing about the age of what it decodes.
package record
