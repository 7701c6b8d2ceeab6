// Command snapshots times the calls of one containerd snapshotter, as a client of containerd makes
// them, while many snapshots are there.
//
//	snapshots SOCKET SNAPSHOTTER PRESENT ROUNDS
//
// It makes PRESENT snapshots on one committed layer, half of them committed, then repeats the calls
// ROUNDS times and prints their medians in microseconds as JSON. What it made is removed.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"strconv"
	"time"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/proxy"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// Containerd's collector leaves what has this label.
var kept = snapshots.WithLabels(map[string]string{"containerd.io/gc.root": "bench"})

type bench struct {
	ctx    context.Context
	sn     snapshots.Snapshotter
	times  map[string][]time.Duration
	failed error
}

// call times one call. After a failure nothing more is called.
func (b *bench) call(name string, work func() error) {
	if b.failed != nil {
		return
	}
	begin := time.Now()
	if err := work(); err != nil {
		b.failed = fmt.Errorf("%s: %w", name, err)
		return
	}
	if b.times != nil {
		b.times[name] = append(b.times[name], time.Since(begin))
	}
}

func (b *bench) prepare(key, parent string) {
	b.call("prepare", func() error {
		_, err := b.sn.Prepare(b.ctx, key, parent, kept)
		return err
	})
}

func (b *bench) commit(name, key string) {
	b.call("commit", func() error { return b.sn.Commit(b.ctx, name, key, kept) })
}

func (b *bench) remove(key string) {
	b.call("remove", func() error { return b.sn.Remove(b.ctx, key) })
}

func (b *bench) list(filters ...string) (count int) {
	b.call("list", func() error {
		return b.sn.Walk(b.ctx, func(context.Context, snapshots.Info) error {
			count++
			return nil
		}, filters...)
	})
	return count
}

func (b *bench) fill(present int) {
	b.prepare("base-active", "")
	b.commit("base", "base-active")
	for i := 0; i < present; i++ {
		key := fmt.Sprintf("fill-%d", i)
		b.prepare(key, "base")
		if i%2 == 0 {
			b.commit("committed-"+key, key)
		}
	}
}

func (b *bench) round(i int) {
	key := fmt.Sprintf("round-%d", i)
	b.prepare(key, "base")
	b.call("mounts", func() error { _, err := b.sn.Mounts(b.ctx, key); return err })
	b.call("stat", func() error { _, err := b.sn.Stat(b.ctx, key); return err })
	b.call("usage", func() error { _, err := b.sn.Usage(b.ctx, key); return err })
	b.commit("committed-"+key, key)
	b.remove("committed-" + key)
	if i%20 == 0 {
		b.list()
	}
}

func (b *bench) medians() map[string]float64 {
	medians := map[string]float64{}
	for name, times := range b.times {
		sort.Slice(times, func(i, j int) bool { return times[i] < times[j] })
		medians[name] = float64(times[len(times)/2].Nanoseconds()) / 1000
	}
	return medians
}

func run(socket, name string, present, rounds int) error {
	conn, err := grpc.NewClient("unix://"+socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		return err
	}
	defer conn.Close()
	b := &bench{
		ctx: namespaces.WithNamespace(context.Background(), "bench"),
		sn:  proxy.NewSnapshotter(snapshotsapi.NewSnapshotsClient(conn), name),
	}
	b.fill(present)
	b.times = map[string][]time.Duration{}
	for i := 0; i < rounds; i++ {
		b.round(i)
	}
	if b.failed != nil {
		return b.failed
	}
	return json.NewEncoder(os.Stdout).Encode(b.medians())
}

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: snapshots SOCKET SNAPSHOTTER PRESENT ROUNDS")
		os.Exit(2)
	}
	present, err := strconv.Atoi(os.Args[3])
	rounds, err2 := strconv.Atoi(os.Args[4])
	if err != nil || err2 != nil {
		fmt.Fprintln(os.Stderr, "snapshots: PRESENT and ROUNDS are numbers")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], present, rounds); err != nil {
		fmt.Fprintln(os.Stderr, "snapshots:", err)
		os.Exit(1)
	}
}
