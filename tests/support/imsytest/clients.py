"""Every client of containerd, used in one way: pull, run, start, exec, remove.

All of them use the snapshotter imsy. Scripts are of the shell; they tell by their exit codes, as
not every client waits for all of the output.
"""

import json
import uuid

from . import env
from .process import Failed, run, wait_for

KUBERNETES = "k8s.io"  # the namespace of all that comes through CRI
IMAGE_SERVICE = ("PullImage", "ListImages", "ImageStatus", "RemoveImage", "ImageFsInfo")
FOREVER = "while :; do sleep 1000; done"


class Ctr:
    """ctr; mode: the flags by which it pulls."""

    def __init__(self, containerd, *mode):
        self.containerd = containerd
        self._mode = mode

    def pull(self, reference):
        self.containerd.ctr("images", "pull", "--plain-http", "--snapshotter", "imsy",
                            *self._mode, reference)

    def run(self, reference, script):
        self.containerd.ctr_run(reference, script, "imsy")

    def start(self, reference, name):
        self.containerd.ctr("run", "-d", "--null-io", "--snapshotter", "imsy", reference, name,
                            "sh", "-c", FOREVER)

    def exec(self, name, script):
        return self.containerd.ctr("tasks", "exec", "--exec-id", f"exec-{uuid.uuid4().hex}", name,
                                   "sh", "-c", script).stdout

    def running(self):
        return set(self.containerd.ctr("tasks", "ls", "-q").stdout.split())

    def remove(self, name):
        self.containerd.ctr("tasks", "rm", "--force", name)
        self.containerd.ctr("containers", "rm", name)

    def remove_image(self, reference):
        self.containerd.remove_images(reference)


class Nerdctl(Ctr):
    def _nerdctl(self, *words):
        return self.containerd.nerdctl(*words, snapshotter="imsy")

    def pull(self, reference):
        self._nerdctl("pull", "--quiet", reference)

    def run(self, reference, script):
        self.containerd.run(reference, "sh", "-c", script, snapshotter="imsy")

    def start(self, reference, name):
        self._nerdctl("run", "-d", "--name", name, "--net", "none", "--pull", "never", reference,
                      "sh", "-c", FOREVER)

    def exec(self, name, script):
        return self._nerdctl("exec", name, "sh", "-c", script).stdout

    def running(self):
        return set(self._nerdctl("ps", "--format", "{{.Names}}").stdout.split())

    def remove(self, name):
        self._nerdctl("rm", "-f", name)

    def remove_image(self, reference):
        self._nerdctl("rmi", "-f", reference)


class Cri:
    """The kubelet's way. Containers have pods of their own, of the same name, on our network.

    image_service: its socket, where that is not containerd's.
    """

    def __init__(self, containerd, image_service=None):
        self._socket = containerd.socket
        self._image_service = image_service or containerd.socket
        self._cgroup = f"/{containerd.namespace}"
        self._box = containerd.box
        self.containerd = containerd.within(KUBERNETES)
        # Before containerd ends, so that nothing of a pod stays mounted.
        self._box.callback(self.remove_all)
        self.wait_ready()

    def call(self, method, **request):
        """One call of the interface, with its names and answers."""
        socket = self._image_service if method in IMAGE_SERVICE else self._socket
        return json.loads(run([env.tool("cri"), socket, method, json.dumps(request)]).stdout)

    def wait_ready(self):
        wait_for(lambda: run([env.tool("cri"), self._socket, "Version"],
                             check=False).returncode == 0, "containerd's CRI to answer")

    def pull(self, reference, login=None):
        """login: user and password."""
        auth = {"auth": dict(zip(("username", "password"), login))} if login else {}
        self.call("PullImage", image={"image": reference}, **auth)

    def _pod(self, name):
        return {"metadata": {"name": name, "namespace": "test", "uid": name},
                "log_directory": str(self._box.path("pods", name)),
                "linux": {"cgroup_parent": self._cgroup, "security_context": {
                    "namespace_options": {"network": 2}}}}

    def create(self, reference, name, script):
        """A pod with a container that runs; returns the ids of both."""
        pod = self._pod(name)
        sandbox = self.call("RunPodSandbox", config=pod)["pod_sandbox_id"]
        container = self.call(
            "CreateContainer", pod_sandbox_id=sandbox, sandbox_config=pod,
            config={"metadata": {"name": name}, "image": {"image": reference},
                    "command": ["sh", "-c", script], "log_path": "log",
                    "linux": {"security_context": {"namespace_options": {"network": 2}}}})
        self.call("StartContainer", container_id=container["container_id"])
        return sandbox, container["container_id"]

    def run(self, reference, script):
        sandbox, container = self.create(reference, f"run-{uuid.uuid4().hex}", script)

        def ended():
            status = self.call("ContainerStatus", container_id=container)["status"]
            return status if status["state"] == 2 else None
        status = wait_for(ended, f"the end of a container of {reference}")
        self._remove_pod(sandbox)
        if status.get("exit_code"):
            raise Failed(f"a container of {reference} ended with {status}")

    def start(self, reference, name):
        self.create(reference, name, FOREVER)

    def container(self, name):
        """The id of a container that runs."""
        found, = [entry["id"] for entry in self.call("ListContainers").get("containers", [])
                  if entry["metadata"]["name"] == name and entry["state"] == 1]
        return found

    def exec(self, name, script):
        done = self.call("ExecSync", container_id=self.container(name),
                         cmd=["sh", "-c", script])
        if done.get("exit_code"):
            raise Failed(f"{script} in {name}: {done}")
        return done

    def running(self):
        return {entry["metadata"]["name"]
                for entry in self.call("ListContainers").get("containers", [])
                if entry["state"] == 1}

    def remove(self, name):
        for entry in self.call("ListPodSandbox").get("items", []):
            if entry["metadata"]["name"] == name:
                self._remove_pod(entry["id"])

    def _remove_pod(self, sandbox):
        self.call("StopPodSandbox", pod_sandbox_id=sandbox)
        self.call("RemovePodSandbox", pod_sandbox_id=sandbox)

    def remove_all(self):
        for entry in self.call("ListPodSandbox").get("items", []):
            self._remove_pod(entry["id"])

    def remove_image(self, reference):
        self.call("RemoveImage", image={"image": reference})

    def images(self):
        """The names of all images."""
        return {name for image in self.call("ListImages").get("images", [])
                for name in image.get("repo_tags", [])}
