"""nginx before a registry: as a cache of ranges of blobs, or speaking TLS and HTTP/2 for it."""

import collections

from . import env
from .process import answers, free_port, run, wait_for


class _Nginx:
    """nginx with one server at a free port of loopback; `server` is what stands in its block."""

    def __init__(self, box, name, server, general="", tls=""):
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.folder = box.path(name)
        temporary = "".join(f"  {kind}_temp_path {self.folder}/{kind};\n"
                            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (self.folder / "nginx.conf").write_text(f"""user root;
daemon off;
worker_processes 1;
pid {self.folder}/pid;
events {{}}
http {{
{temporary}  access_log off;
  proxy_http_version 1.1;
{general}  server {{
    listen {self.address}{tls};
{server}  }}
}}
""")
        self.child = box.child(name, [env.tool("nginx"), "-p", self.folder,
                                      "-e", self.folder / "error.log",
                                      "-c", self.folder / "nginx.conf"])
        wait_for(lambda: answers(self.port), "nginx's port", alive=self.child)
        box.callback(self.child.stop)


class CachingProxy(_Nginx):
    """Keeps pieces of 1 MiB of whatever the registry at a port of loopback has given."""

    def __init__(self, box, target_port, name="nginx"):
        super().__init__(box, name, f"""    location /v2/ {{
      proxy_pass http://127.0.0.1:{target_port};
      slice 1m;
      proxy_cache blobs;
      proxy_cache_key $uri$slice_range;
      proxy_cache_valid 200 206 1h;
      proxy_set_header Range $slice_range;
    }}
""", f"  proxy_cache_path {box.path(name)}/cache keys_zone=blobs:1m;\n")


class TlsProxy(_Nginx):
    """Speaks TLS for a registry, and HTTP/2 if it is told so; `authority` is its certificate."""

    def __init__(self, box, target_port, name="tls", http2=False):
        folder = box.path(name)
        self.authority = folder / "authority.pem"
        key = folder / "key.pem"
        run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-days", "2", "-subj", "/CN=imsy test", "-addext",
             "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", self.authority])
        self._log = folder / "access.log"
        super().__init__(box, name, f"""    ssl_certificate {self.authority};
    ssl_certificate_key {key};
    access_log {self._log} counted;
    location /v2/ {{ proxy_pass http://127.0.0.1:{target_port}; }}
""", "  log_format counted '$server_protocol $connection $status $request_method $uri';\n",
                         " ssl http2" if http2 else " ssl")

    def blob_requests(self):
        """Numbers of the connections that asked for blobs, one for each request, by protocol."""
        found = collections.defaultdict(list)
        for line in self._log.read_text().splitlines():
            protocol, connection, _, method, path = line.split()
            if method == "GET" and "/blobs/" in path:
                found[protocol].append(int(connection))
        return dict(found)
