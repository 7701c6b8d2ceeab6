// Package conformance runs containerd's own snapshotter suite against imsy-snapshotter, through
// the proxy client that containerd itself uses: directly, and below containerd's metadata, which
// gives keys of its own, keeps labels, and removes only when it collects its garbage.
//
// IMSY_SNAPSHOTTER names the program, IMSY_SOCKETS a folder with a short path for its sockets.
// Every case gets a fresh root and a process of its own. It must run as root, with TMPDIR on a
// filesystem that can be the upper side of an overlay.
package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/proxy"
	"github.com/containerd/containerd/v2/core/snapshots/testsuite"
	bolt "go.etcd.io/bbolt"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const startDeadline = 30 * time.Second

// daemon is one running imsy-snapshotter with everything it wrote.
type daemon struct {
	process *exec.Cmd
	output  bytes.Buffer
	ended   chan error
	folder  string
	socket  string
}

func startDaemon(program, root string) (*daemon, error) {
	// Not below the case's own folder: a socket's path must stay under 108 bytes.
	folder, err := os.MkdirTemp(os.Getenv("IMSY_SOCKETS"), "s")
	if err != nil {
		return nil, err
	}
	d := &daemon{folder: folder, socket: filepath.Join(folder, "s"), ended: make(chan error, 1)}
	config := filepath.Join(folder, "config.toml")
	if err := os.WriteFile(config, []byte("containerd_address = \"\"\n"), 0o600); err != nil {
		return nil, err
	}
	d.process = exec.Command(program, "--root", root, "--address", d.socket,
		"--state", filepath.Join(folder, "state"), "--config", config)
	d.process.Stdout, d.process.Stderr = &d.output, &d.output
	if err := d.process.Start(); err != nil {
		return nil, err
	}
	go func() { d.ended <- d.process.Wait() }()
	return d, d.waitReady()
}

// waitReady returns once the socket accepts connections, or with the reason why it never did.
func (d *daemon) waitReady() error {
	deadline := time.After(startDeadline)
	for {
		if conn, err := net.Dial("unix", d.socket); err == nil {
			return conn.Close()
		}
		select {
		case err := <-d.ended:
			return fmt.Errorf("imsy-snapshotter ended at start: %v\n%s", err, d.output.String())
		case <-deadline:
			return fmt.Errorf("imsy-snapshotter was not ready after %v", startDeadline)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// stop asks the program to end and reports anything but a clean end, a mount left behind included.
func (d *daemon) stop() (result error) {
	defer func() { result = errors.Join(result, os.RemoveAll(d.folder)) }()
	if err := d.process.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case err := <-d.ended:
		if err != nil {
			return fmt.Errorf("imsy-snapshotter ended with %w\n%s", err, d.output.String())
		}
		return nil
	case <-time.After(startDeadline):
		return errors.Join(errors.New("imsy-snapshotter did not end on SIGTERM"),
			d.process.Process.Kill())
	}
}

// start returns a proxy of a new imsy-snapshotter, and what ends both.
func start(program, root string) (snapshots.Snapshotter, func() error, error) {
	d, err := startDaemon(program, root)
	if err != nil {
		return nil, nil, err
	}
	conn, err := grpc.NewClient("unix://"+d.socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, nil, errors.Join(err, d.stop())
	}
	snapshotter := proxy.NewSnapshotter(snapshotsapi.NewSnapshotsClient(conn), "imsy")
	return snapshotter, func() error { return errors.Join(conn.Close(), d.stop()) }, nil
}

func startWithMetadata(program, root string) (snapshots.Snapshotter, func() error, error) {
	backend, end, err := start(program, filepath.Join(root, "imsy"))
	if err != nil {
		return nil, nil, err
	}
	db, err := bolt.Open(filepath.Join(root, "metadata.db"), 0o600, nil)
	if err != nil {
		return nil, nil, errors.Join(err, end())
	}
	metadataDB := metadata.NewDB(db, nil, map[string]snapshots.Snapshotter{"imsy": backend})
	return metadataDB.Snapshotter("imsy"),
		func() error { return errors.Join(db.Close(), end()) }, nil
}

func TestSnapshotter(t *testing.T) {
	program := os.Getenv("IMSY_SNAPSHOTTER")
	if program == "" {
		t.Fatal("IMSY_SNAPSHOTTER does not name the program to test")
	}
	for name, start := range map[string]func(string, string) (
		snapshots.Snapshotter, func() error, error){
		"Direct": start, "Metadata": startWithMetadata,
	} {
		t.Run(name, func(t *testing.T) {
			// The suite knows by this name that directories of lower layers cannot be renamed in
			// an overlay.
			testsuite.SnapshotterSuite(t, "overlayfs",
				func(_ context.Context, root string) (snapshots.Snapshotter, func() error, error) {
					return start(program, root)
				})
		})
	}
}
