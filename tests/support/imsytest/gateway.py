"""An HTTP gateway before a registry: counts whole requests, and strikes when one of them comes."""

import http.client
import http.server
import threading


class Gateway:
    """Passes requests on to a port of loopback, one at a time.

    strike_at: the number of a request, counted from 1; before it is passed on (or, with `after`,
    when the registry has answered it, but nobody has been told) `strike` is called, and the
    request is not answered.
    """

    def __init__(self, box, target_port):
        self.requests = []  # (method, path)
        self._target = target_port
        self._lock = threading.Lock()
        self._strike_at, self._after, self._strike = 0, False, None
        gateway = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self):
                gateway.pass_on(self)

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, *_):
                pass  # clients are killed on purpose

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.address = f"127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        box.callback(self.stop)

    def stop(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def arm(self, strike_at, after, strike):
        """Begins to count anew. With strike_at 0 nothing ever happens."""
        with self._lock:
            self.requests.clear()
            self._strike_at, self._after, self._strike = strike_at, after, strike

    def pass_on(self, handler):
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        with self._lock:
            self.requests.append((handler.command, handler.path))
            due = len(self.requests) == self._strike_at
            if due and not self._after:
                self._strike()
            if self._strike_at and len(self.requests) >= self._strike_at and not (
                    due and self._after):
                handler.close_connection = True
                return
            answer, data = self._ask(handler, body)
            if due:
                self._strike()
                handler.close_connection = True
                return
        handler.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection"):
                handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)

    def _ask(self, handler, body):
        far = http.client.HTTPConnection("127.0.0.1", self._target)
        try:
            far.request(handler.command, handler.path, body, dict(handler.headers))
            answer = far.getresponse()
            return answer, answer.read()
        finally:
            far.close()
