module imsy/tests/containerd

go 1.23.0

require github.com/containerd/containerd/v2 v2.1.4
