package lab

import (
	"bytes"
	"fmt"
)

// archive writes an initramfs: the "newc" form of cpio, as the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst has it.
type archive struct {
	buf   bytes.Buffer
	inode int
}

// Modes of the entries that an initramfs needs, file type included (inode(7)).
const (
	modeDir  = 0o040755
	modeFile = 0o100755
	modeChar = 0o020600
)

func (a *archive) dir(name string) { a.entry(name, modeDir, 0, 0, nil) }

func (a *archive) file(name string, data []byte) { a.entry(name, modeFile, 0, 0, data) }

func (a *archive) device(name string, major, minor int) { a.entry(name, modeChar, major, minor, nil) }

func (a *archive) entry(name string, mode, major, minor int, data []byte) {
	a.inode++
	// magic, ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor,
	// rdevmajor, rdevminor, namesize, check
	fmt.Fprintf(&a.buf, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		a.inode, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name)+1, 0)
	a.buf.WriteString(name)
	a.buf.WriteByte(0)
	a.pad()
	a.buf.Write(data)
	a.pad()
}

func (a *archive) pad() {
	for a.buf.Len()%4 != 0 {
		a.buf.WriteByte(0)
	}
}

// bytes ends the archive.
func (a *archive) bytes() []byte {
	a.entry("TRAILER!!!", 0, 0, 0, nil)
	return a.buf.Bytes()
}
