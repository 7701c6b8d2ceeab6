"""A registry that does wrong what it is told; tests/support/faultreg.cc says what it can do."""

import http.client
import json
import pathlib
import ssl
import urllib.parse

from . import env
from .process import Failed, wait_for
from .registry import Client


class FaultyRegistry:
    """One faultreg. It is filled like other registries: imsy.publish(), client().push()."""

    def __init__(self, box, name="faultreg", address="127.0.0.1", tls=False, options=()):
        words = [env.BUILD / "tests" / "support" / "faultreg", "--address", address,
                 *(["--tls"] if tls else []), *options]
        self.child = box.child(name, words)
        # What it prints stands in its log.
        ready = wait_for(lambda: self.child.log_text().partition("\n")[0], "the registry's address",
                         alive=self.child)
        self.endpoint, authority = ready.split()
        self.authority = pathlib.Path(authority) if tls else None
        self.address = urllib.parse.urlsplit(self.endpoint).netloc
        self.port = int(self.address.rpartition(":")[2])
        box.callback(self.stop)

    def stop(self):
        self.child.stop()
        if self.authority:
            self.authority.unlink(missing_ok=True)

    def reference(self, repository, tag):
        return f"{self.address}/{repository}:{tag}"

    def client(self, repository):
        return Client(self.port, repository, self.address.rpartition(":")[0])

    def fault(self, **fault):
        """From now on, behind the faults that there are."""
        self._control("PUT", "/_faults", fault)

    def mend(self):
        """Ends all faults."""
        self._control("DELETE", "/_faults")

    def held(self):
        """How many requests a fault with hold=True keeps waiting now; mend() lets them go on."""
        return int(self._control("GET", "/_faults"))

    def set(self, **settings):
        self._control("PUT", "/_settings", settings)

    def log(self, method="", path="", by="imsy"):
        """Requests so far, of imsy's own programs unless told otherwise ("" of all)."""
        return [one for one in json.loads(self._control("GET", "/_log"))
                if method in ("", one["method"]) and path in one["path"]
                and one["headers"].get("user-agent", "").startswith(by)]

    def forget(self):
        """Empties the log."""
        self._control("DELETE", "/_log")

    def connections(self):
        """Accepted so far, that of this question included."""
        return int(self._control("GET", "/_connections"))

    def _control(self, method, path, body=None):
        host = self.address.rpartition(":")[0]
        if self.authority:
            context = ssl.create_default_context(cafile=self.authority)
            context.check_hostname = False
            connection = http.client.HTTPSConnection(host, self.port, timeout=60, context=context)
        else:
            connection = http.client.HTTPConnection(host, self.port, timeout=60)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise Failed(f"{method} {path} answered {answer.status}: {data[:300]!r}")
        return data
