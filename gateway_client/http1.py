"""One message and its answer as HTTP/1.1, read strictly by h11, on a connection of its own.

Not here: the connection and its deadline (`sockets.py`), what an answer is worth (`wire.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import urlsplit

import h11

from gateway_client.exchange import Head, Message
from gateway_client.proxy import Proxy
from gateway_client.sockets import Connection, NotConnected, Origin
from gateway_client.waiting import Waiter

HEAD_BYTES_MAX = 100 * 1024
PIECE_BYTES_MAX = 64 * 1024


class OwnChannel:
    """Open a connection, ask, read, close; nothing is tried again, and no redirect followed."""

    unreached: tuple[type[Exception], ...] = (NotConnected,)
    late: tuple[type[Exception], ...] = (TimeoutError,)
    broken: tuple[type[Exception], ...] = (NotConnected, OSError, h11.ProtocolError)

    def __init__(
        self, waiter: Waiter, origin: Origin, timeout_s: float, connect_s: float, proxy: Proxy | None = None
    ) -> None:
        self._origin, self._connect_s, self._proxy = origin, connect_s, proxy
        self._connection = Connection(waiter, time.monotonic() + timeout_s)
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES_MAX)

    @property
    def sent(self) -> bool:
        """Whether a byte of the message was handed to our own socket: the fact that "not sent" rests on."""
        return self._connection.handed_over

    async def ask(self, message: Message, at_first_byte: Callable[[], None]) -> Head:
        """Connect, send the message, and pass over interim answers. Raises what is in `broken`."""
        data = memoryview(self._written(message))
        await self._connection.open(self._origin, self._connect_s, self._proxy)
        at_first_byte()
        await self._connection.send(data)
        while not isinstance(event := await self._next(), h11.Response):
            if not isinstance(event, h11.InformationalResponse):
                raise h11.RemoteProtocolError("this is no answer")
        return Head(event.status_code, _read(event))

    async def read(self) -> bytes:
        """Return the next piece of the body, b"" at its end."""
        while isinstance(event := await self._next(), h11.Data):
            if event.data:
                return bytes(event.data)
        return b""

    async def close(self) -> None:
        """Close the connection, wherever the exchange was; this never waits, so a cancelled task does it, too."""
        self._connection.close()

    def _written(self, message: Message) -> bytes:
        parts = urlsplit(message.url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = [("Host", self._origin.authority), *message.headers.items()]
        if message.body is not None or message.method == "POST":
            headers.append(("Content-Length", str(len(message.body or b""))))
        pieces = [self._http.send(h11.Request(method=message.method, target=target, headers=headers))]
        if message.body:
            pieces.append(self._http.send(h11.Data(data=message.body)))
        pieces.append(self._http.send(h11.EndOfMessage()))
        return b"".join(piece or b"" for piece in pieces)

    async def _next(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._connection.receive(PIECE_BYTES_MAX))
        return event


def _read(response: h11.Response) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in response.headers:
        name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers
