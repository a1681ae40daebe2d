package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/holdfast-ha/holdfast/test/lab/inside"
)

// What libvirt can use by itself to reach another server, to compare Holdfast with. Both last until the next power-on.

// ErrNoSSH says that this machine has no SSH server to run.
var ErrNoSSH = errors.New("no sshd on this machine (apt-get install openssh-server)")

const sshd = "sshd"

// ListenTCP starts the server's libvirtd again, this time listening on a TCP port, without encryption and open to all.
// Guests run on.
func (s *Server) ListenTCP(ctx context.Context) error {
	const conf = "/etc/libvirt/libvirtd-tcp.conf"
	text := s.libvirtdConf() + "listen_tls = 0\nlisten_tcp = 1\nauth_tcp = \"none\"\n"
	if err := writeFile(s.Path(conf), []byte(text), 0o644); err != nil {
		return err
	}
	if err := s.Stop(ctx, Libvirtd); err != nil {
		return err
	}
	argv := []string{"libvirtd", "--config", conf, "--listen"}
	if _, err := s.ask(inside.Request{Op: inside.Start, Process: inside.Process{Name: Libvirtd, Argv: argv}}); err != nil {
		return err
	}
	return s.WaitLibvirt(ctx)
}

// TCPURI is how other servers' libvirt reaches this one's after ListenTCP.
func (s *Server) TCPURI() string { return "qemu+tcp://" + s.Address() + "/system" }

// ListenSSH starts an SSH server with keys of the lab's own, by which every server may log in on this one.
// It is ErrNoSSH if there is none to start.
func (s *Server) ListenSSH(ctx context.Context) error {
	program, err := exec.LookPath("/usr/sbin/sshd")
	if err != nil {
		return ErrNoSSH
	}
	dir := s.lab.sshDir()
	if err := s.lab.sshKeys(ctx); err != nil {
		return err
	}
	conf := filepath.Join(dir, "sshd_config")
	text := fmt.Sprintf("HostKey %s/host\nAuthorizedKeysFile %s/client.pub\nPermitRootLogin prohibit-password\nStrictModes no\nUsePAM no\nPidFile none\n", dir, dir)
	if err := errors.Join(writeFile(conf, []byte(text), 0o644), makeDirs(0o755, s.Path("/run/sshd"))); err != nil {
		return err
	}
	if err := s.Run(sshd, program, "-D", "-e", "-f", conf); err != nil {
		return err
	}
	return waitFor(ctx, 50*time.Millisecond, func() (bool, error) {
		if !s.Running(sshd) {
			return false, fmt.Errorf("sshd of %s ended, see %s", s.Name(), s.LogFile(sshd))
		}
		_, err := s.Exec(ctx, s.lab.sshClient(), "root@"+s.Address(), "true")
		return err == nil, nil
	})
}

// SSHURI is how other servers' libvirt reaches this one's after ListenSSH.
func (s *Server) SSHURI() string {
	return "qemu+ssh://root@" + s.Address() + "/system?proxy=native&command=" + s.lab.sshClient()
}

func (l *Lab) sshDir() string { return filepath.Join(l.opts.dataDir(), "ssh") }

func (l *Lab) sshClient() string { return filepath.Join(l.sshDir(), "ssh") }

// sshKeys makes a host key, a user's key, and a client that uses them and leaves nothing in anybody's home.
func (l *Lab) sshKeys(ctx context.Context) error {
	dir := l.sshDir()
	if _, err := os.Stat(l.sshClient()); err == nil {
		return nil
	}
	if err := makeDirs(0o700, dir); err != nil {
		return err
	}
	for _, key := range []string{"host", "client"} {
		if _, err := run(ctx, "", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, key)); err != nil {
			return err
		}
	}
	text := "#!/bin/sh\nexec ssh -F none -o BatchMode=yes -o LogLevel=ERROR -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -i " +
		strconv.Quote(filepath.Join(dir, "client")) + " \"$@\"\n"
	return writeFile(l.sshClient(), []byte(text), 0o755)
}
