"""The sandbox in process: `httpx.MockTransport` for the sync and the async client, with the errors httpx would raise.

The only file of the sandbox that knows httpx. Sockets: `server.py`.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import assert_never

import httpx

from gateway_client.sandbox.model import Served
from gateway_client.sandbox.wire import Answer, Cut, Lost, Reply, Request


def sync_transport(sandbox: Served) -> httpx.MockTransport:
    def handle(request: httpx.Request) -> httpx.Response:
        exchange = sandbox.begin(_arrived(request))
        patience_s = _patience_s(request)
        time.sleep(min(exchange.wait_s, patience_s))
        if exchange.wait_s > patience_s:
            raise _timed_out(request)
        return _delivered(sandbox.finish(exchange), request)

    return httpx.MockTransport(handle)


def async_transport(sandbox: Served) -> httpx.MockTransport:
    async def handle(request: httpx.Request) -> httpx.Response:
        exchange = sandbox.begin(_arrived(request))
        patience_s = _patience_s(request)
        await asyncio.sleep(min(exchange.wait_s, patience_s))
        if exchange.wait_s > patience_s:
            raise _timed_out(request)
        return _delivered(sandbox.finish(exchange), request)

    return httpx.MockTransport(handle)


class _CutBody(httpx.SyncByteStream, httpx.AsyncByteStream):
    """The beginning of a body, then the error that a real connection gives."""

    def __init__(self, cut: Cut, request: httpx.Request) -> None:
        self._sent = cut.reply.body[: cut.sent_bytes]
        self._error = httpx.RemoteProtocolError(
            "peer closed connection without sending complete message body "
            f"(received {cut.sent_bytes} bytes, expected {len(cut.reply.body)})",
            request=request,
        )

    def __iter__(self) -> Iterator[bytes]:
        yield self._sent
        raise self._error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._sent
        raise self._error


def _arrived(request: httpx.Request) -> Request:
    headers = {name.lower(): value for name, value in request.headers.items()}
    return Request(request.method, request.url.raw_path.decode("ascii"), headers, request.content)


def _patience_s(request: httpx.Request) -> float:
    """The client's read timeout, which `MockTransport` itself does not know."""
    read_s = request.extensions.get("timeout", {}).get("read")
    return float("inf") if read_s is None else float(read_s)


def _timed_out(request: httpx.Request) -> httpx.ReadTimeout:
    return httpx.ReadTimeout("The read operation timed out", request=request)


def _delivered(answer: Answer, request: httpx.Request) -> httpx.Response:
    match answer:
        case Reply():
            return httpx.Response(answer.status, headers=_headers(answer), content=answer.body)
        case Cut():
            headers = [*_headers(answer.reply), (b"Content-Length", str(len(answer.reply.body)).encode())]
            return httpx.Response(answer.reply.status, headers=headers, stream=_CutBody(answer, request))
        case Lost(refused=True):
            raise httpx.ConnectError("[Errno 111] Connection refused", request=request)
        case Lost():
            raise httpx.ReadError("[Errno 104] Connection reset by peer", request=request)
        case _:
            assert_never(answer)


def _headers(reply: Reply) -> list[tuple[bytes, bytes]]:
    return [(name.encode("ascii"), value.encode("utf-8")) for name, value in reply.headers]
