"""A web server on 127.0.0.1 that answers what it is told to, and remembers what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FakeWeb:
    """Serves `pages`: path -> content. `redirects`: path -> where to. `status` is the answer to everything, if set.

    `announced` is the length that it claims instead of the true one; None: it claims none.
    """

    pages: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    status: int | None = None
    announced: int | None = -1
    requests: list[str] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    address: str = ""

    @contextmanager
    def serve(self) -> Iterator[FakeWeb]:
        """Answer at `address` until the end of the block."""
        handler = type("Handler", (_Handler,), {"web": self})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    web: FakeWeb

    def do_GET(self) -> None:
        web = self.web
        web.requests.append(self.path)
        web.headers.append(dict(self.headers))
        path = self.path.partition("?")[0]
        if path in web.redirects:
            self.send_response(302)
            self.send_header("Location", web.redirects[path])
            self.end_headers()
            return
        content = web.pages.get(path, b"")
        self.send_response(web.status or (200 if path in web.pages else 404))
        if web.announced is not None:
            self.send_header("Content-Length", str(len(content) if web.announced < 0 else web.announced))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass
