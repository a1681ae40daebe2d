package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-ha/holdfast/agent/rebuild"
	"github.com/holdfast-ha/holdfast/agent/setup"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/config"
	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/saved"
	"github.com/holdfast-ha/holdfast/pkg/store"
	"github.com/holdfast-ha/holdfast/pkg/version"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Limits of a rebuild.
const (
	// etcdLooks bounds the look whether the old etcd answers after all.
	etcdLooks = 4 * time.Second
	// noticeLimit bounds the wait until every server has noticed that etcd does not answer.
	noticeLimit = 8 * time.Second
	// standingLimit bounds a question to one server.
	standingLimit = 10 * time.Second
	// anewLimit bounds the wait until every server's agent has started anew in the new life.
	anewLimit = 60 * time.Second
	// seededLimit bounds the seeding, and the wait until the new etcd answers.
	seededLimit = 60 * time.Second
)

// wishes are what an operator asks of a rebuild.
type wishes struct {
	from        string
	off         []string
	oldEtcdLost bool
	otherLife   bool
	yes         bool
}

func (w *wishes) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringSliceVar(&w.off, "off", nil, "servers that are off and stay off until they can come back without what ran on them; their VMs are started elsewhere")
	fl.BoolVar(&w.oldEtcdLost, "old-etcd-lost", false, "the etcd data of the servers that do not answer is lost for good too")
	fl.BoolVar(&w.otherLife, "other-life", false, "the backup is of this pool, though no server here has belonged to the life of its data that it is of")
	fl.BoolVar(&w.yes, "yes", false, "do not ask before anything is changed")
}

func rebuildCommand(path *string) *cobra.Command {
	var w wishes
	cmd := &cobra.Command{
		Use: "rebuild", Short: "make the pool's etcd anew from what the servers hold, after its data was lost; VMs run on", Args: cobra.NoArgs,
		Long: "Run it on one server when etcd has lost its data on a majority of its members. It asks the agents of all servers for their copies of\n" +
			"the pool's state and for what runs there, shows what it will restore, and asks before it changes anything. VMs that run go on.\n" +
			"Servers that do not answer count as lost and not fenced: what may run there is started nowhere until they are back or fenced.",
		RunE: func(cmd *cobra.Command, _ []string) error { return runRebuild(cmd, *path, w) },
	}
	w.register(cmd)
	cmd.Flags().StringVar(&w.from, "from", "", "restore from a file that `holdfast-agent backup` wrote, not from the servers' copies")
	return cmd
}

func restoreCommand(path *string) *cobra.Command {
	var w wishes
	cmd := &cobra.Command{
		Use: "restore FILE", Short: "make the pool's etcd anew from a backup, after its data was lost: the same as rebuild --from FILE", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			w.from = args[0]
			return runRebuild(cmd, *path, w)
		},
	}
	w.register(cmd)
	return cmd
}

func backupCommand(path *string) *cobra.Command {
	return &cobra.Command{
		Use: "backup FILE", Short: "write the pool's state to a file: from etcd, or the newest copy that a server has", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := newRebuilder(cmd, *path)
			if err != nil {
				return err
			}
			st, source, err := r.newest(cmd.Context())
			if err != nil {
				return err
			}
			if err := saved.Write(args[0], st); err != nil {
				return err
			}
			r.say("Wrote pool %s as of revision %d (%d servers, %d VMs), from %s.", st.Pool, st.Revision, st.Servers.Len(), st.VMs.Len(), source)
			return nil
		},
	}
}

// rebuilder does one rebuild.
type rebuilder struct {
	cfg    config.Config
	id     *pki.Store
	origin setup.Origin
	clock  clock.Clock
	log    *slog.Logger
	in     io.Reader
	out    io.Writer
}

func newRebuilder(cmd *cobra.Command, path string) (*rebuilder, error) {
	c, err := config.Load(path)
	if err != nil {
		return nil, err
	}
	id, err := pki.Open(pki.Files{CA: c.TLS.CA, Cert: c.TLS.Cert, Key: c.TLS.Key})
	if err != nil {
		return nil, err
	}
	origin, err := setup.LoadOrigin(c.StateDir)
	if err != nil {
		return nil, err
	}
	return &rebuilder{cfg: c, id: id, origin: origin, clock: clock.Real(), log: newLogger(config.Log{Level: "error"}), in: cmd.InOrStdin(), out: cmd.OutOrStdout()}, nil
}

func (r *rebuilder) say(format string, args ...any) { fmt.Fprintf(r.out, format+"\n", args...) }

// newest returns the pool's state from etcd, or the newest copy that a server has.
func (r *rebuilder) newest(ctx context.Context) (saved.State, string, error) {
	lctx, cancel := r.clock.WithTimeout(ctx, etcdLooks)
	defer cancel()
	db, err := openEtcd(ctx, r.cfg, r.id, r.log)
	if err != nil {
		return saved.State{}, "", err
	}
	defer db.close()
	snap, err := store.New(db.kv, store.NewKeys(r.cfg.Pool)).Load(lctx, r.origin.Incarnation)
	if err == nil {
		_, _ = db.view(lctx) // for the votes, which may be unknown
		st, ok := saved.Of(snap)
		if !ok {
			return st, "", fmt.Errorf("not everything in etcd can be read (holdfast status names the keys): %w", pool.ErrInvalid)
		}
		st.Server, st.Version, st.At, st.Voters = pool.ServerID(r.cfg.Server), version.Version, r.clock.Wall(), db.voters()
		return st, "etcd", nil
	}
	got := rebuild.Collect(ctx, r.caller(), r.known(nil), false)
	copies := got.Copies()
	if i := saved.Newest(copies, lives(got.Answers)); i >= 0 {
		return copies[i], fmt.Sprintf("the copy of %s, for etcd does not answer or has lost it", copies[i].Server), nil
	}
	return saved.State{}, "", fmt.Errorf("neither etcd nor a server has the pool's state: %w", err)
}

func (r *rebuilder) caller() rebuild.Caller {
	return (&life{id: r.id}).caller(standingLimit)
}

// known are the servers to ask: of the state that is to be restored, or of this server's copy, and this one.
func (r *rebuilder) known(st *saved.State) pool.Table[pool.ServerID, pool.Server] {
	var servers pool.Table[pool.ServerID, pool.Server]
	if st != nil {
		servers = st.Servers
	}
	if own, err := saved.Read(setup.CopyFile(r.cfg.StateDir)); err == nil {
		for id, s := range own.Servers.All() {
			servers = servers.With(id, s) // a file may be older
		}
	}
	self := pool.ServerID(r.cfg.Server)
	return servers.With(self, pool.Server{ID: self, Address: r.cfg.Address})
}

// lives lists the lives of the pool's data that servers know of, newest first: what a server belongs to before what it
// has left.
func lives(answers []rebuild.Answer) (all []string) {
	for _, a := range answers {
		if l := a.Standing.GetIncarnation(); !slices.Contains(all, l) && !leftBy(answers, l) {
			all = append(all, l)
		}
	}
	for _, a := range answers {
		for _, l := range append([]string{a.Standing.GetIncarnation()}, a.Standing.GetEarlier()...) {
			if !slices.Contains(all, l) {
				all = append(all, l)
			}
		}
	}
	return all
}

func leftBy(answers []rebuild.Answer, life string) bool {
	return slices.ContainsFunc(answers, func(a rebuild.Answer) bool { return slices.Contains(a.Standing.GetEarlier(), life) })
}

func runRebuild(cmd *cobra.Command, path string, w wishes) error {
	r, err := newRebuilder(cmd, path)
	if err != nil {
		return err
	}
	return r.run(cmd.Context(), w)
}

func (r *rebuilder) run(ctx context.Context, w wishes) error {
	if err := r.etcdIsLost(ctx); err != nil {
		return err
	}
	var file *saved.State
	source := "the newest copy on the servers"
	if w.from != "" {
		st, err := saved.Read(w.from)
		if err != nil {
			return err
		}
		file, source = &st, w.from
	}
	in, err := r.lookUntilLost(ctx, w, file)
	if err != nil {
		return err
	}
	if in.Incarnation, err = setup.NewLife(); err != nil {
		return err
	}
	plan := rebuild.Judge(in)
	if in.External {
		if err := r.externalIsReady(ctx, plan); errors.Is(err, pool.ErrRefused) {
			plan.Refusals = append(plan.Refusals, err.Error())
		} else if err != nil {
			return err
		}
	}
	if err := rebuild.Show(r.out, in, plan, source); err != nil {
		return err
	}
	if len(plan.Refusals) > 0 {
		return pool.Refuse("REBUILD_REFUSED", "do as it says above and run it again", "nothing was changed")
	}
	if !w.yes && !r.confirmed() {
		return pool.Refuse("REBUILD_REFUSED", "", "nothing was changed")
	}
	if err := r.leave(ctx, in); err != nil {
		return fmt.Errorf("%w (nothing is lost: run the rebuild again, on this server)", err)
	}
	if in, plan, err = r.lookAgain(ctx, w, in); err != nil {
		return fmt.Errorf("%w (nothing is lost: run the rebuild again, on this server)", err)
	}
	if err := r.seed(ctx, in, plan); err != nil {
		return fmt.Errorf("%w (nothing is lost: run the rebuild again, on this server)", err)
	}
	return r.wait(ctx, in)
}

// etcdIsLost refuses a pool whose etcd answers.
func (r *rebuilder) etcdIsLost(ctx context.Context) error {
	ctx, cancel := r.clock.WithTimeout(ctx, etcdLooks)
	defer cancel()
	db, err := openEtcd(ctx, r.cfg, r.id, r.log)
	if err != nil {
		return err
	}
	defer db.close()
	_, found, err := store.New(db.kv, store.NewKeys(r.cfg.Pool)).ReadConfig(ctx)
	external := r.cfg.Etcd.Mode == config.EtcdExternal
	switch {
	case err == nil && found, errors.Is(err, pool.ErrInvalid):
		remedy := "look at the pool with holdfast-agent check; to restore an older state over it, stop holdfast-etcd on all servers, then move " +
			filepath.Join(r.cfg.EtcdDir(), "data") + " away on all, then start it"
		if external {
			remedy = "look at the pool with holdfast-agent check; to restore an older state over it, delete everything below " + store.NewKeys(r.cfg.Pool).Prefix() + " there"
		}
		return pool.Refuse("ETCD_ANSWERS", remedy, "etcd answers and holds a pool %s", r.cfg.Pool)
	case err == nil && !external:
		return pool.Refuse("ETCD_ANSWERS", "stop holdfast-etcd on all servers, then move "+filepath.Join(r.cfg.EtcdDir(), "data")+" away on all, then start it",
			"the pool's embedded etcd answers, without a pool in it")
	case err != nil && external:
		return fmt.Errorf("the external etcd, in which the pool is made anew, does not answer: %w", err)
	}
	return nil
}

// lookUntilLost asks all servers, once more for a while if one of them still thinks that etcd answers: it takes seconds to
// notice.
func (r *rebuilder) lookUntilLost(ctx context.Context, w wishes, file *saved.State) (rebuild.Input, error) {
	until := r.clock.Now().Add(noticeLimit)
	for {
		in, err := r.look(ctx, w, file)
		answers := false
		for _, s := range in.Present {
			answers = answers || s.GetEtcdAnswers()
		}
		if err != nil || !answers || !r.clock.Now().Before(until) {
			return in, err
		}
		if err := r.clock.Sleep(ctx, 300*time.Millisecond); err != nil {
			return in, err
		}
	}
}

// look asks all servers, and puts together what is to be judged.
func (r *rebuilder) look(ctx context.Context, w wishes, file *saved.State) (rebuild.Input, error) {
	got := rebuild.Collect(ctx, r.caller(), r.known(file), false)
	in := rebuild.Input{Copies: got.Copies(), Present: map[pool.ServerID]*pb.LifeStanding{}, OldEtcdLost: w.oldEtcdLost, Adrift: w.otherLife,
		External: r.cfg.Etcd.Mode == config.EtcdExternal, At: r.clock.Wall(), By: "root on " + r.cfg.Server}
	for _, name := range w.off {
		in.Off = append(in.Off, pool.ServerID(name))
	}
	for _, a := range got.Answers {
		in.Present[a.Server] = a.Standing
		if a.CopyErr != nil {
			r.say("The copy of %s cannot be used: %v", a.Server, a.CopyErr)
		}
	}
	if in.Present[pool.ServerID(r.cfg.Server)] == nil {
		return in, fmt.Errorf("this server's agent does not answer; start it: %w", got.Silent[pool.ServerID(r.cfg.Server)])
	}
	if file != nil {
		in.State, in.Newer = *file, rebuild.Newer(*file, in.Copies, lives(got.Answers))
		in.Foreign = !slices.Contains(lives(got.Answers), file.Incarnation)
	} else if i := saved.Newest(in.Copies, lives(got.Answers)); i >= 0 {
		in.State = in.Copies[i]
	} else {
		return in, fmt.Errorf("no server that answers has a copy of the pool's state; restore a backup with holdfast-agent restore FILE: %w", pool.ErrNotFound)
	}
	if in.State.Pool != r.cfg.Pool {
		return in, fmt.Errorf("it is the state of pool %s, and this is a server of pool %s: %w", in.State.Pool, r.cfg.Pool, pool.ErrInvalid)
	}
	if !in.State.Servers.Has(pool.ServerID(r.cfg.Server)) {
		return in, fmt.Errorf("%s is no server of pool %s there; run it on one that is: %w", r.cfg.Server, r.cfg.Pool, pool.ErrInvalid)
	}
	in.State = rebuild.Merge(in.State, in.Newer, in.Copies)
	for id, v := range in.State.VMs.All() {
		if lacks, err := (definitions{}).Lack(v.XML); err == nil && lacks {
			in.Bare = append(in.Bare, id)
		}
	}
	for id := range in.Present {
		if !in.State.Servers.Has(id) {
			delete(in.Present, id) // it was removed
		}
	}
	return in, nil
}

// confirmed asks the operator.
func (r *rebuilder) confirmed() bool {
	fmt.Fprintf(r.out, "\nType the pool's name to go on: ")
	line, err := bufio.NewReader(r.in).ReadString('\n')
	return (err == nil || errors.Is(err, io.EOF)) && strings.TrimSpace(line) == r.cfg.Pool
}

// leave has every server that answers leave its life of the data for the new one, this one first. One after the other, each
// when the agent before runs anew and all have asked each other once more: VMs live by their answers meanwhile.
func (r *rebuilder) leave(ctx context.Context, in rebuild.Input) error {
	own := pool.ServerID(r.cfg.Server)
	order := []pool.ServerID{own}
	for id := range in.State.Servers.All() {
		if id != own && in.Present[id] != nil {
			order = append(order, id)
		}
	}
	endpoints, err := r.endpoints()
	if err != nil {
		return err
	}
	earlier := r.earlier(in)
	for _, id := range order {
		r.say("%s leaves the old life of the pool's data", id)
		request := &pb.AdoptLifeRequest{From: in.Present[id].GetIncarnation(), To: in.Incarnation, Earlier: earlier, Endpoints: endpoints}
		if err := r.runsAnew(ctx, id, r.address(in, id), in, request); err != nil {
			return err
		}
	}
	return nil
}

// runsAnew asks a server to leave until its agent runs in the new life, and waits for a round of the failsafe. A server that
// does not answer may just be starting anew: it follows by itself the ones that have left before.
func (r *rebuilder) runsAnew(ctx context.Context, id pool.ServerID, address string, in rebuild.Input, request *pb.AdoptLifeRequest) error {
	wctx, cancel := r.clock.WithTimeout(ctx, anewLimit)
	defer cancel()
	for {
		a, err := r.caller().Ask(wctx, id, address, true)
		if err == nil && a.Standing.GetIncarnation() == in.Incarnation {
			break
		}
		if err == nil {
			err = r.caller().Adopt(wctx, id, address, request)
		}
		if errors.Is(err, pool.ErrRefused) {
			return err
		}
		if r.clock.Sleep(wctx, 100*time.Millisecond) != nil {
			return errors.Join(fmt.Errorf("the agent of %s has not started anew in time: %w", id, pool.ErrUnavailable), err)
		}
	}
	t, err := pool.NewTiming(in.State.Config.LeaseTTL)
	if err != nil {
		return err
	}
	return r.clock.Sleep(ctx, t.Renew)
}

func (r *rebuilder) address(in rebuild.Input, id pool.ServerID) string {
	if id == pool.ServerID(r.cfg.Server) {
		return r.cfg.Address
	}
	s, _ := in.State.Servers.Get(id)
	return s.Address
}

// earlier lists all lives that the new one follows, newest first.
func (r *rebuilder) earlier(in rebuild.Input) []string {
	var answers []rebuild.Answer
	for id := range in.State.Servers.All() {
		if s := in.Present[id]; s != nil {
			answers = append(answers, rebuild.Answer{Server: id, Standing: s})
		}
	}
	return lives(answers)
}

// lookAgain waits until every server that has left its life runs in the new one, and judges what it says then.
func (r *rebuilder) lookAgain(ctx context.Context, w wishes, before rebuild.Input) (rebuild.Input, rebuild.Plan, error) {
	r.say("Waiting for the agents to start anew")
	ctx, cancel := r.clock.WithTimeout(ctx, anewLimit)
	defer cancel()
	for {
		in, err := r.look(ctx, w, &before.State)
		waits := ""
		for id := range before.State.Servers.All() {
			if before.Present[id] == nil {
				delete(in.Present, id) // it has not left the old life; it follows by itself
				continue
			}
			if s := in.Present[id]; s.GetIncarnation() != before.Incarnation || !s.GetAside() || !s.GetKnown() {
				waits = string(id)
			}
		}
		if err == nil && waits == "" {
			in.Incarnation = before.Incarnation
			plan := rebuild.Judge(in)
			if len(plan.Refusals) > 0 {
				return in, plan, fmt.Errorf("something has changed meanwhile: %s: %w", strings.Join(plan.Refusals, "; "), pool.ErrRefused)
			}
			return in, plan, nil
		}
		if r.clock.Sleep(ctx, 300*time.Millisecond) != nil {
			return in, rebuild.Plan{}, errors.Join(fmt.Errorf("the agent of %s has not started anew in time: %w", waits, pool.ErrUnavailable), err)
		}
	}
}
