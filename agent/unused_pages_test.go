package main

import (
	"bufio"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Four parts of the program (code, tables, what the dynamic linker changed, data), a library and memory of its own.
const smapsOfAProgram = `00403000-0130d000 r-xp 00003000 00:2b 5206 /usr/bin/holdfast-agent
Size:              15400 kB
Rss:               15296 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
0130d000-02443000 r--p 00f0d000 00:2b 5206 /usr/bin/holdfast-agent
Rss:               17000 kB
Anonymous:             0 kB
02443000-02444000 r--p 02042000 00:2b 5206 /usr/bin/holdfast-agent
Rss:                   4 kB
Anonymous:             4 kB
02444000-024db000 rw-p 02043000 00:2b 5206 /usr/bin/holdfast-agent
Rss:                 600 kB
Anonymous:             0 kB
c000000000-c000800000 rw-p 00000000 00:00 0
Anonymous:             0 kB
7f0000000000-7f0000001000 r--p 00000000 00:2b 77 /usr/lib/libvirt.so.0
Anonymous:             0 kB
7f0000002000-7f0000003000 r--p 00000000 00:2b 78 /usr/bin/holdfast-agent (deleted)
Anonymous:             0 kB
7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
`

func TestOnlyUnchangedPartsOfTheProgramItselfAreGivenBack(t *testing.T) {
	got, err := unchangedParts(strings.NewReader(smapsOfAProgram), "/usr/bin/holdfast-agent")
	if err != nil {
		t.Fatal(err)
	}
	if want := []part{{0x403000, 0x130d000}, {0x130d000, 0x2443000}}; !slices.Equal(got, want) {
		t.Errorf("parts = %x, want %x", got, want)
	}
}

func TestAProgramRunsOnWithFewerPagesAfterItGaveThemBack(t *testing.T) {
	touchOwnPages(t)
	before := residentFile(t)
	if err := dropOwnPages(); err != nil {
		t.Fatal(err)
	}
	if after := residentFile(t); after >= before*9/10 {
		t.Errorf("%d kB of files are mapped, before it were %d; much of it should have gone", after, before)
	}
}

// touchOwnPages reads all of what may be given back, so that all of it is there.
func touchOwnPages(t *testing.T) {
	t.Helper()
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	smaps, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = smaps.Close() }()
	parts, err := unchangedParts(smaps, program)
	if err != nil || len(parts) == 0 {
		t.Fatalf("parts = %v, %v", parts, err)
	}
	memory, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = memory.Close() }()
	var b [1]byte
	for _, p := range parts {
		for at := p.start; at < p.end; at += 4096 {
			if _, err := memory.ReadAt(b[:], int64(at)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// residentFile reads what is mapped of files, in kB.
func residentFile(t *testing.T) int {
	t.Helper()
	status, err := os.Open("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = status.Close() }()
	for scan := bufio.NewScanner(status); scan.Scan(); {
		if f := strings.Fields(scan.Text()); len(f) == 3 && f[0] == "RssFile:" {
			kb, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			return kb
		}
	}
	t.Fatal("no RssFile in the process's status")
	return 0
}
