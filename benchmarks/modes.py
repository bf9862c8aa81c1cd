"""Name every way of charging that is compared, ours and the peers', and say on which database each stands."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TypeAlias, cast

from benchmarks.places import KINDS, POSTGRESQL, SQLITE

Opened: TypeAlias = AbstractContextManager[Callable[[str], None]]
AsyncOpened: TypeAlias = AbstractAsyncContextManager[Callable[[str], Awaitable[None]]]

BASE = "sdk-sync"  # what ratios are of: the official SDK, synchronous, with no durability at all
WORDS = {SQLITE: "SQLite", POSTGRESQL: "PostgreSQL"}


@dataclass(frozen=True, slots=True)
class Mode:
    """Describe one way of charging: `opener` is a function of `(provider's URL, database's URL)` in a module."""

    name: str
    label: str
    opener: str
    database: str | None = None
    is_async: bool = False
    needs: str | None = None  # a package of the extra `bench`

    def missing(self) -> str | None:
        """Say which package this mode lacks, or None."""
        if self.needs is None or find_spec(self.needs) is not None:
            return None
        return f"{self.needs} is not installed: pip install '.[bench]'"

    def open(self, provider: str, database: str | None) -> Opened:
        """Open a synchronous mode: the call charges the intent of a name, or raises."""
        return cast("Opened", self._opener()(provider, database))

    def open_async(self, provider: str, database: str | None) -> AsyncOpened:
        """Open an asynchronous mode."""
        return cast("AsyncOpened", self._opener()(provider, database))

    def _opener(self) -> Callable[..., object]:
        module, _, name = self.opener.rpartition(".")
        found: Callable[..., object] = getattr(import_module(f"benchmarks.{module}"), name)
        return found


def _on_both(name: str, label: str, opener: str, *, is_async: bool = False, needs: str | None = None) -> list[Mode]:
    return [Mode(f"{name}-{kind}", f"{label}, {WORDS[kind]}", opener, kind, is_async, needs) for kind in KINDS]


MODES = (
    Mode(BASE, "official SDK, sync", "peers.open_sdk"),
    Mode("sdk-async", "official SDK, async", "peers.open_sdk_async", is_async=True, needs="aiohttp"),
    *_on_both("pattern", "insert, SDK call, update", "peers.open_pattern"),
    *_on_both("dbos", "DBOS, one step", "peers.open_dbos", needs="dbos"),
    *_on_both("ours-sync", "ours, sync", "ours.open_client"),
    *_on_both("ours-async", "ours, async", "ours.open_async_client", is_async=True),
)
EXCHANGES = (  # of section `transport`: one request and its answer, nothing kept
    Mode("exchange-socket", "bare socket, fresh, sync", "bare.open_socket"),
    Mode("exchange-socket-resumed", "bare socket, fresh, TLS resumed, sync", "bare.open_socket_resumed"),
    *(
        Mode(f"exchange-{name}", f"{label}, sync", f"exchanges.open_{opener}")
        for name, label, opener in (
            ("ours", "ours, fresh", "ours"),
            ("httpx", "httpx as it is, kept", "httpx"),
            ("httpx-fresh", "httpx, fresh transports", "httpx_fresh"),
            ("httpcore", "httpcore's connection, fresh", "httpcore"),
            ("http-client", "http.client, fresh", "http_client"),
            ("http-client-kept", "http.client, kept", "http_client_kept"),
            ("requests", "requests, kept", "requests"),
        )
    ),
    *(
        Mode(f"exchange-{name}-async", f"{label}, async", f"exchanges.open_{opener}", None, True, needs)
        for name, label, opener, needs in (
            ("ours", "ours, fresh", "ours_async", None),
            ("httpx", "httpx as it is, kept", "httpx_async", None),
            ("httpx-fresh", "httpx, fresh transports", "httpx_fresh_async", None),
            ("httpx-pools", "httpx, eight small pools, kept", "httpx_pools", None),
            ("httpx-aiohttp", "httpx over aiohttp, kept", "httpx_aiohttp", "aiohttp"),
            ("aiohttp", "aiohttp, kept", "aiohttp", "aiohttp"),
            ("aiohttp-fresh", "aiohttp, fresh", "aiohttp_fresh", "aiohttp"),
        )
    ),
)
BY_NAME = {mode.name: mode for mode in (*MODES, *EXCHANGES)}
OURS = tuple(mode for mode in MODES if mode.name.startswith("ours-"))
