"""`run` and `run_async`: what programs and `paycli reconcile` call. A client drives the nightly flow as any other one.

A dry run is the very same run on a copy of the store, which is thrown away; it cancels nothing at the provider.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import reconcile.store.performing  # noqa: F401 - whoever runs a run's effects needs their functions
from gateway_client.async_client import AsyncClient
from gateway_client.charge import iso
from gateway_client.client import Client
from gateway_client.db import Database
from gateway_client.errors import ChargeOnceError, InvalidInput, StoreUnavailable
from gateway_client.flow.asking import Setup
from gateway_client.flow.effects import Ask, DatabaseEffect, Effect, Flow, Now, T
from gateway_client.gateways.base import NoReply
from gateway_client.store.registry import perform
from gateway_client.worker import name_of_process
from reconcile.ages import AGES, Ages
from reconcile.effects import LetGo, OpenedRun, OpenRun, ReadBeginning, ReadResult, RunLease, SavePages
from reconcile.flow import reconcile_flow
from reconcile.lease import LEASE_SLACK_S
from reconcile.report import RunResult
from reconcile.store.runs import forget_unfinished
from reconcile.throttle import RATE, WINDOWS, Pace
from reconcile.window import window_of
from reconcile.wrapping import wrapped

CLOCKS_APART_MAX = timedelta(minutes=5)  # a clock further off than this is refused later on

Listener = Callable[[int], None]


def ignore(items: int) -> None:
    """Nobody watches."""


def run(
    client: Client,
    day: date,
    tz: str = "UTC",
    dry_run: bool = False,
    *,
    ages: Ages = AGES,
    rate: float = RATE,
    windows: int = WINDOWS,
    on_progress: Listener = ignore,
) -> RunResult:
    """Reconcile the window of a day; go on with it if an earlier call was killed or could not read everything.

    `ages`: how long a charge may be pending in each state before it is flagged. `rate`: requests a second, at most.
    `windows`: how many parts of a long list are read at once. `on_progress` is told how many objects of the provider
    each page held. An incomplete run is a result (`.complete` is False, `.why_incomplete` says why),
    never an exception. Raises InvalidInput for an unusable day, zone, rate or number of windows, RunHeld while another
    process is at it, ProviderUnavailable when the provider could not be asked at all, ConfigurationError, ClockRefused,
    StoreUnavailable.
    """
    job = _Job(day, tz, ages, Pace(rate, windows), on_progress, dry_run=dry_run)
    checked(client).run(job.check())
    with job.copied(client.copy_store):
        try:
            return client.run(job.flow(client.setup, client.timeout_s))
        except (Exception, KeyboardInterrupt):
            with suppress(ChargeOnceError):  # the lease ends by itself
                client.run(job.let_go())
            raise


async def run_async(
    client: AsyncClient,
    day: date,
    tz: str = "UTC",
    dry_run: bool = False,
    *,
    ages: Ages = AGES,
    rate: float = RATE,
    windows: int = WINDOWS,
    on_progress: Listener = ignore,
) -> RunResult:
    """As `run`, for an AsyncClient of a URL. A task that is cancelled leaves the run to whoever calls next."""
    if not isinstance(client, AsyncClient):
        raise InvalidInput("client", "must be a gateway_client.AsyncClient; `run` takes a Client")
    job = _Job(day, tz, ages, Pace(rate, windows), on_progress, dry_run=dry_run)
    await client.run(job.check())
    with job.copied(client.copy_store):
        try:
            return await client.run(job.flow(client.setup, client.timeout_s))
        except Exception:
            with suppress(ChargeOnceError):
                await client.run(job.let_go())
            raise


def checked(client: Client) -> Client:
    """The client, or InvalidInput."""
    if not isinstance(client, Client):
        raise InvalidInput("client", "must be a gateway_client.Client; `run_async` takes an AsyncClient")
    return client


class Watch:
    """What is seen of a run from outside of its flow: that it was opened, and how many objects were read."""

    def __init__(self, on_progress: Listener = ignore) -> None:
        self._on_progress = on_progress
        self._opened: OpenedRun | None = None

    def over(self, flow: Flow[T]) -> Flow[T]:
        """Watch a flow."""
        return wrapped(flow, self._see)

    def _see(self, effect: Effect[Any]) -> Flow[Any]:
        result = yield from effect
        if isinstance(effect, OpenRun):
            self._opened = result
        if isinstance(effect, SavePages):
            self._on_progress(sum(page.count for page in effect.pages))
        return result

    def let_go(self) -> Flow[None]:
        """Give the lease of the run back, so that the next call need not wait."""
        if self._opened is not None:
            yield from LetGo(self._opened)


@dataclass
class _Job:
    """One call: which day of what zone, how, and on the client's store or on a copy of it."""

    day: date
    tz: str
    ages: Ages
    pace: Pace
    on_progress: Listener
    dry_run: bool

    def __post_init__(self) -> None:
        self._watch = Watch(self.on_progress)
        self._copy: Database | None = None

    def check(self) -> Flow[None]:
        """Refuse a day that can hold nothing of ours: complete as it would be, it would say that somebody reconciles.

        Before anything is asked. Raises InvalidInput.
        """
        now = yield from Now()
        window = window_of(self.day, self.tz, now + CLOCKS_APART_MAX)
        beginning = (yield from ReadBeginning()) or now
        if window.end <= beginning:
            raise InvalidInput(
                "--date",
                f"{window.day} ({window.tz}) was over before this store and its first charge were made "
                f"({iso(beginning)}): nothing of ours can be there. Nothing was asked or changed; name a later day",
            )

    def flow(self, setup: Setup, timeout_s: float) -> Flow[RunResult]:
        """Run it, and read what it came to."""
        whole = self._whole(setup, RunLease(name_of_process(), LEASE_SLACK_S + timeout_s))
        return whole if self._copy is None else _on_copy(self._copy, whole)

    def _whole(self, setup: Setup, lease: RunLease) -> Flow[RunResult]:
        opened = yield from self._watch.over(reconcile_flow(setup, self.day, self.tz, lease, self.ages, self.pace))
        return (yield from ReadResult(opened.run_id, self.dry_run))

    def let_go(self) -> Flow[None]:
        """Give the lease back; a copy's goes with it."""
        if self._copy is None:
            yield from self._watch.let_go()

    @contextmanager
    def copied(self, copy: Callable[[Path], Database]) -> Iterator[None]:
        """Within it a dry run has a copy of the store."""
        if not self.dry_run:
            yield
            return
        with _folder() as folder:
            self._copy = copy(Path(folder) / "store.db")
            try:
                self._copy.transact(forget_unfinished)
                yield
            finally:
                self._copy.close()


def _on_copy(copy: Database, flow: Flow[T]) -> Flow[T]:
    """Do a flow's database effects on a copy, and leave out what would change anything at the provider."""

    def instead(effect: Effect[Any]) -> Flow[Any]:
        match effect:
            case DatabaseEffect():
                now = yield from Now()
                return copy.transact(lambda tx: perform(tx, effect), time=lambda: now, write=effect.writes)
            case Ask() if effect.request.method != "GET":
                return NoReply(False, "a dry run changes nothing at the provider", 0)
        return (yield from effect)

    return wrapped(flow, instead)


def _folder() -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="paycli-dry-run-")
    except OSError as error:
        raise StoreUnavailable(f"a dry run needs room for a copy of the store: {error.strerror}") from None
