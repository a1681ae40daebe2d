package cli

import (
	"context"

	"github.com/spf13/cobra"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

func (a *app) whoamiCommand() *cobra.Command {
	out := formatTable
	cmd := &cobra.Command{
		Use: "whoami", Short: "Say who the pool takes you for, and what you may do", GroupID: "see", Args: cobra.NoArgs,
		RunE: a.with(func(ctx context.Context, s *session, _ []string) error {
			r, err := s.pool.WhoAmI(ctx, &pb.WhoAmIRequest{})
			if err != nil {
				return err
			}
			if out.forScripts() {
				return writeMessage(a.env.Out, out, r)
			}
			may := "may look and change"
			if r.GetReadOnly() || s.choice.ReadOnly {
				may = "may look, and change nothing"
			}
			a.say("%s, role %s: %s", dash(r.GetName()), dash(r.GetRole()), may)
			return nil
		}),
	}
	outputFlag(cmd, &out)
	return cmd
}
