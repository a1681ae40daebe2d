package record

import (
	"errors"
	"testing"
	"time"
)

func TestRecordSurvivesTheDisk(t *testing.T) {
	want := Record{Boot: BootID{1, 2, 3}, Mark: "srv-2", Counter: 7, Boots: 3, Foreign: 1,
		Dirtied: 99, Uptime: 5 * time.Second, Wall: time.Unix(100, 200)}
	block := want.Encode()
	if len(block) != BlockSize {
		t.Fatalf("block of %d bytes, want %d", len(block), BlockSize)
	}
	got, err := Decode(block)
	if err != nil || got != want {
		t.Fatalf("Decode = %+v, %v; want %+v", got, err, want)
	}
}

func TestEmptyAndTornBlocksAreToldApart(t *testing.T) {
	if _, err := Decode(make([]byte, BlockSize)); !errors.Is(err, ErrEmpty) {
		t.Errorf("block of zeros: %v, want ErrEmpty", err)
	}
	torn := Record{Counter: 1}.Encode()
	torn[60]++
	if _, err := Decode(torn); !errors.Is(err, ErrCorrupt) {
		t.Errorf("torn block: %v, want ErrCorrupt", err)
	}
	if _, err := DecodeBoots(Record{}.Encode()); !errors.Is(err, ErrCorrupt) {
		t.Errorf("record read as history: %v, want ErrCorrupt", err)
	}
	if _, err := Decode(torn[:100]); !errors.Is(err, ErrCorrupt) {
		t.Errorf("short block: %v, want ErrCorrupt", err)
	}
}

func TestHistoryKeepsTheLatestBoots(t *testing.T) {
	var boots []Boot
	for i := range MaxBoots + 5 {
		boots = append(boots, Boot{Mark: "srv-1", First: uint64(i), Wall: time.Unix(int64(i), 0)})
	}
	got, err := DecodeBoots(EncodeBoots(boots))
	if err != nil || len(got) != MaxBoots || got[0].First != 5 || got[MaxBoots-1] != boots[len(boots)-1] {
		t.Fatalf("DecodeBoots: %d boots from %d, %v", len(got), got[0].First, err)
	}
}
