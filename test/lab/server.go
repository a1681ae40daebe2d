package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-ha/holdfast/test/lab/inside"
)

// Server is one server of a lab. The value holds no state of its own.
type Server struct {
	lab    *Lab
	number int
}

func (l *Lab) server(n int) *Server { return &Server{lab: l, number: n} }

// Name is srv-1, srv-2 and so on: host name, and name in /etc/hosts of all.
func (s *Server) Name() string { return fmt.Sprintf("srv-%d", s.number) }

// Address is the server's IP address.
func (s *Server) Address() string { return s.lab.opts.address(10 + s.number) }

// HostUUID is what libvirt calls the host's UUID.
func (s *Server) HostUUID() string {
	return fmt.Sprintf("68666c61-6200-4000-8000-%06x%06x", s.lab.opts.subnet(), s.number)
}

// LibvirtURI reaches this server's libvirtd from this machine.
func (s *Server) LibvirtURI() string {
	return "qemu+unix:///system?socket=" + filepath.Join(s.runDir(), "libvirt/libvirt-sock")
}

// Path is where a file of the server is seen from this machine. It knows the
// server's private directories; everything else is the same file outside.
func (s *Server) Path(inside string) string {
	if rest, ok := strings.CutPrefix(inside, "/run/"); ok {
		return filepath.Join(s.runDir(), rest)
	}
	for _, d := range privateDirs {
		if rest, ok := strings.CutPrefix(inside, d[0]); ok && (rest == "" || rest[0] == '/') {
			return s.data(d[1], rest)
		}
	}
	return inside
}

func (s *Server) data(parts ...string) string {
	return filepath.Join(append([]string{s.lab.opts.dataDir(), s.Name()}, parts...)...)
}

// runDir is the server's /run; the short name leaves room for socket paths.
func (s *Server) runDir() string { return filepath.Join(s.lab.opts.runDir(), s.Name(), "run") }

// SharedDir is the shared storage as every server sees it.
func (s *Server) SharedDir() string { return s.lab.SharedDir() }

func (s *Server) cgroup() cgroup { return s.lab.root.child(s.Name()) }

// wants is what a power-on shall bring back.
type wants struct {
	// Enabled are the processes that start at power-on.
	Enabled []string
	Cuts    []Cut
	// FenceFails and FenceDelay are the manners of the server's power switch.
	FenceFails bool
	FenceDelay time.Duration
}

func (s *Server) wants() (wants, error) {
	var w wants
	err := readJSON(s.data("wants.json"), &w)
	return w, err
}

func (s *Server) setWants(w wants) error { return writeJSON(s.data("wants.json"), w) }

// On says whether the server has power: any of its processes lives.
func (s *Server) On() bool { return s.cgroup().event("populated") }

// PowerOff cuts the power: the link goes down, then every process is killed in
// one go. It returns the moment just before the link went, once all are dead.
// A server that is off already stays off.
func (s *Server) PowerOff(ctx context.Context) (time.Time, error) {
	at := time.Now()
	if !s.On() {
		return at, nil
	}
	// With the link up, the dying server's kernel would still close its
	// connections politely.
	linkErr := setLinkDown(s.lab.opts.link(s.number))
	if err := s.cgroup().kill(); err != nil {
		return at, fmt.Errorf("power off %s: %w", s.Name(), err)
	}
	if err := s.cgroup().emptied(ctx); err != nil {
		return at, fmt.Errorf("power off %s: %w", s.Name(), err)
	}
	if linkErr != nil {
		return at, fmt.Errorf("power off %s: %w", s.Name(), linkErr)
	}
	s.lab.opts.Log.Info("power off", "server", s.Name(), "took", time.Since(at))
	return at, nil
}

// PowerOn boots the server: fresh namespaces, empty /run, its link with the cuts
// it had, and the enabled processes in the order of the table. It returns when
// they have been started, not when they answer.
func (s *Server) PowerOn(ctx context.Context) error {
	if s.On() {
		return nil
	}
	if err := s.boot(ctx); err != nil {
		_, offErr := s.PowerOff(ctx)
		return errors.Join(fmt.Errorf("power on %s: %w", s.Name(), err), offErr)
	}
	s.lab.opts.Log.Info("power on", "server", s.Name())
	return nil
}

func (s *Server) boot(ctx context.Context) error {
	// A new cgroup each time: Linux 6.18 kills what is cloned straight into a
	// cgroup that was killed before.
	if err := s.cgroup().remove(); err != nil {
		return err
	}
	if err := s.cgroup().create(); err != nil {
		return err
	}
	if err := s.makeRun(); err != nil {
		return err
	}
	pid, err := s.startInit()
	if err != nil {
		return err
	}
	if err := s.lab.opts.plugIn(ctx, s.number, pid); err != nil {
		return err
	}
	ready, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := waitFor(ready, 2*time.Millisecond, func() (bool, error) {
		// The socket's file is there a moment before anybody listens on it.
		_, err := inside.Ask(s.Path(inside.Socket), inside.Request{Op: inside.List})
		if !s.On() {
			return false, errors.New("the first process died, see its init.log")
		}
		return err == nil, nil
	}); err != nil {
		return err
	}
	w, err := s.wants()
	if err != nil {
		return err
	}
	if err := s.applyCuts(ctx, w.Cuts); err != nil {
		return err
	}
	return s.startEnabled(w.Enabled)
}

// startInit starts the server's first process in its new namespaces and cgroup.
func (s *Server) startInit() (int, error) {
	plan := filepath.Join(s.lab.opts.runDir(), s.Name(), "plan.json")
	if err := writeJSON(plan, s.plan()); err != nil {
		return 0, err
	}
	log, err := os.OpenFile(s.data("log/init.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return 0, err
	}
	defer func() { _ = log.Close() }()
	dir, err := os.Open(string(s.cgroup()))
	if err != nil {
		return 0, err
	}
	defer func() { _ = dir.Close() }()
	cmd := exec.Command(s.lab.initBinary(), plan)
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.Env = "/", log, log, s.plan().Env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, UseCgroupFD: true, CgroupFD: int(dir.Fd()),
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWNET}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start the first process: %w", err)
	}
	go func() { _ = cmd.Wait() }() // it is killed, sooner or later
	pid := cmd.Process.Pid
	return pid, writeFile(filepath.Join(s.lab.opts.runDir(), s.Name(), "pid"), []byte(strconv.Itoa(pid)), 0o644)
}

// initPID is the server's first process, as seen from this machine.
func (s *Server) initPID() (int, error) {
	raw, err := os.ReadFile(filepath.Join(s.lab.opts.runDir(), s.Name(), "pid"))
	if err != nil || !s.On() {
		return 0, fmt.Errorf("%s is off", s.Name())
	}
	return strconv.Atoi(string(raw))
}

// Freeze stops every process of the server at once, or lets them run on: a
// machine that hangs as a whole and wakes up later.
func (s *Server) Freeze(ctx context.Context, frozen bool) error {
	if err := s.cgroup().freeze(frozen); err != nil {
		return fmt.Errorf("freeze %s: %w", s.Name(), err)
	}
	return waitFor(ctx, time.Millisecond, func() (bool, error) { return s.cgroup().event("frozen") == frozen, nil })
}

// Command prepares a program to run inside the server, as root and in its
// cgroup: a power cut kills it too. The server must be on.
func (s *Server) Command(ctx context.Context, argv ...string) (*exec.Cmd, func(), error) {
	pid, err := s.initPID()
	if err != nil {
		return nil, nil, err
	}
	dir, err := os.Open(string(s.cgroup()))
	if err != nil {
		return nil, nil, err
	}
	args := append([]string{"-t", strconv.Itoa(pid), "-m", "-u", "-n", "-p", "--"}, argv...)
	cmd := exec.CommandContext(ctx, "nsenter", args...)
	cmd.Env = s.plan().Env
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	return cmd, func() { _ = dir.Close() }, nil
}

// Exec runs a program inside the server and returns its standard output. A
// failure carries the standard error.
func (s *Server) Exec(ctx context.Context, argv ...string) (string, error) {
	cmd, done, err := s.Command(ctx, argv...)
	if err != nil {
		return "", err
	}
	defer done()
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return string(out), fmt.Errorf("%s: %s: %w: %s", s.Name(), strings.Join(argv, " "), err, strings.TrimSpace(string(exit.Stderr)))
	}
	return string(out), err
}
