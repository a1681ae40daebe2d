package record

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"time"
)

// BlockSize is the size of one block of the guest's disk in bytes. 4096 keeps
// every read and write aligned for O_DIRECT on any disk.
const BlockSize = 4096

// RecordOffset and BootsOffset are where the two blocks lie on the disk, in bytes.
const (
	RecordOffset = 0
	BootsOffset  = BlockSize
)

// MaxBoots is how many boots the history keeps; older ones drop off its front.
const MaxBoots = 48

// MarkSize is the longest server mark in bytes; longer ones are cut.
const MarkSize = 32

var (
	// ErrEmpty means that no guest has ever written to this block.
	ErrEmpty = errors.New("no record: the guest never wrote to this disk")
	// ErrCorrupt means that the block holds something that is not a record.
	ErrCorrupt = errors.New("corrupt record")
)

var (
	recordMagic = []byte("HFLABREC")
	bootsMagic  = []byte("HFLABBTS")
)

// BootID names one boot of one guest: the kernel's random boot id.
type BootID [16]byte

// String returns the id in hexadecimal.
func (b BootID) String() string { return hex.EncodeToString(b[:]) }

// Record is what the guest last wrote.
type Record struct {
	// Boot is the boot that wrote this record.
	Boot BootID
	// Mark names the server on which this boot began. It does not change with
	// live migration: where a guest runs now is seen from its QEMU process.
	Mark string
	// Counter rises by one with each write, over all boots of this disk.
	Counter uint64
	// Boots counts the boots of this disk.
	Boots uint64
	// Foreign counts the writes that the guest did not make itself and yet found
	// on its disk: any number above zero means that the guest ran twice.
	Foreign uint64
	// Uptime is CLOCK_MONOTONIC of the guest at the write.
	Uptime time.Duration
	// Wall is the guest's wall clock at the write, set from the host at boot only.
	Wall time.Time
	// Dirtied counts the memory pages the guest has dirtied on request.
	Dirtied uint64
}

// layout is Record as it lies on the disk.
type layout struct {
	Boot                             BootID
	Mark                             [MarkSize]byte
	Counter, Boots, Foreign, Dirtied uint64
	Uptime, Wall                     int64
}

// Encode returns the record as one block of BlockSize bytes.
func (r Record) Encode() []byte {
	l := layout{Boot: r.Boot, Counter: r.Counter, Boots: r.Boots, Foreign: r.Foreign,
		Dirtied: r.Dirtied, Uptime: int64(r.Uptime), Wall: r.Wall.UnixNano()}
	copy(l.Mark[:], r.Mark)
	return seal(recordMagic, l)
}

// Decode reads a record from one block. It returns ErrEmpty for a block of
// zeros and ErrCorrupt for anything else that is not a record.
func Decode(block []byte) (Record, error) {
	var l layout
	if err := unseal(recordMagic, block, &l); err != nil {
		return Record{}, err
	}
	return Record{Boot: l.Boot, Mark: text(l.Mark[:]), Counter: l.Counter, Boots: l.Boots,
		Foreign: l.Foreign, Dirtied: l.Dirtied, Uptime: time.Duration(l.Uptime),
		Wall: time.Unix(0, l.Wall)}, nil
}

// Boot is one entry of the history: a boot, where and when it began, and the
// counter it found.
type Boot struct {
	ID    BootID
	Mark  string
	First uint64
	Wall  time.Time
}

type bootLayout struct {
	ID    BootID
	Mark  [MarkSize]byte
	First uint64
	Wall  int64
}

type bootsLayout struct {
	Count uint64
	Boots [MaxBoots]bootLayout
}

// EncodeBoots returns the history as one block. Only the last MaxBoots are kept.
func EncodeBoots(boots []Boot) []byte {
	if len(boots) > MaxBoots {
		boots = boots[len(boots)-MaxBoots:]
	}
	l := bootsLayout{Count: uint64(len(boots))}
	for i, b := range boots {
		l.Boots[i] = bootLayout{ID: b.ID, First: b.First, Wall: b.Wall.UnixNano()}
		copy(l.Boots[i].Mark[:], b.Mark)
	}
	return seal(bootsMagic, l)
}

// DecodeBoots reads the history, oldest first. Errors as for Decode.
func DecodeBoots(block []byte) ([]Boot, error) {
	var l bootsLayout
	if err := unseal(bootsMagic, block, &l); err != nil {
		return nil, err
	}
	if l.Count > MaxBoots {
		return nil, fmt.Errorf("%w: %d boots", ErrCorrupt, l.Count)
	}
	boots := make([]Boot, 0, l.Count)
	for _, b := range l.Boots[:l.Count] {
		boots = append(boots, Boot{ID: b.ID, Mark: text(b.Mark[:]), First: b.First, Wall: time.Unix(0, b.Wall)})
	}
	return boots, nil
}

// seal lays a value out as magic, checksum, body, padded to one block.
func seal(magic []byte, body any) []byte {
	var b bytes.Buffer
	b.Write(magic)
	b.Write(make([]byte, 4))
	// Writing fixed-size structs of numbers and arrays into a buffer cannot fail.
	_ = binary.Write(&b, binary.LittleEndian, body)
	block := make([]byte, BlockSize)
	n := copy(block, b.Bytes())
	binary.LittleEndian.PutUint32(block[len(magic):], crc32.ChecksumIEEE(block[len(magic)+4:n]))
	return block
}

func unseal(magic, block []byte, body any) error {
	if len(block) < BlockSize {
		return fmt.Errorf("%w: %d bytes instead of %d", ErrCorrupt, len(block), BlockSize)
	}
	if len(bytes.Trim(block[:BlockSize], "\x00")) == 0 {
		return ErrEmpty
	}
	if !bytes.HasPrefix(block, magic) {
		return fmt.Errorf("%w: wrong magic %q", ErrCorrupt, block[:len(magic)])
	}
	start := len(magic) + 4
	end := start + binary.Size(body)
	if sum := crc32.ChecksumIEEE(block[start:end]); sum != binary.LittleEndian.Uint32(block[len(magic):]) {
		return fmt.Errorf("%w: wrong checksum", ErrCorrupt)
	}
	if err := binary.Read(bytes.NewReader(block[start:end]), binary.LittleEndian, body); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return nil
}

func text(b []byte) string { return string(bytes.TrimRight(b, "\x00")) }
