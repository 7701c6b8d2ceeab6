"""What the integration tests, the end-to-end tests and the demo share.

Only Python's standard library. The parts, each usable without those after it:

    env         where programs and the cache are; how a test is skipped
    process     children, waiting for a condition, free ports
    sandbox     a folder of a test's own, with everything in it ended and unmounted at exit
    oci         OCI layouts, written and read
    registry    Debian's docker-registry on loopback, and a client for it
    proxy       a TCP relay that counts bytes
    containerd  containerd with its own root, and ctr and nerdctl talking to it
    clients     every client of containerd, used in one way
    imsy        our own programs
    images      images to test with: tiny ones, and two versions of a real one
"""
