package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-ha/holdfast/agent/setup"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/config"
	kvetcd "github.com/holdfast-ha/holdfast/pkg/kv/etcd"
	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// machineFlags are the wishes that init and join have in common.
type machineFlags struct {
	settings config.Config
	address  string
	storage  []string
}

func (f *machineFlags) register(cmd *cobra.Command) {
	f.settings = config.Default()
	fl := cmd.Flags()
	fl.StringVar(&f.settings.Server, "name", "", "this server's name in the pool (default: the host's name)")
	fl.StringVar(&f.address, "address", "", "IP or name, and port, where the other servers reach this one (default: the address of the default route, port 7400)")
	fl.StringVar(&f.settings.Listen, "listen", "", "host:port to listen on (default: the address)")
	fl.StringSliceVar(&f.storage, "storage", nil, "directories of the shared storage, the same on every server")
	fl.StringVar(&f.settings.Libvirt, "libvirt", "", "URI of this server's libvirt (default: found by itself)")
	fl.IntVar(&f.settings.Etcd.ClientPort, "etcd-client-port", f.settings.Etcd.ClientPort, "port of the embedded etcd for clients")
	fl.IntVar(&f.settings.Etcd.PeerPort, "etcd-peer-port", f.settings.Etcd.PeerPort, "port of the embedded etcd for its peers")
	fl.StringVar(&f.settings.StateDir, "state-dir", f.settings.StateDir, "where certificates and etcd's data are kept")
	fl.StringVar(&f.settings.RunDir, "run-dir", f.settings.RunDir, "where sockets are; emptied at boot")
}

// beyondDefaultRoute is reached through the default route; nothing is ever sent there. RFC 5737
const beyondDefaultRoute = "192.0.2.1:9"

// machine completes what the flags say. target is a host that this one must reach.
func (f *machineFlags) machine(cmd *cobra.Command, target string) (setup.Machine, error) {
	path, err := cmd.Flags().GetString("config")
	if err != nil {
		return setup.Machine{}, err
	}
	if f.address == "" {
		if f.address, err = setup.LocalAddress(target); err != nil {
			return setup.Machine{}, err
		}
	}
	f.settings.Address = setup.WithPort(f.address)
	for _, p := range f.storage {
		f.settings.Storage = append(f.settings.Storage, config.Storage{Path: p})
	}
	id, err := hostUUID(cmd.Context(), f.settings.Libvirt)
	if err != nil {
		return setup.Machine{}, err
	}
	return setup.Machine{Settings: f.settings, ConfigPath: path, HostUUID: id, Clock: clock.Real(), Log: newLogger(config.Log{Level: "warn"})}, nil
}

func initCommand() *cobra.Command {
	var f machineFlags
	var start bool
	tokens := 0
	cmd := &cobra.Command{
		Use: "init --pool NAME", Short: "make a new pool with this machine as its first server", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := errors.Join(checkExternal(f.settings.Etcd), checkTokens(tokens, start)); err != nil {
				return err
			}
			m, err := f.machine(cmd, beyondDefaultRoute)
			if err != nil {
				return err
			}
			r, err := setup.Init(cmd.Context(), m)
			if err != nil {
				return err
			}
			if err := tell(cmd, "Made pool %s with %s as its first server.\n", r, start); err != nil || tokens == 0 {
				return err
			}
			c, _, err := settings(m.ConfigPath)
			if err != nil {
				return err
			}
			return withTokens(cmd, c, tokens)
		},
	}
	f.register(cmd)
	startFlag(cmd, &start)
	cmd.Flags().IntVar(&tokens, "tokens", 0, "with --start: also make so many tokens, one for each further server, good for an hour")
	cmd.Flags().StringVar(&f.settings.Pool, "pool", "", "the pool's name; it cannot be changed later")
	externalFlags(cmd, &f.settings.Etcd)
	cobra.CheckErr(cmd.MarkFlagRequired("pool"))
	cmd.PreRun = func(*cobra.Command, []string) {
		if len(f.settings.Etcd.Endpoints) > 0 {
			f.settings.Etcd.Mode = config.EtcdExternal
		}
	}
	return cmd
}

// externalFlags are the settings of an external etcd, under the names that they have in the settings' file.
func externalFlags(cmd *cobra.Command, e *config.Etcd) {
	fl := cmd.Flags()
	fl.StringSliceVar(&e.Endpoints, "etcd", nil, "endpoints of an external etcd instead of the embedded one")
	fl.StringVar(&e.CA, "etcd-ca", "", "certificate authority of the external etcd (default: the system's)")
	fl.StringVar(&e.Cert, "etcd-cert", "", "certificate for the external etcd, where it asks for one")
	fl.StringVar(&e.Key, "etcd-key", "", "key of that certificate")
	fl.StringVar(&e.Username, "etcd-username", "", "login at the external etcd, where it has authentication switched on")
	fl.StringVar(&e.PasswordFile, "etcd-password-file", "", "file with the password of that login")
	cmd.MarkFlagsRequiredTogether("etcd-cert", "etcd-key")
	cmd.MarkFlagsRequiredTogether("etcd-username", "etcd-password-file")
}

// checkExternal refuses settings of an external etcd without one.
func checkExternal(e config.Etcd) error {
	if len(e.Endpoints) == 0 && e.CA+e.Cert+e.Username != "" {
		return fmt.Errorf("--etcd-ca, --etcd-cert and --etcd-username are for an external etcd: name it with --etcd: %w", pool.ErrInvalid)
	}
	return nil
}

func joinCommand() *cobra.Command {
	var f machineFlags
	var witness, start, ha bool
	cmd := &cobra.Command{
		Use: "join TOKEN", Short: "make this machine a server of the pool that made the token", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if ha && !start {
				return fmt.Errorf("--ha needs --start; without it: holdfast ha on, once the services run: %w", pool.ErrInvalid)
			}
			token, err := setup.ParseToken(args[0])
			if err != nil {
				return err
			}
			m, err := f.machine(cmd, token.Servers[0])
			if err != nil {
				return err
			}
			r, err := setup.Join(cmd.Context(), setup.JoinOptions{Machine: m, Token: args[0], Witness: witness})
			if err != nil {
				return err
			}
			if err := tell(cmd, "Joined pool %s as %s.\n", r, start); err != nil || !ha {
				return err
			}
			return switchHA(cmd.Context(), clock.Real(), cmd.OutOrStdout(), haOn)
		},
	}
	f.register(cmd)
	startFlag(cmd, &start)
	cmd.Flags().BoolVar(&witness, "witness", false, "carry a vote of etcd and nothing else")
	cmd.Flags().BoolVar(&ha, "ha", false, "with --start: then switch the pool's half of HA on (holdfast ha on), as soon as the pool can lose a server")
	cmd.MarkFlagsMutuallyExclusive("witness", "ha")
	return cmd
}

func startFlag(cmd *cobra.Command, start *bool) {
	cmd.Flags().BoolVar(start, "start", false, "start the services, now and at each boot, as the next step says otherwise")
}

// tell says what was done and what comes next; with start that is done too.
func tell(cmd *cobra.Command, text string, r setup.Result, start bool) error {
	next := []string{"systemctl", "enable", "--now", "holdfast-etcd", "holdfast-guard", "holdfast-agent"}
	if r.Witness {
		next = next[:4]
	}
	word := "Next"
	if start {
		word = "Now"
	}
	if _, err := fmt.Fprintf(cmd.OutOrStdout(), text+"Address %s, settings in %s.\n%s: %s\n", r.Pool, r.Server, r.Address, r.Files[0], word, strings.Join(next, " ")); err != nil || !start {
		return err
	}
	run := exec.CommandContext(cmd.Context(), next[0], next[1:]...) //nolint:gosec // fixed words
	run.Stdout, run.Stderr = cmd.OutOrStdout(), cmd.ErrOrStderr()
	if err := run.Run(); err != nil {
		return fmt.Errorf("the set-up is complete, but its services do not start: %s: %w", strings.Join(next, " "), err)
	}
	return nil
}

// maxTokens bounds the tokens that one command makes: a long list is a mistake.
const maxTokens = 100

func tokenCommand(path *string) *cobra.Command {
	cmd := &cobra.Command{Use: "token", Short: "tokens with which machines join the pool", Args: cobra.NoArgs}
	var ttl time.Duration
	var name, role string
	count := 1
	create := &cobra.Command{
		Use: "create", Short: "make a token with which one machine joins or, with --role, one operator logs in", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, _, err := settings(*path)
			if err != nil {
				return err
			}
			if (name == "") != (role == "") {
				return fmt.Errorf("a login token needs --role and --name, a token for a machine neither: %w", pool.ErrInvalid)
			}
			if count < 1 || count > maxTokens {
				return fmt.Errorf("--count %d: must be from 1 to %d: %w", count, maxTokens, pool.ErrInvalid)
			}
			for range count {
				t, err := createToken(cmd, c, ttl, name, pki.Role(role))
				if err != nil {
					return err
				}
				if _, err := fmt.Fprintln(cmd.OutOrStdout(), t); err != nil {
					return err
				}
			}
			return nil
		},
	}
	create.Flags().IntVar(&count, "count", count, "make so many, one a line: each admits one machine")
	create.Flags().StringVar(&role, "role", "", "make a login token (holdfast login) for this role: viewer, operator or admin")
	create.Flags().StringVar(&name, "name", "", "whom the certificate of a login token is for")
	create.Flags().DurationVar(&ttl, "ttl", setup.DefaultTokenTTL, "how long it can be used")
	cmd.AddCommand(create)
	return cmd
}

func createToken(cmd *cobra.Command, c config.Config, ttl time.Duration, name string, role pki.Role) (setup.Token, error) {
	id, err := pki.Open(pki.Files{CA: c.TLS.CA, Cert: c.TLS.Cert, Key: c.TLS.Key})
	if err != nil {
		return setup.Token{}, err
	}
	access, err := setup.Access(c, id)
	if err != nil {
		return setup.Token{}, err
	}
	edge, err := kvetcd.Open(kvetcd.Options{Endpoints: access.Endpoints, TLS: access.TLS, Username: access.Username, Password: access.Password})
	if err != nil {
		return setup.Token{}, err
	}
	defer func() { _ = edge.Close() }() // the token is written, or the error says so
	return setup.CreateToken(cmd.Context(), setup.TokenOptions{Settings: c, Store: edge, Leases: edge, Clock: clock.Real(), TTL: ttl, By: operator(), Name: name, Role: role})
}

// operator names who runs this command, for the audit trail.
func operator() string {
	if name := os.Getenv("SUDO_USER"); name != "" {
		return name
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return fmt.Sprintf("uid %d", os.Getuid())
}
