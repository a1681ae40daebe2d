package etcd

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// release is a version of etcd.
type release struct{ major, minor, patch int }

// firstGood are the first releases of each line in which a former leader, stuck on a slow disk, can no longer
// revoke leases that others have renewed: etcd-io/etcd pull request 16822, and its backports 17425 (release 3.5.13)
// and 17465 (release 3.4.31). Every later line has it.
var firstGood = []release{{3, 4, 31}, {3, 5, 13}, {3, 6, 0}}

// CheckVersions asks every member for its version and refuses those that can end a lease before its time: a server
// would still run VMs that others may start by then. Members that cannot be asked are passed over, unless that is
// all of them (pool.ErrUnavailable). The refusal is a *pool.Refusal with code ETCD_TOO_OLD.
func (e *Etcd) CheckVersions(ctx context.Context) error {
	var errs []error
	members := e.order()
	for _, m := range members {
		var version string
		err := e.ask(ctx, m, readLimit, func(ctx context.Context, c *clientv3.Client) error {
			res, err := c.Status(ctx, m.endpoint)
			if err == nil {
				version = res.Version
			}
			return err
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("etcd %s: %w", m.endpoint, err))
			continue
		}
		if err := CheckVersion(version); err != nil {
			return fmt.Errorf("etcd %s: %w", m.endpoint, err)
		}
	}
	if len(errs) == len(members) {
		return fmt.Errorf("ask etcd for its version: %w: %w", pool.ErrUnavailable, errors.Join(errs...))
	}
	return nil
}

// CheckVersion refuses one version, such as "3.5.12", and one that it cannot read.
func CheckVersion(version string) error {
	r, err := parseRelease(version)
	if err != nil {
		return err
	}
	for _, good := range firstGood {
		if r.major == good.major && r.minor == good.minor && r.patch >= good.patch {
			return nil
		}
	}
	newest := firstGood[len(firstGood)-1]
	if r.major > newest.major || (r.major == newest.major && r.minor > newest.minor) {
		return nil
	}
	return pool.Refuse("ETCD_TOO_OLD", "upgrade it to 3.4.31, 3.5.13, 3.6.0 or a later release of these lines",
		"version %s can revoke a lease too early (etcd pull request 16822)", version)
}

func parseRelease(version string) (release, error) {
	number, _, _ := strings.Cut(strings.TrimPrefix(version, "v"), "-")
	number, _, _ = strings.Cut(number, "+")
	parts := strings.Split(number, ".")
	var n [3]int
	for i := range n {
		if i >= len(parts) {
			return release{}, fmt.Errorf("etcd version %q: not of the form 3.5.13: %w", version, pool.ErrInvalid)
		}
		v, err := strconv.Atoi(parts[i])
		if err != nil {
			return release{}, fmt.Errorf("etcd version %q: not of the form 3.5.13: %w", version, pool.ErrInvalid)
		}
		n[i] = v
	}
	return release{n[0], n[1], n[2]}, nil
}
