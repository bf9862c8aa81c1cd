"""The implementations of the port `Exchange`, as its contract sees them."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

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


def no_file_stays_open(request: pytest.FixtureRequest) -> Iterator[None]:
    """See that a test of ours ends with no more open files than there were; httpx may leave some to the collector."""
    given = getattr(request.node, "callspec", None)
    theirs = given is not None and any(isinstance(one, Kind) and not one.is_ours for one in given.params.values())
    waiting.finish(waiting.Blocking().addresses("localhost", 1, 0.0))  # the resolver may keep files of its own
    before = open_files()
    yield
    deadline = time.monotonic() + WAIT_S_MAX
    while not theirs and open_files() > before and time.monotonic() < deadline:
        time.sleep(0.01)  # a peer's thread may be closing its end
    assert theirs or open_files() <= before


def open_files() -> int:
    """Return how many files, sockets among them, this process has open."""
    return len(os.listdir("/proc/self/fd"))
