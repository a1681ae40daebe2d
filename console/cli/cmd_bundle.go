package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Bounds of a support bundle.
const (
	bundleEvents = 2000
	bundleLines  = "5000"
	journalLimit = 20 * time.Second
)

// localFiles are what a server of a pool has; elsewhere they are just not there.
var localFiles = map[string]string{"server-config.yaml": "/etc/holdfast/config.yaml"}

// bundleCommand writes what somebody needs to know who is asked for help.
func (a *app) bundleCommand() *cobra.Command {
	return &cobra.Command{
		Use: "support-bundle FILE", Short: "Write status, history, incidents, settings and logs to a .tar.gz, without passwords", GroupID: "see", Args: cobra.ExactArgs(1),
		Long: "Writes what somebody needs to know who is asked for help: versions, status, servers and VMs (without their definitions), capacity,\n" +
			"operations, events and incidents; run on a server of the pool by root, also its settings and the latest lines of its journal. Whatever\n" +
			"looks like a password, a key or a token is taken out. Names of VMs, servers and people stay in: look before you hand it on.",
		RunE: a.run(func(cmd *cobra.Command, args []string) error {
			b := &bundle{now: a.env.Now()}
			b.text("version.txt", []byte(a.env.Version+"\n"))
			err := a.with(func(ctx context.Context, s *session, _ []string) error { b.pool(ctx, s); return nil })(cmd, nil)
			if err != nil {
				b.miss("pool", err)
			}
			b.local(cmd.Context())
			if werr := b.write(args[0]); werr != nil {
				return werr
			}
			a.say("%s: %s", args[0], plural(len(b.files), "file"))
			for _, m := range b.missing {
				a.say("not in it: %s", m)
			}
			return nil
		}),
	}
}

// bundle is what goes into the file.
type bundle struct {
	now     time.Time
	files   []bundleFile
	missing []string
}

type bundleFile struct {
	name string
	data []byte
}

// text adds a file without what looks like a secret.
func (b *bundle) text(name string, data []byte) {
	b.files = append(b.files, bundleFile{name, withoutSecrets(data)})
}

func (b *bundle) miss(name string, err error) {
	b.missing = append(b.missing, fmt.Sprintf("%s: %v", name, err))
}

// message adds an answer of the API.
func (b *bundle) message(name string, m proto.Message, err error) {
	if err != nil {
		b.miss(name, err)
		return
	}
	clean, err := messageWithoutSecrets(m)
	if err != nil {
		b.miss(name, err)
		return
	}
	b.files = append(b.files, bundleFile{name, clean})
}

// pool adds what the API says.
func (b *bundle) pool(ctx context.Context, s *session) {
	pool, err := s.pool.GetPool(ctx, &pb.GetPoolRequest{})
	b.message("pool.json", pool, err)
	me, err := s.pool.WhoAmI(ctx, &pb.WhoAmIRequest{})
	b.message("whoami.json", me, err)
	capacity, err := s.pool.GetCapacity(ctx, &pb.GetCapacityRequest{})
	b.message("capacity.json", capacity, err)
	servers, err := s.servers.ListServers(ctx, &pb.ListServersRequest{})
	b.message("servers.json", servers, err)
	vms, err := s.vms.ListVMs(ctx, &pb.ListVMsRequest{WithoutXml: true})
	b.message("vms.json", vms, err)
	operations, err := s.operations.ListOperations(ctx, &pb.ListOperationsRequest{})
	b.message("operations.json", operations, err)
	events, err := s.events.ListEvents(ctx, &pb.ListEventsRequest{Limit: bundleEvents})
	b.message("events.json", events, err)
	incidents, err := s.events.ListIncidents(ctx, &pb.ListIncidentsRequest{})
	b.message("incidents.json", incidents, err)
}

// local adds what is on this machine, if it is a server of a pool.
func (b *bundle) local(ctx context.Context) {
	for name, path := range localFiles {
		data, err := os.ReadFile(path)
		switch {
		case err == nil:
			b.text(name, data)
		case !errors.Is(err, os.ErrNotExist):
			b.miss(name, err)
		}
	}
	if _, err := exec.LookPath("journalctl"); err != nil {
		b.miss("journal.txt", err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, journalLimit)
	defer cancel()
	out, err := exec.CommandContext(ctx, "journalctl", "--no-pager", "-q", "-o", "short-iso", "-n", bundleLines, "-u", "holdfast-agent", "-u", "holdfast-guard", "-u", "holdfast-etcd").Output()
	if err != nil {
		b.miss("journal.txt", err)
		return
	}
	b.text("journal.txt", out)
}

// write makes the file, readable by its owner alone. An existing one is not overwritten.
func (b *bundle) write(path string) error {
	var notes bytes.Buffer
	for _, m := range b.missing {
		fmt.Fprintln(&notes, m)
	}
	if notes.Len() > 0 {
		b.text("missing.txt", notes.Bytes())
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("make the bundle: %w", err)
	}
	if err := errors.Join(b.pack(f), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func (b *bundle) pack(w io.Writer) error {
	z := gzip.NewWriter(w)
	t := tar.NewWriter(z)
	for _, f := range b.files {
		head := &tar.Header{Name: "holdfast-support/" + f.name, Mode: 0o600, Size: int64(len(f.data)), ModTime: b.now}
		if err := t.WriteHeader(head); err != nil {
			return err
		}
		if _, err := t.Write(f.data); err != nil {
			return err
		}
	}
	return errors.Join(t.Close(), z.Close())
}
