package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/holdfast-ha/holdfast/console/contexts"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

func (a *app) loginCommand() *cobra.Command {
	var name, label string
	var renew bool
	cmd := &cobra.Command{
		Use: "login TOKEN", Short: "Get a certificate for a pool, and remember the pool", GroupID: "pool", Args: cobra.MaximumNArgs(1),
		Long: `Get a certificate for a pool, and remember the pool.

The token comes from an admin of the pool (holdfast identity invite). It works
once, and not for long. The key is made here and stays here. Afterwards the
pool is a context of ~/.config/holdfast/config.yaml.

With --renew the certificate of a context gets a successor; no token is needed.`,
		RunE: a.run(func(cmd *cobra.Command, args []string) error {
			if renew == (len(args) == 1) {
				return usagef("give a token, or --renew")
			}
			var in contexts.LoggedIn
			var err error
			if renew {
				in, err = contexts.Renew(cmd.Context(), a.context, a.configFile, a.env.Getenv)
			} else {
				in, err = contexts.Login(cmd.Context(), contexts.LoginWish{Token: args[0], Name: name, Label: label, File: a.configFile, Getenv: a.env.Getenv, Now: a.env.Now})
			}
			if err != nil {
				return err
			}
			a.say("%s, role %s of pool %s, until %s: context %s in %s", in.Name, in.Role, in.Pool, in.Expires.In(a.env.Now().Location()).Format("2006-01-02"), in.Context, in.File)
			return nil
		}),
	}
	fl := cmd.Flags()
	fl.StringVar(&name, "name", "", "`name` of the context (default: the pool's name)")
	fl.StringVar(&label, "label", "", "`text` that is shown with every question, such as PROD")
	fl.BoolVar(&renew, "renew", false, "renew the certificate of --context, or of the default one")
	return cmd
}

// identityCommand is what admins do with the certificates of others.
func (a *app) identityCommand() *cobra.Command {
	cmd := a.group("identity", "Give certificates to people and scripts, and take them away", "pool")
	cmd.AddCommand(a.inviteCommand(), a.revokeCommand(), a.revokedCommand())
	return cmd
}

func (a *app) inviteCommand() *cobra.Command {
	var role, why, requestID string
	var ttl time.Duration
	cmd := &cobra.Command{
		Use: "invite NAME --role ROLE", Short: "Make a token for `holdfast login`, for one certificate", Args: cobra.ExactArgs(1),
		RunE: a.with(func(ctx context.Context, s *session, args []string) error {
			r := &pb.CreateLoginRequest{Name: args[0], Role: role, Why: why, RequestId: requestID}
			if ttl != 0 {
				r.Ttl = durationpb.New(ttl)
			}
			resp, err := pb.NewIdentityServiceClient(gate{s.client, s.choice}).CreateLogin(ctx, r)
			if err != nil {
				return err
			}
			a.say("%s", resp.GetToken())
			return nil
		}),
	}
	fl := cmd.Flags()
	fl.StringVar(&role, "role", "", "`role` of the certificate: viewer, operator or admin")
	fl.DurationVar(&ttl, "ttl", 0, "how long the token can be used (default: an hour)")
	fl.StringVar(&requestID, "request-id", "", "`name` of the request; the same one makes no second token")
	must(cmd.MarkFlagRequired("role"))
	must(cmd.RegisterFlagCompletionFunc("role", cobra.FixedCompletions([]string{"viewer", "operator", "admin"}, cobra.ShellCompDirectiveNoFileComp)))
	whyFlag(cmd, &why)
	return cmd
}

func (a *app) revokeCommand() *cobra.Command {
	var serial, server, why, requestID string
	cmd := &cobra.Command{
		Use: "revoke [NAME]", Short: "Have every agent refuse a certificate, or all of a name", Args: cobra.MaximumNArgs(1),
		Long: `Have every agent refuse all certificates issued to NAME until now, or one by its
serial number (holdfast whoami, holdfast events --audit). Open connections and
watches end too. A new invitation gives a new certificate.`,
		RunE: a.with(func(ctx context.Context, s *session, args []string) error {
			r := &pb.RevokeCertificateRequest{Serial: serial, Server: server, Why: why, RequestId: requestID}
			if len(args) == 1 {
				r.Operator = args[0]
			}
			resp, err := pb.NewIdentityServiceClient(gate{s.client, s.choice}).RevokeCertificate(ctx, r)
			if err != nil {
				return err
			}
			for _, v := range resp.GetRevocations() {
				a.say("revoked: %s", v.GetId())
			}
			return nil
		}),
	}
	fl := cmd.Flags()
	fl.StringVar(&serial, "serial", "", "one certificate, by its serial `number` in hex")
	fl.StringVar(&server, "server", "", "the certificates of a `machine` that is no server of the pool, such as a witness")
	fl.StringVar(&requestID, "request-id", "", "`name` of the request; repeated, it revokes nothing that was issued since")
	whyFlag(cmd, &why)
	return cmd
}

func (a *app) revokedCommand() *cobra.Command {
	out := formatTable
	cmd := &cobra.Command{
		Use: "revoked", Short: "List what is revoked", Args: cobra.NoArgs,
		RunE: a.with(func(ctx context.Context, s *session, _ []string) error {
			r, err := pb.NewIdentityServiceClient(gate{s.client, s.choice}).ListRevocations(ctx, &pb.ListRevocationsRequest{})
			if err != nil {
				return err
			}
			if out.forScripts() {
				return writeMessage(a.env.Out, out, r)
			}
			for _, v := range r.GetRevocations() {
				why := ""
				if w := v.GetRevoked().GetWhy(); w != "" {
					why = ": " + w
				}
				a.say("%s, what was issued until %s, by %s%s", v.GetId(), v.GetIssuedUntil().AsTime().In(a.env.Now().Location()).Format("2006-01-02 15:04:05"), v.GetRevoked().GetBy(), why)
			}
			if len(r.GetRevocations()) == 0 {
				a.say("nothing is revoked")
			}
			return nil
		}),
	}
	outputFlag(cmd, &out)
	return cmd
}
