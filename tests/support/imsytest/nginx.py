"""nginx as a cache before a registry, which keeps and gives ranges of blobs."""

from . import env
from .process import answers, free_port, wait_for


class CachingProxy:
    """Keeps pieces of 1 MiB of whatever the registry at a port of loopback has given."""

    def __init__(self, box, target_port, name="nginx"):
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        folder = box.path(name)
        folder.mkdir(exist_ok=True)
        temporary = "".join(f"  {kind}_temp_path {folder}/{kind};\n"
                            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (folder / "nginx.conf").write_text(f"""user root;
daemon off;
worker_processes 1;
pid {folder}/pid;
events {{}}
http {{
{temporary}  access_log off;
  proxy_cache_path {folder}/cache keys_zone=blobs:1m;
  server {{
    listen {self.address};
    location /v2/ {{
      proxy_pass http://127.0.0.1:{target_port};
      slice 1m;
      proxy_cache blobs;
      proxy_cache_key $uri$slice_range;
      proxy_cache_valid 200 206 1h;
      proxy_set_header Range $slice_range;
      proxy_http_version 1.1;
    }}
  }}
}}
""")
        self.child = box.child(name, [env.tool("nginx"), "-p", folder, "-e", folder / "error.log",
                                      "-c", folder / "nginx.conf"])
        wait_for(lambda: answers(self.port), "nginx's port", alive=self.child)
        box.callback(self.child.stop)
