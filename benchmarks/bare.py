"""Do one exchange on bare blocking sockets, with the least that it needs: the floor of section `transport`."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from benchmarks.exchanges import BODY, PATH, TIMEOUT_S, Call, _check, _context, _gateway, _headers


@contextmanager
def open_socket(provider: str, database: None) -> Iterator[Call]:
    """Open bare blocking sockets, which do the least that one exchange needs: the floor."""
    yield _by_socket(provider, resumes=False)


@contextmanager
def open_socket_resumed(provider: str, database: None) -> Iterator[Call]:
    """Open the same; over TLS each goes on from the session of the one before."""
    yield _by_socket(provider, resumes=True)


def _by_socket(provider: str, *, resumes: bool) -> Call:
    gateway, context, parts = _gateway(provider), _context(), urlsplit(provider)
    sessions: list[ssl.SSLSession | None] = [None]

    def call(name: str) -> None:
        headers = _headers(gateway, name) | {"Host": parts.netloc, "Connection": "close"}
        lines = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
        message = f"POST {PATH} HTTP/1.1\r\n{lines}Content-Length: {len(BODY)}\r\n\r\n{BODY}".encode()
        with socket.create_connection((parts.hostname, parts.port), TIMEOUT_S) as raw:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if parts.scheme == "http":
                answer = _said(raw, message)
            else:
                with context.wrap_socket(raw, server_hostname=parts.hostname, session=sessions[0]) as encrypted:
                    answer = _said(encrypted, message)
                    if resumes:
                        sessions[0] = encrypted.session
        echoed = re.search(rb"\r\n[Ii]dempotency-[Kk]ey: ([^\r]*)\r\n", answer)
        _check(name, int(answer.split()[1]), echoed and echoed[1].decode())

    return call


def _said(sock: socket.socket, message: bytes) -> bytes:
    sock.sendall(message)
    answer = b""
    while piece := sock.recv(65536):
        answer += piece
    return answer
