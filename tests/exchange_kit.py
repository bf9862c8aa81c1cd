"""The implementations of the port `Exchange`, as its contract sees them."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from gateway_client import waiting
from gateway_client.gateways.base import NoReply, Reply
from tests.oracle_exchange import exchange_async, exchange_sync

WAIT_S_MAX = 5.0


@dataclass(frozen=True)
class Kind:
    """One implementation: whether it blocks, and whether the sockets are ours."""

    is_async: bool
    is_ours: bool

    def __str__(self) -> str:
        return f"{'ours' if self.is_ours else 'httpx'}-{'async' if self.is_async else 'sync'}"

    def exchange(self, url: str, **options: Any) -> list[Reply | NoReply]:
        transport: Any = None
        if not self.is_ours:
            transport = httpx.AsyncHTTPTransport() if self.is_async else httpx.HTTPTransport()
        return (exchange_async if self.is_async else exchange_sync)(url, transport=transport, **options)

    def told(self, reply: Reply | NoReply, *, left: bool) -> None:
        """See that it was told truly whether a byte has left."""
        assert isinstance(reply, NoReply)
        assert reply.sent is (left or not self.is_ours), reply
        assert reply.sent or reply.reason.startswith("not sent: ")


KINDS = [Kind(is_async, is_ours) for is_ours in (True, False) for is_async in (False, True)]
OURS = [kind for kind in KINDS if kind.is_ours]


def no_file_stays_open() -> Iterator[None]:
    """A test that ends leaves no more open files than there were."""
    waiting.finish(waiting.Blocking().addresses("localhost", 1, 0.0))  # the resolver may keep files of its own
    before = len(os.listdir("/proc/self/fd"))
    yield
    deadline = time.monotonic() + WAIT_S_MAX
    while len(os.listdir("/proc/self/fd")) > before and time.monotonic() < deadline:
        time.sleep(0.01)  # a peer's thread may be closing its end
    assert len(os.listdir("/proc/self/fd")) <= before
