"""The key is in no frame of an exchange that ends in its midst, which crash reporters send."""

import socket
from typing import Any

import pytest

from gateway_client import Stripe, sockets, waiting
from gateway_client.exchange import unaged
from gateway_client.gateways.base import Request
from gateway_client.waiting import finish
from gateway_client.wire import AsyncWire, Wire
from tests.oracle_world import API_KEY
from tests.test_secrets import CANARY, everything_told


@pytest.mark.parametrize("where", ["addresses", "ready"])
@pytest.mark.parametrize("body", ["canary", "canary" * 1_000_000], ids=["small", "more than the kernel takes"])
@pytest.mark.parametrize("waiter", [waiting.Blocking, waiting.OnLoop])
def test_the_key_is_in_no_local_variable_of_an_exchange(
    waiter: Any, body: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S24: nor does it where a worker is told to exit while it connects, writes or waits for an answer by our own."""
    request = Request("POST", "/v1/payment_intents", body, "pc1_key", "2026-10-28.endive")
    del body

    async def exits(*given: object) -> None:
        raise SystemExit

    monkeypatch.setattr(waiter, where, exits)
    if where == "ready":
        monkeypatch.setattr(sockets, "_first_to_connect", connected)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        gateway = Stripe(API_KEY, api_base=f"http://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(SystemExit) as exited:
            exchanged(waiter, gateway, request)
    told = everything_told(exited.value)
    assert [word for word in (CANARY, "pc1_key", "canary") if word in told] == []


def exchanged(waiter: Any, gateway: Stripe, request: Request) -> None:
    """Begin an exchange whose waiter ends it: it needs no loop."""
    if waiter is waiting.Blocking:
        Wire(gateway, 5.0, None).exchange(request, unaged)
    else:
        finish(AsyncWire(gateway, 5.0, None).exchange(request, unaged))


async def connected(_: object, addresses: Any, end: float) -> socket.socket:
    """Connect without waiting, as never happens: the first wait is for what was sent."""
    found = socket.create_connection(addresses[0][1])
    found.setblocking(False)
    return found
