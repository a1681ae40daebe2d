package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-ha/holdfast/agent/etcd"
	"github.com/holdfast-ha/holdfast/agent/setup"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/config"
	kvetcd "github.com/holdfast-ha/holdfast/pkg/kv/etcd"
	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	"github.com/holdfast-ha/holdfast/pkg/store"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

func caCommand(path *string) *cobra.Command {
	cmd := &cobra.Command{Use: "ca", Short: "exchange the pool's CA while everything runs", Args: cobra.NoArgs}
	for _, c := range []struct {
		use, short, long string
		run              func(setup.Rotation, context.Context) error
	}{
		{"rotate", "make a new CA, have every server trust it beside the old one, and sign by it",
			"Makes a new CA. Every server trusts it beside the old one, then every server signs by it; each phase only when every server has\nconfirmed the one before. Nothing stops meanwhile: embedded etcd takes it up one member after the other. If the command is cut off, or a\nserver does not answer, run it again, on any server: it goes on where it was.", setup.Rotation.Rotate},
		{"drop", "trust nothing but the new CA: certificates of the old one are refused from then on",
			"Ends what `ca rotate` began. Operators who have not renewed their certificates by then (holdfast login --renew) need a new login token.", setup.Rotation.Drop},
		{"status", "say by which CA each server signs, and which it trusts", "", setup.Rotation.Status},
	} {
		cmd.AddCommand(&cobra.Command{Use: c.use, Short: c.short, Long: c.long, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			settings, _, err := settings(*path)
			if err != nil {
				return err
			}
			r, end, err := newRotation(cmd, settings)
			if err != nil {
				return err
			}
			return errors.Join(c.run(r, cmd.Context()), end())
		}})
	}
	return cmd
}

// authorityLimit bounds one question to one server.
const authorityLimit = 15 * time.Second

// newRotation wires the exchange of the CA from this server, with its own identity.
func newRotation(cmd *cobra.Command, c config.Config) (setup.Rotation, func() error, error) {
	id, err := pki.Open(pki.Files{CA: c.TLS.CA, Cert: c.TLS.Cert, Key: c.TLS.Key})
	if err != nil {
		return setup.Rotation{}, nil, err
	}
	access, err := setup.Access(c, id)
	if err != nil {
		return setup.Rotation{}, nil, err
	}
	edge, err := kvetcd.Open(kvetcd.Options{Endpoints: access.Endpoints, TLS: access.TLS, Username: access.Username, Password: access.Password})
	if err != nil {
		return setup.Rotation{}, nil, err
	}
	client, err := etcd.Dial(cmd.Context(), access)
	if err != nil {
		return setup.Rotation{}, nil, errors.Join(err, edge.Close())
	}
	st := store.New(edge, store.NewKeys(c.Pool))
	cluster := etcd.Cluster{Client: client, Access: access, Timeout: memberTimeout}
	r := setup.NewRotation(setup.RotationOptions{Settings: c, Store: st, Clock: clock.Real(), By: operator(),
		Ask: func(ctx context.Context, s pool.Server, q *pb.ChangeAuthorityRequest) (*pb.ChangeAuthorityResponse, error) {
			return askAuthority(ctx, id, s, q)
		},
		Voters: func(ctx context.Context) error {
			if c.Etcd.Mode == config.EtcdExternal {
				return nil
			}
			members, err := cluster.Members(ctx)
			if err != nil {
				return err
			}
			return etcd.AllAnswer(members)
		},
		Say: func(format string, args ...any) { _, _ = fmt.Fprintf(cmd.OutOrStdout(), format+"\n", args...) },
	})
	return r, func() error { return errors.Join(edge.Close(), client.Close()) }, nil
}

// askAuthority asks one server on a connection of its own: the certificates on both ends change between questions.
func askAuthority(ctx context.Context, id *pki.Store, s pool.Server, q *pb.ChangeAuthorityRequest) (*pb.ChangeAuthorityResponse, error) {
	conn, err := rpc.Dial(rpc.Target{Agents: []string{s.Address}, TLS: id.Client(string(s.ID))}, rpc.Limits{})
	if err != nil {
		return nil, fmt.Errorf("%s at %s: %w", s.ID, s.Address, err)
	}
	defer conn.Close() //nolint:errcheck // answered or given up
	ctx, cancel := context.WithTimeout(ctx, authorityLimit)
	defer cancel()
	a, err := pb.NewMeshServiceClient(conn).ChangeAuthority(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("%s at %s: %w", s.ID, s.Address, rpc.FromStatus(err))
	}
	return a, nil
}
