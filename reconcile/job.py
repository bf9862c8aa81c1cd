"""`run`: what programs and `paycli reconcile` call. It performs the nightly flow's effects with a client's connections.

A dry run is the very same run on a copy of the store, which is thrown away; it cancels nothing at the provider.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from gateway_client import Client, InvalidInput, store
from gateway_client.charge import iso
from gateway_client.db import Database
from gateway_client.errors import ChargeOnceError, StoreUnavailable
from gateway_client.flow.effects import Ask, DatabaseEffect, Effect, Now, T
from gateway_client.gateways.base import NoReply
from gateway_client.worker import name_of_process
from reconcile import store as run_store
from reconcile.ages import AGES, Ages
from reconcile.effects import AskAll, Import, LookAtRun, OpenedRun, OpenRun, Progress, Repair, RunEffect, RunLease
from reconcile.flow import reconcile_flow
from reconcile.lease import LEASE_SLACK_S
from reconcile.report import RunResult
from reconcile.throttle import RATE, WINDOWS, Pace
from reconcile.window import Window, window_of

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
    pace = Pace(rate, windows)
    window = window_of(day, tz, checked(client).perform(Now()) + CLOCKS_APART_MAX)  # before anything is asked
    _refuse_before_the_store(client, window)
    if not dry_run:
        return _Job(client, None, on_progress).run(day, tz, ages, pace)
    with _folder() as folder:
        copy = client.copy_store(Path(folder) / "store.db")
        try:
            copy.transact(run_store.forget_unfinished)
            return _Job(client, copy, on_progress).run(day, tz, ages, pace)
        finally:
            copy.close()


def checked(client: Client) -> Client:
    """The client, or InvalidInput."""
    if not isinstance(client, Client):
        raise InvalidInput("client", "must be a gateway_client.Client: the nightly run is a job of its own, not a task")
    return client


def _refuse_before_the_store(client: Client, window: Window) -> None:
    """Refuse a day that can hold nothing of ours: complete as it would be, it would say that somebody reconciles."""
    beginning = client.transact(lambda session, now: run_store.read_beginning(session) or now)
    if window.end <= beginning:
        raise InvalidInput(
            "--date",
            f"{window.day} ({window.tz}) was over before this store and its first charge were made "
            f"({iso(beginning)}): nothing of ours can be there. Nothing was asked or changed; name a later day",
        )


def _folder() -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="paycli-dry-run-")
    except OSError as error:
        raise StoreUnavailable(f"a dry run needs room for a copy of the store: {error.strerror}") from None


class _Job:
    """One run, on the client's store or on a copy of it."""

    def __init__(self, client: Client, copy: Database | None, on_progress: Listener) -> None:
        self._client = client
        self._copy = copy
        self._on_progress = on_progress
        self._opened: OpenedRun | None = None

    def run(self, day: date, tz: str, ages: Ages, pace: Pace) -> RunResult:
        lease = RunLease(name_of_process(), LEASE_SLACK_S + self._client.timeout_s)
        try:
            flow = reconcile_flow(self._client.setup, day, tz, lease, ages, pace)
            with ThreadPoolExecutor(pace.windows, "paycli-reconcile") as self._pool:  # its threads begin when needed
                opened = self._client.run(flow, self._perform)
        except (Exception, KeyboardInterrupt):
            self._let_go()
            raise
        return self._transact(
            lambda session, _: run_store.read_result(session, opened.run_id, dry_run=self._copy is not None)
        )

    def _perform(self, effect: Effect[Any]) -> Any:
        match effect:
            case LookAtRun():
                return self._look(lambda session, now: run_store.perform(session, effect, now))
            case RunEffect():
                result = self._transact(
                    lambda session, now: run_store.perform(session, effect, now), intent_id=_intent_of(effect)
                )
                if isinstance(effect, OpenRun):
                    self._opened = result
                return result
            case Progress():
                return self._on_progress(effect.items)
            case AskAll():
                return tuple(self._pool.map(self._client.perform, map(Ask, effect.requests)))
        return self._client.perform(effect) if self._copy is None else self._try(effect)

    def _try(self, effect: Effect[Any]) -> Any:
        """Do an effect of charging in a dry run."""
        match effect:
            case Ask() if effect.request.method != "GET":
                return NoReply(False, "a dry run changes nothing at the provider", 0)
            case DatabaseEffect():
                return self._transact(lambda session, now: store.perform(session, effect, now))
        return self._client.perform(effect)

    def _transact(self, work: Callable[[Session, datetime], T], *, intent_id: str | None = None) -> T:
        if self._copy is None:
            return self._client.transact(work, intent_id=intent_id)
        now = self._client.perform(Now())
        return self._copy.transact(lambda session: work(session, now))

    def _look(self, work: Callable[[Session, datetime], T]) -> T:
        if self._copy is None:
            return self._client.look(work)
        now = self._client.perform(Now())
        return self._copy.transact(lambda session: work(session, now), write=False)

    def _let_go(self) -> None:
        """Give the lease back, so that the next call need not wait; if even that fails, it ends by itself."""
        opened = self._opened
        if opened is not None:
            with suppress(ChargeOnceError):
                self._transact(lambda session, now: run_store.release(session, opened, now))


def _intent_of(effect: RunEffect[Any]) -> str | None:
    """The intent that an effect decides about, if it is one."""
    match effect:
        case Repair():
            return effect.by.intent_id
        case Import():
            return effect.intent_id
    return None
