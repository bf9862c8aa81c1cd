"""The sandbox on a loopback port: HTTP/1.1 with keep-alive, a thread for each connection, the standard library only.

Bytes in, bytes out, and connections that break on purpose. What is answered: `model.py`.
"""

import ipaddress
import logging
import os
import socket
import socketserver
import struct
import sys
import threading
import weakref
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler
from typing import Any, assert_never

from gateway_client.sandbox.model import BODY_BYTES_MAX, Served
from gateway_client.sandbox.wire import Answer, Cut, Lost, Reply, Request

logger = logging.getLogger(__name__)

IDLE_S_MAX = 120
"""A connection that says nothing for so long is closed, so that forgotten clients cannot pile up threads."""

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing sends RST instead of the polite FIN."""


class SandboxServer:
    """A running server. Close it, or use it in a `with`."""

    def __init__(self, sandbox: Served, host: str = "127.0.0.1", port: int = 0) -> None:
        if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
            raise ValueError(f"the sandbox listens on loopback addresses only, not on {host}")
        self._listener = _Listener(sandbox, host, port)
        self.port: int = self._listener.server_address[1]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.port}"
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.02,), name="sandbox", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops at once: connections are cut, and what executes slowly is executed by the clock. Safe to repeat."""
        if self._thread.is_alive():
            self._listener.shutdown()
            self._thread.join()
        self._listener.server_close()
        self._listener.cut_all()

    def __enter__(self) -> "SandboxServer":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class _Listener(socketserver.ThreadingMixIn, socketserver.TCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128  # many clients connect at once in tests; 5, the default, refuses them

    def __init__(self, sandbox: Served, host: str, port: int) -> None:
        if ":" in host:
            self.address_family = socket.AF_INET6
        self.sandbox = sandbox
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        super().__init__((host, port), _Handler)
        os.register_at_fork(after_in_child=partial(_let_go, weakref.ref(self)))

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """The end of a connection; a linger of no time, set before, turns it into a reset."""
        with self._lock:
            self._connections.discard(request)
        if request.fileno() != -1 and request.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == RESET_ON_CLOSE:
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def cut_all(self) -> None:
        """Wakes every thread that waits for a client or for a slow request."""
        self.closing.set()
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):  # it was gone already
                    connection.shutdown(socket.SHUT_RDWR)

    def let_go(self) -> None:
        """In a forked child: its copies would keep connections open that we break, and the port when we close."""
        for held in (self.socket, *self._connections):
            if held.fileno() != -1:
                os.close(held.detach())

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that vanished is no error; anything else is a bug of ours. Both go to the log, never to stderr."""
        level = logging.DEBUG if isinstance(sys.exception(), OSError) else logging.ERROR
        logger.log(level, "a connection ended with an error", exc_info=True)


def _let_go(listener: "weakref.ref[_Listener]") -> None:
    alive = listener()
    if alive is not None:
        alive.let_go()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_S_MAX
    disable_nagle_algorithm = True
    server: _Listener

    def handle_any(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdigit():
            self.close_connection = True
            self._send(411, (), b"")
            return
        if int(length) > BODY_BYTES_MAX:
            self.close_connection = True
        # One byte more than is allowed is enough for the model to refuse it.
        body = self.rfile.read(min(int(length), BODY_BYTES_MAX + 1))
        if len(body) < min(int(length), BODY_BYTES_MAX + 1):
            self.close_connection = True  # the client died in mid-body: half a request is never executed
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        exchange = self.server.sandbox.begin(Request(self.command, self.path, headers, body))
        self.server.closing.wait(exchange.wait_s)
        if not self.server.closing.is_set():
            self._answer(self.server.sandbox.finish(exchange))

    do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = handle_any

    def _answer(self, answer: Answer) -> None:
        match answer:
            case Reply():
                self._send(answer.status, answer.headers, answer.body, again_s=answer.again_s)
            case Cut():
                self.close_connection = True
                self._send(answer.reply.status, answer.reply.headers, answer.reply.body, answer.sent_bytes)
            case Lost():
                self.close_connection = True
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            case _:
                assert_never(answer)

    def _send(
        self,
        status: int,
        headers: tuple[tuple[str, str], ...],
        body: bytes,
        sent_bytes: int | None = None,
        again_s: float | None = None,
    ) -> None:
        """One write, so that nothing waits for an acknowledgement in between; the same once more when that is asked.

        Nothing else is read from the connection until then: what a client asks meanwhile is answered afterwards.
        """
        lines = [f"HTTP/1.1 {status} {self.responses.get(status, ('Unknown',))[0]}"]
        lines += [f"{name}: {value}" for name, value in headers]
        lines += [f"Content-Length: {len(body)}", *(["Connection: close"] if self.close_connection else []), "", ""]
        answer = "\r\n".join(lines).encode("latin-1") + body[:sent_bytes]
        self.wfile.write(answer * 2 if again_s == 0 else answer)
        if again_s and not self.server.closing.wait(again_s):
            self.wfile.write(answer)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Silent: requests are in `Sandbox.requests`."""
