package tunnel

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// The sockets of one migration, in its directory. The source listens on both; on the destination QEMU does on the
// second, as libvirt has both of them use one path.
const libvirtSocket = "libvirt"

// streamSocket returns the name of a VM's memory stream. It is one that libvirt's usual AppArmor profile lets the VM's
// QEMU listen on below /run/libvirt ("/run/libvirt/**/*.tunnelmigrate.dest.NAME"), so that nothing has to be set up for
// it, unless the VM's name is too long for a socket's path.
func streamSocket(dir string, vm pool.VMID) string {
	if path := filepath.Join(dir, "s.tunnelmigrate.dest."+string(vm)); len(path) <= maxPath {
		return path
	}
	return filepath.Join(dir, "stream")
}

// maxPath is how long the path of a UNIX socket may be: unix(7).
const maxPath = 107

// nameBytes is how much chance a directory's name holds. Nobody but root can list the directories, so it has to be
// guessed in one piece.
const nameBytes = 10

var nameRE = regexp.MustCompile(`^[0-9a-f]{20}$`)

// newName returns a name that nobody can guess.
func newName() (string, error) {
	b := make([]byte, nameBytes)
	if _, err := rand.Read(b); err != nil {
		return "", fmt.Errorf("a name for a tunnel: %w", err)
	}
	return hex.EncodeToString(b), nil
}

// makeDirectory makes a migration's directory below base, for uid (and root, which may do everything) alone. base lets
// others pass and nobody but root look.
func makeDirectory(base, name string, uid, gid int) (string, error) {
	if err := makeBase(base); err != nil {
		return "", err
	}
	dir := filepath.Join(base, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", fmt.Errorf("directory of a tunnel: %w", err)
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		_ = os.Remove(dir)
		return "", fmt.Errorf("directory of a tunnel: %w", err)
	}
	return dir, nil
}

func makeBase(base string) error {
	if err := os.MkdirAll(base, 0o711); err != nil {
		return fmt.Errorf("directory of tunnels: %w", err)
	}
	info, err := os.Lstat(base)
	if err != nil {
		return fmt.Errorf("directory of tunnels: %w", err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || int(owner.Uid) != os.Geteuid() {
		return fmt.Errorf("directory of tunnels: %s is not a directory of ours: %w", base, pool.ErrRefused)
	}
	if err := os.Chmod(base, 0o711); err != nil {
		return fmt.Errorf("directory of tunnels: %w", err)
	}
	return nil
}

// sweep removes what an earlier agent left below base.
func sweep(base string) error {
	entries, err := os.ReadDir(base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("directory of tunnels: %w", err)
	}
	var all error
	for _, e := range entries {
		if nameRE.MatchString(e.Name()) {
			all = errors.Join(all, os.RemoveAll(filepath.Join(base, e.Name())))
		}
	}
	return all
}

// listen makes a socket that root and uid may connect to.
func listen(path string, uid, gid int) (*net.UnixListener, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen for a tunnel: %w", err)
	}
	if err := errors.Join(os.Chmod(path, 0o600), os.Chown(path, uid, gid)); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("listen for a tunnel: %w", err)
	}
	return l, nil
}

// callerIs reports whether a connection was made by root, or by uid.
func callerIs(conn *net.UnixConn, uid int) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("who connects: %w", err)
	}
	var who *unix.Ucred
	var whoErr error
	if err := raw.Control(func(fd uintptr) { who, whoErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return fmt.Errorf("who connects: %w", err)
	}
	if whoErr != nil {
		return fmt.Errorf("who connects: %w", whoErr)
	}
	if who.Uid != 0 && int(who.Uid) != uid && int(who.Uid) != os.Geteuid() {
		return fmt.Errorf("user %d (process %d) may not use it: %w", who.Uid, who.Pid, pool.ErrRefused)
	}
	return nil
}

// roomy gives a socket room for more than the system's default, so that a whole chunk is written at once. Best effort: it
// needs root.
func roomy(conn *net.UnixConn) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, socketBuffer)
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer)
	})
}

// socketBuffer is room for two chunks with what the kernel adds; the kernel doubles what it is told. More would leave the
// processor's cache before it is read.
const socketBuffer = 2 * chunk

func closedAlready(err error) bool {
	return errors.Is(err, net.ErrClosed) || errors.Is(err, unix.ENOTCONN) || errors.Is(err, unix.EPIPE)
}
