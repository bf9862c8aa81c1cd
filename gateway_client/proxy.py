"""Read the URL of an HTTP proxy, write the words of CONNECT, and judge whether its answer opens the tunnel. No I/O.

A proxy's answer is never the provider's: the tunnel is open, or nothing was sent. Nothing that a proxy says is repeated
but its status, and nothing of its URL but host and port. Not here: the socket (`sockets.py`).
"""

from __future__ import annotations

import base64
import ipaddress
import re
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from gateway_client.errors import InvalidInput

ANSWER_BYTES_MAX = 16 * 1024  # of the answer to CONNECT, which has no body when it opens a tunnel

_PART = r"(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})"
_LABEL = r"[A-Za-z0-9_-]{1,63}"
_URL = re.compile(
    rf"http://(?:({_PART}+)(?::({_PART}*))?@)?({_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\]):([0-9]{{1,5}})"
)
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: [^\r\n]*)?\r\n")


class TunnelRefused(Exception):
    """The proxy has opened no tunnel; the message holds no word of the proxy but its status."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where a proxy is, and who we are to it."""

    host: str
    port: int
    authorization: str | None = field(repr=False)

    @property
    def place(self) -> str:
        """Return host and port, for people."""
        return _authority(self.host, self.port)

    def connect_request(self, host: str, port: int) -> bytes:
        """Return the request for a tunnel: all that a proxy is told."""
        target = _authority(host, port)
        credentials = "" if self.authorization is None else f"Proxy-Authorization: {self.authorization}\r\n"
        return f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{credentials}\r\n".encode("ascii")


def read_proxy(url: str | None, *, base_url: str, transport: object = None) -> Proxy | None:
    """Return the proxy of a URL, which no error repeats, or None without one. Raises InvalidInput.

    A proxy is for https only: the provider's address as a proxy sees it. Plain http is allowed to loopback alone, which
    would be the proxy's own machine, and the key would travel there in the clear.
    """
    try:
        if url is None:
            return None
        if transport is not None:
            raise InvalidInput("proxy", "cannot be used with transport=, which connects by itself: give one of them")
        if isinstance(url, str) and url.lower().startswith("https:"):
            raise InvalidInput("proxy", "must begin with http://: TLS to the proxy itself is not supported")
        proxy = _parse(url)
        if proxy is None:
            raise InvalidInput(
                "proxy",
                "must be like http://proxy.example.com:3128 or http://user:p%40ss@proxy.example.com:3128: with a port, "
                "nothing after it, and special characters of a user or password escaped (@ is %40)",
            )
        if not base_url.lower().startswith("https:"):
            raise InvalidInput(
                "proxy", "is for https: plain http is for a provider on this machine; leave one of them out"
            )
        return proxy
    finally:
        del url  # a crash reporter sends local variables, and a URL holds a password


def is_open(answer: bytes) -> bool:
    """Return whether the tunnel is open; False while the answer has not ended. Raises TunnelRefused."""
    status = _STATUS_LINE.match(answer)
    if status is None:
        if b"\n" in answer or len(answer) >= ANSWER_BYTES_MAX:
            raise TunnelRefused("its answer is not HTTP")
        return False
    if not status[1].startswith(b"2"):
        hint = ", it wants another user or password" if status[1] == b"407" else ""
        raise TunnelRefused(f"it refused the tunnel, HTTP {status[1].decode()}{hint}")
    _, end, rest = answer.partition(b"\r\n\r\n")
    if rest or len(answer) >= ANSWER_BYTES_MAX:
        # In TLS the provider speaks after us: what comes before is not the provider's.
        raise TunnelRefused("it said more than that the tunnel is open")
    return bool(end)


def _parse(url: object) -> Proxy | None:
    parts = _URL.fullmatch(url) if isinstance(url, str) else None
    if parts is None or not 0 < int(parts[4]) < 65536:
        return None
    host = parts[3].strip("[]")
    if host != parts[3]:
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            return None
    if parts[1] is None:
        return Proxy(host, int(parts[4]), None)
    user, password = unquote_to_bytes(parts[1]), unquote_to_bytes(parts[2] or "")
    if b":" in user or _CONTROL.search(user + password):  # Basic ends the user at the first colon (RFC 7617)
        return None
    return Proxy(host, int(parts[4]), f"Basic {base64.b64encode(user + b':' + password).decode()}")


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
