"""Send one charge request and read its answer, by each transport that was considered: the candidates of `transport`.

Each opener is that of a `Mode`. The body, the headers and the check of the answer are the same for all; nothing is kept
on disk. "Fresh" has a connection for each exchange, "kept" a pool: what is left over on one would be the next answer.
"""

from __future__ import annotations

import http.client
import itertools
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import certifi
import httpcore
import httpx
from httpcore._backends.sync import SyncBackend

from benchmarks.load import NotCharged
from benchmarks.provider import API_KEY
from gateway_client import Stripe
from gateway_client.exchange import unaged
from gateway_client.gateways.base import NoReply, Reply, Request
from gateway_client.wire import AsyncWire, Wire

Call: TypeAlias = Callable[[str], None]
AsyncCall: TypeAlias = Callable[[str], Awaitable[None]]
TRUSTED = Path(__file__).parent.parent / "tests" / "data" / "loopback.pem"  # what `tls.py` shows
PATH = "/v1/payment_intents"
BODY = (
    "amount=2000&currency=usd&confirm=true&payment_method=pm_card_visa&automatic_payment_methods%5Benabled%5D=true"
    "&automatic_payment_methods%5Ballow_redirects%5D=never&metadata%5Bpaycli_namespace%5D=default"
)
TIMEOUT_S, IN_FLIGHT_MAX, POOLS = 30.0, 64, 8


def _request(name: str) -> Request:
    return Request("POST", PATH, BODY, name, "2026-10-28.endive")


def _headers(gateway: Stripe, name: str) -> dict[str, str]:
    return gateway.headers(_request(name))


def _gateway(provider: str) -> Stripe:
    """Return the gateway, and trust the certificate of the benchmark in this process, which measures nothing else."""
    certifi.where = lambda: str(TRUSTED)
    return Stripe(API_KEY, api_base=provider)


def _context() -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=TRUSTED)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _check(name: str, status: int, echoed: str | None) -> None:
    if (status, echoed) != (200, name):
        raise NotCharged(f"{status} {echoed}")


def _check_reply(name: str, reply: Reply | NoReply) -> None:
    if isinstance(reply, NoReply):
        raise NotCharged(reply.reason)
    _check(name, reply.status, reply.headers.get("idempotency-key"))


# Ours ----------------------------------------------------------------------------------------------------------------


@contextmanager
def open_ours(provider: str, database: None) -> Iterator[Call]:
    """Open the library's own."""
    with closing(Wire(_gateway(provider), TIMEOUT_S, None)) as wire:
        yield lambda name: _check_reply(name, wire.exchange(_request(name), unaged))


@asynccontextmanager
async def open_ours_async(provider: str, database: None) -> AsyncIterator[AsyncCall]:
    """Open the library's own on asyncio."""
    wire = AsyncWire(_gateway(provider), TIMEOUT_S, None)

    async def call(name: str) -> None:
        _check_reply(name, await wire.exchange(_request(name), unaged))

    yield call
    await wire.close()


# httpx and httpcore --------------------------------------------------------------------------------------------------


@contextmanager
def open_httpx(provider: str, database: None) -> Iterator[Call]:
    """Open httpx as it is: one client, its pool."""
    gateway = _gateway(provider)
    with httpx.Client(verify=_context(), trust_env=False, timeout=TIMEOUT_S) as client:
        yield lambda name: _check_response(name, client.post(provider + PATH, **_options(gateway, name)))


@contextmanager
def open_httpx_fresh(provider: str, database: None) -> Iterator[Call]:
    """Open httpx with a transport for each exchange: what the library did before."""
    gateway, context = _gateway(provider), _context()

    class Fresh(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            return httpx.HTTPTransport(verify=context, trust_env=False).handle_request(request)

    with httpx.Client(transport=Fresh(), trust_env=False, timeout=TIMEOUT_S) as client:

        def call(name: str) -> None:
            _check_response(name, client.post(provider + PATH, **_options(gateway, name, Connection="close")))

        yield call


@asynccontextmanager
async def open_httpx_fresh_async(provider: str, database: None) -> AsyncIterator[AsyncCall]:
    """Open the same on asyncio."""
    gateway, context = _gateway(provider), _context()

    class Fresh(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            return await httpx.AsyncHTTPTransport(verify=context, trust_env=False).handle_async_request(request)

    async with httpx.AsyncClient(transport=Fresh(), trust_env=False, timeout=TIMEOUT_S) as client:

        async def call(name: str) -> None:
            _check_response(name, await client.post(provider + PATH, **_options(gateway, name, Connection="close")))

        yield call


@asynccontextmanager
async def open_httpx_async(provider: str, database: None) -> AsyncIterator[AsyncCall]:
    """Open httpx as it is, on asyncio."""
    async with _pools(provider, 1) as call:
        yield call


@asynccontextmanager
async def open_httpx_pools(provider: str, database: None) -> AsyncIterator[AsyncCall]:
    """Open several small pools of httpx, in turn."""
    async with _pools(provider, POOLS) as call:
        yield call


@asynccontextmanager
async def _pools(provider: str, count: int) -> AsyncIterator[AsyncCall]:
    gateway, context = _gateway(provider), _context()
    limits = httpx.Limits(max_connections=IN_FLIGHT_MAX // count)
    clients = [
        httpx.AsyncClient(verify=context, trust_env=False, timeout=TIMEOUT_S, limits=limits) for _ in range(count)
    ]
    turns = itertools.cycle(clients)

    async def call(name: str) -> None:
        _check_response(name, await next(turns).post(provider + PATH, **_options(gateway, name)))

    yield call
    for client in clients:
        await client.aclose()


@contextmanager
def open_httpcore(provider: str, database: None) -> Iterator[Call]:
    """Open httpcore's connection by itself, without httpx and without a pool; one for each exchange."""
    gateway, context, parts = _gateway(provider), _context(), urlsplit(provider)
    host, port = parts.hostname or "", parts.port or 0
    origin = httpcore.Origin(parts.scheme.encode(), host.encode(), port)
    timeouts = {"timeout": {"connect": TIMEOUT_S, "read": TIMEOUT_S, "write": TIMEOUT_S}}

    def call(name: str) -> None:
        stream: httpcore.NetworkStream = SyncBackend().connect_tcp(host, port, TIMEOUT_S)
        if parts.scheme == "https":
            stream = stream.start_tls(context, host, TIMEOUT_S)
        named = _headers(gateway, name) | {"Host": parts.netloc, "Content-Length": str(len(BODY))}
        headers: list[tuple[bytes | str, bytes | str]] = [*named.items()]
        with httpcore.HTTP11Connection(origin, stream) as connection:
            made = httpcore.Request(
                "POST", provider + PATH, headers=headers, content=BODY.encode(), extensions=timeouts
            )
            response = connection.handle_request(made)
            response.read()
        _check(name, response.status, dict(response.headers).get(b"Idempotency-Key", b"").decode())

    yield call


def _options(gateway: Stripe, name: str, **more: str) -> dict[str, Any]:
    return {"content": BODY, "headers": _headers(gateway, name) | more}


def _check_response(name: str, response: httpx.Response) -> None:
    _check(name, response.status_code, response.headers.get("idempotency-key"))


# Others --------------------------------------------------------------------------------------------------------------


@contextmanager
def open_requests(provider: str, database: None) -> Iterator[Call]:
    """Open requests with a pool that is large enough."""
    import requests
    from requests.adapters import HTTPAdapter

    gateway = _gateway(provider)
    with requests.Session() as session:
        session.trust_env, session.verify = False, str(TRUSTED)
        session.mount(provider, HTTPAdapter(pool_maxsize=IN_FLIGHT_MAX))

        def call(name: str) -> None:
            answer = session.post(provider + PATH, data=BODY, headers=_headers(gateway, name), timeout=TIMEOUT_S)
            _check(name, answer.status_code, answer.headers.get("idempotency-key"))

        yield call


@contextmanager
def open_http_client(provider: str, database: None) -> Iterator[Call]:
    """Open the standard library's client, with a connection for each exchange."""
    gateway, connect = _gateway(provider), _connector(provider)

    def call(name: str) -> None:
        with closing(connect()) as connection:
            _ask(connection, name, _headers(gateway, name) | {"Connection": "close"})

    yield call


@contextmanager
def open_http_client_kept(provider: str, database: None) -> Iterator[Call]:
    """Open the same with a connection for each thread: what a thin kept connection would cost."""
    gateway, connect, mine = _gateway(provider), _connector(provider), threading.local()
    with ExitStack() as stack:

        def call(name: str) -> None:
            if not hasattr(mine, "connection"):
                mine.connection = connect()
                stack.callback(mine.connection.close)
            _ask(mine.connection, name, _headers(gateway, name))

        yield call


def _connector(provider: str) -> Callable[[], http.client.HTTPConnection]:
    parts = urlsplit(provider)
    if parts.scheme == "https":
        context = _context()
        return lambda: http.client.HTTPSConnection(parts.netloc, timeout=TIMEOUT_S, context=context)
    return lambda: http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT_S)


def _ask(connection: http.client.HTTPConnection, name: str, headers: dict[str, str]) -> None:
    connection.request("POST", PATH, BODY, headers)
    answer = connection.getresponse()
    answer.read()
    _check(name, answer.status, answer.headers.get("idempotency-key"))


@asynccontextmanager
async def open_aiohttp(provider: str, database: None) -> AsyncIterator[AsyncCall]:
    """Open aiohttp as it is: kept connections."""
    async with _aiohttp(provider, force_close=False) as (gateway, session):
        yield _by_aiohttp(provider, gateway, session)


@asynccontextmanager
async def open_aiohttp_fresh(provider: str, database: None) -> AsyncIterator[AsyncCall]:
    """Open aiohttp with a connection for each exchange."""
    async with _aiohttp(provider, force_close=True) as (gateway, session):
        yield _by_aiohttp(provider, gateway, session)


def _by_aiohttp(provider: str, gateway: Stripe, session: Any) -> AsyncCall:
    async def call(name: str) -> None:
        async with session.post(provider + PATH, data=BODY, headers=_headers(gateway, name)) as answer:
            await answer.read()
            _check(name, answer.status, answer.headers.get("idempotency-key"))

    return call


@asynccontextmanager
async def open_httpx_aiohttp(provider: str, database: None) -> AsyncIterator[AsyncCall]:
    """Open httpx with aiohttp under it, as its bridges do it."""
    async with _aiohttp(provider, force_close=False) as (gateway, session):

        class Bridge(httpx.AsyncBaseTransport):
            async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
                body = await request.aread()
                async with session.request(
                    request.method, str(request.url), data=body, headers=request.headers
                ) as answer:
                    return httpx.Response(answer.status, headers=answer.headers, content=await answer.read())

        async with httpx.AsyncClient(transport=Bridge(), trust_env=False, timeout=TIMEOUT_S) as client:

            async def call(name: str) -> None:
                _check_response(name, await client.post(provider + PATH, **_options(gateway, name)))

            yield call


@asynccontextmanager
async def _aiohttp(provider: str, *, force_close: bool) -> AsyncIterator[tuple[Stripe, Any]]:
    import aiohttp

    gateway = _gateway(provider)
    connector = aiohttp.TCPConnector(ssl=_context(), limit=IN_FLIGHT_MAX, force_close=force_close)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield gateway, session
