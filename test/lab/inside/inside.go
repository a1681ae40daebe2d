package inside

import (
	"encoding/json"
	"fmt"
	"net"
	"time"
)

// Paths inside a lab server. Its /run is its own.
const (
	// Dir holds what belongs to the lab rather than to the server's software.
	Dir = "/run/lab"
	// Socket is where the first process takes requests.
	Socket = Dir + "/init.sock"
	// QMPDir holds the private QMP sockets of the server's QEMU processes:
	// PID.watch and PID.tool, by the PID inside the server.
	QMPDir = Dir + "/qmp"
	// RealQEMU is QEMU itself; the usual path holds the lab's wrapper.
	RealQEMU = Dir + "/qemu-system-x86_64"
)

// BMCPort is where the lab's power switches listen, on the machine that runs
// the lab.
const BMCPort = 7623

// MarkKey precedes the server's name in the SMBIOS OEM string that tells a
// guest where it was booted.
const MarkKey = "holdfast-lab-server="

// Plan is what a server's first process does at power-on.
type Plan struct {
	Hostname string
	// Binds are private directories and files, mounted in order.
	Binds []Bind
	// QEMU is the path of QEMU as libvirt knows it; Wrapper is put there instead.
	QEMU, Wrapper string
	// Env is the environment of every process of the server.
	Env []string
	// LogDir holds the output of the server's processes, NAME.log each. It
	// outlives a power cut.
	LogDir string
}

// Bind mounts Source over Target, which exists.
type Bind struct{ Source, Target string }

// Process is a program that a server runs under a name.
type Process struct {
	Name string
	Argv []string
	Env  []string `json:",omitempty"`
}

// Op is a request about a process.
type Op string

// The requests. Start fails while a process of that name runs; Signal fails
// when none does; List names all that were ever started in this power-on.
const (
	Start  Op = "start"
	Signal Op = "signal"
	List   Op = "list"
)

// Request is one question to a server's first process.
type Request struct {
	Op      Op
	Process Process `json:",omitzero"`
	Signal  int     `json:",omitempty"`
}

// State tells about one process. PID is the one inside the server; Exit is set
// once it has ended, in the words of a shell: "exit 1", "signal killed".
type State struct {
	Name string
	PID  int
	Exit string `json:",omitempty"`
}

// Running says whether the process still exists. A stopped one does.
func (s State) Running() bool { return s.PID > 0 && s.Exit == "" }

// Reply answers a request.
type Reply struct {
	Error  string  `json:",omitempty"`
	States []State `json:",omitempty"`
}

// Ask sends one request to the first process that listens on socket.
func Ask(socket string, req Request) (Reply, error) {
	conn, err := net.DialTimeout("unix", socket, 2*time.Second)
	if err != nil {
		return Reply{}, fmt.Errorf("reach the server's first process: %w", err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return Reply{}, err
	}
	if err := json.NewEncoder(conn).Encode(req); err != nil {
		return Reply{}, fmt.Errorf("ask the server's first process: %w", err)
	}
	var reply Reply
	if err := json.NewDecoder(conn).Decode(&reply); err != nil {
		return Reply{}, fmt.Errorf("answer of the server's first process: %w", err)
	}
	if reply.Error != "" {
		return reply, fmt.Errorf("%s %s: %s", req.Op, req.Process.Name, reply.Error)
	}
	return reply, nil
}
