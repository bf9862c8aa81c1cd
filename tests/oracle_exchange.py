"""One exchange through `wire.py` on real sockets, blocking and on a loop, with one signature for both."""

import asyncio
from collections.abc import Callable

import pytest

from gateway_client import Stripe, wire
from gateway_client.gateways.base import NoReply, Reply, Request
from gateway_client.wire import AsyncWire, Wire, unaged
from tests.oracle_world import API_KEY

BODY = "amount=1999&currency=usd&metadata%5Bcanary%5D=body"
POST = Request("POST", "/v1/payment_intents", BODY, "pc1_key", "2026-10-28.endive")
TIMEOUT_S = 0.4
SLACK_S = 0.6  # a busy machine's; a deadline that is not kept ends after seconds

Exchange = Callable[..., list[Reply | NoReply]]


def exchange_sync(
    url: str, *, requests: int = 1, timeout_s: float = TIMEOUT_S, age_s: wire.Age = unaged
) -> list[Reply | NoReply]:
    client = Wire(Stripe(API_KEY, api_base=url), timeout_s, None)
    try:
        return [client.exchange(POST, age_s) for _ in range(requests)]
    finally:
        client.close()


def exchange_async(
    url: str, *, requests: int = 1, timeout_s: float = TIMEOUT_S, age_s: wire.Age = unaged
) -> list[Reply | NoReply]:
    async def run() -> list[Reply | NoReply]:
        client = AsyncWire(Stripe(API_KEY, api_base=url), timeout_s, None)
        try:
            return [await client.exchange(POST, age_s) for _ in range(requests)]
        finally:
            await client.close()

    return asyncio.run(run())


BOTH = [pytest.param(exchange_sync, id="sync"), pytest.param(exchange_async, id="async")]


def not_sent(reply: Reply | NoReply) -> bool:
    assert isinstance(reply, NoReply)
    return not reply.sent
