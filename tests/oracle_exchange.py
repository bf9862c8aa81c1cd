"""One exchange through `wire.py` on real sockets, blocking and on a loop, with one signature for both."""

import asyncio
from collections.abc import Callable

import httpx
import pytest

from gateway_client import Stripe
from gateway_client.exchange import Age, unaged
from gateway_client.gateways.base import NoReply, Reply, Request
from gateway_client.proxy import read_proxy
from gateway_client.wire import AsyncWire, Wire
from tests.oracle_world import API_KEY

BODY = "amount=1999&currency=usd&metadata%5Bcanary%5D=body"
POST = Request("POST", "/v1/payment_intents", BODY, "pc1_key", "2026-10-28.endive")
GET = Request("GET", "/v1/payment_intents?limit=100", api_version="2026-10-28.endive")
TIMEOUT_S = 0.4
SLACK_S = 3.0  # a busy machine's; a deadline that is not kept ends after four seconds and more

Exchange = Callable[..., list[Reply | NoReply]]


class Ages:
    """The age of a send, by how often it is asked."""

    def __init__(self, *ages: float) -> None:
        self._ages = list(ages)

    def __call__(self) -> float:
        return self._ages.pop(0) if len(self._ages) > 1 else self._ages[0]


def nothing() -> None:
    """Between two exchanges nothing happens."""


def exchange_sync(
    url: str,
    *,
    requests: int = 1,
    request: Request = POST,
    timeout_s: float = TIMEOUT_S,
    age_s: Age = unaged,
    transport: httpx.BaseTransport | None = None,
    after_each: Callable[[], object] = nothing,
    proxy: str | None = None,
) -> list[Reply | NoReply]:
    client = Wire(Stripe(API_KEY, api_base=url), timeout_s, transport, read_proxy(proxy, base_url=url))
    replies: list[Reply | NoReply] = []
    try:
        for _ in range(requests):
            replies.append(client.exchange(request, age_s))
            after_each()
        return replies
    finally:
        client.close()


def exchange_async(
    url: str,
    *,
    requests: int = 1,
    request: Request = POST,
    timeout_s: float = TIMEOUT_S,
    age_s: Age = unaged,
    transport: httpx.AsyncBaseTransport | None = None,
    after_each: Callable[[], object] = nothing,
    proxy: str | None = None,
) -> list[Reply | NoReply]:
    async def run() -> list[Reply | NoReply]:
        client = AsyncWire(Stripe(API_KEY, api_base=url), timeout_s, transport, read_proxy(proxy, base_url=url))
        replies: list[Reply | NoReply] = []
        try:
            for _ in range(requests):
                replies.append(await client.exchange(request, age_s))
                await asyncio.to_thread(after_each)
            return replies
        finally:
            await client.close()

    return asyncio.run(run())


BOTH = [pytest.param(exchange_sync, id="sync"), pytest.param(exchange_async, id="async")]


def not_sent(reply: Reply | NoReply) -> bool:
    assert isinstance(reply, NoReply)
    return not reply.sent


class Plain(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """httpx's own transport, brought by the caller; `again` is where it tries once more when something fails."""

    def __init__(self, again: str | None = None) -> None:
        self._blocking, self._async = httpx.HTTPTransport(verify=False), httpx.AsyncHTTPTransport(verify=False)
        self._again = again

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        try:
            return self._blocking.handle_request(request)
        except httpx.TransportError:
            if self._again is None:
                raise
            return self._blocking.handle_request(self._moved(request))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            return await self._async.handle_async_request(request)
        except httpx.TransportError:
            if self._again is None:
                raise
            return await self._async.handle_async_request(self._moved(request))

    def _moved(self, request: httpx.Request) -> httpx.Request:
        return httpx.Request(request.method, str(self._again), content=request.content, extensions=request.extensions)

    def close(self) -> None:
        self._blocking.close()

    async def aclose(self) -> None:
        await self._async.aclose()
