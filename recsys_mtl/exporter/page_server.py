"""Serves a page of text over HTTP, behind a token if asked for.

prometheus_client's own server knows no tokens, makes the page anew for every scrape, and waits for
a slow client without end.
"""

import hmac
import logging
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

_MOST_CLIENTS = 32
_CLIENT_SECONDS = 10.0
_log = logging.getLogger(__name__)


class ServedPage:
    """Gives out a page, on threads of its own, until it is closed or the process ends."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.port = int(server.server_address[1])
        """The port that it listens on."""
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer nobody any longer, and leave the port to others."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def serve_page(
    page: Callable[[], bytes], bind_address: str, ports: Sequence[int], token: str | None
) -> ServedPage:
    """Answer GET /metrics with what `page` returns.

    Args:
        page: called once per request, by any thread.
        ports: the first free one is taken; 0 stands for any free one.
        token: what a client must send as `Authorization: Bearer <token>`; None asks for none.

    Raises:
        OSError: no port is free, or the address is none of this machine's.
    """
    for port in ports[:-1]:
        try:
            return _serve(page, bind_address, port, token)
        except OSError:
            continue
    return _serve(page, bind_address, ports[-1], token)


def _serve(
    page: Callable[[], bytes], bind_address: str, port: int, token: str | None
) -> ServedPage:
    class Handler(_Handler):
        expected = None if token is None else f"Bearer {token}".encode()
        make_page = staticmethod(page)

    class Server(_Server):
        address_family = socket.AF_INET6 if ":" in bind_address else socket.AF_INET

    return ServedPage(Server((bind_address, port), Handler))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *arguments: Any) -> None:
        self._places = threading.BoundedSemaphore(_MOST_CLIENTS)
        super().__init__(*arguments)

    def server_bind(self) -> None:
        # HTTPServer would look up its own name, which takes seconds where no DNS answers.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        # A socket's own timeout is for each read: a client that drips bytes would hold its place.
        deadline = threading.Timer(_CLIENT_SECONDS, _hang_up, (request,))
        deadline.daemon = True
        deadline.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            deadline.cancel()
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError | ValueError):  # a client that has hung up
            _log.exception("the metrics page could not be given out")


def _hang_up(connection: socket.socket) -> None:
    """Ends a connection for whoever reads from it or writes to it."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    expected: bytes | None
    make_page: Callable[[], bytes]

    def do_GET(self) -> None:
        sent = self.headers.get("Authorization", "").encode()
        if self.expected is not None and not hmac.compare_digest(sent, self.expected):
            self._answer(401, b"send the token as 'Authorization: Bearer <token>'\n")
        elif self.path.partition("?")[0] not in ("/", "/metrics"):
            self._answer(404, b"the metrics are at /metrics\n")
        else:
            self._answer(200, self.make_page())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", CONTENT_TYPE_PLAIN_0_0_4)
        self.send_header("Content-Length", str(len(body)))
        if status == 401:
            self.send_header("WWW-Authenticate", "Bearer")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass  # one line per scrape would fill the log
