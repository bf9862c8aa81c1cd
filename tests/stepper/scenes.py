"""What is there when it begins: the rows of each scene, made by the store functions themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import bindparam

from gateway_client.charge import Charge
from gateway_client.db import Database
from gateway_client.flow.effects import Begun
from gateway_client.outcome import Unknown
from gateway_client.proof import Shown
from gateway_client.record import Record
from gateway_client.store import gate
from reconcile.ages import AGES
from reconcile.effects import FlagStale, OpenedRun, OpenRun, RunLease
from reconcile.store import lease, runs
from reconcile.window import window_of
from tests.stepper import doing, makers
from tests.stepper.acts import ACTS
from tests.stepper.doing import AMOUNTS_DIFFER, BINDING, DAY_S, LISTS, OTHER, Make, Stage
from tests.stepper.ground import Ground, Image, opened
from tests.stepper.makers import DECLINED, PAID, WORKER

HOUR = timedelta(hours=1)
OVER_S = -1.0  # how long a lease lasts that is over when it is taken


def without_leases(patch: pytest.MonkeyPatch) -> None:
    """Nobody looks whether he has a lease: neither a worker before a send, nor a night before its work."""
    lease_of_a_row_unread(patch)
    lease_of_a_run_unread(patch)


def lease_of_a_row_unread(patch: pytest.MonkeyPatch) -> None:
    """A worker sends what another one has by now."""
    patch.setattr(gate, "holds", lambda row, worker, clock: True)


def lease_of_a_run_unread(patch: pytest.MonkeyPatch) -> None:
    """A night goes on with a run that another one has by now."""
    patch.setattr(
        lease, "_UPDATE_LEASED", runs.UPDATE_RUN.where(runs.runs.c.ended_at.is_(None), bindparam("of_lease") != "")
    )


class Builder:
    """Makes the rows of a scene, one transaction after the other."""

    def __init__(self, database: Database, now: datetime, lease_s: float) -> None:
        self._database, self.now, self._lease_s = database, now, lease_s
        self.nights: list[OpenedRun] = []
        self.records: dict[tuple[str, int], Record] = {}
        day = now.date() - timedelta(days=1)
        self.window = window_of(day, "UTC", now)
        self._windows = [window_of(day - timedelta(days=1 + number), "UTC", now) for number in range(2)]

    @property
    def stage(self) -> Stage:
        return Stage(self.now, self.records, tuple(self.nights), self.window, self._lease_s)

    def do(self, make: Make, ago: timedelta = timedelta()) -> Any:
        """Do one transaction some time ago."""
        at = replace(self.stage, now=self.now - ago)
        return doing.performing(at, make(at), -1)(self._database)

    def open_nights(self) -> None:
        """Two calls have each a run of another window: nothing keeps them apart."""
        for number, window in enumerate(self._windows):
            effect = OpenRun(window, RunLease(f"night {'AB'[number]}", self._lease_s), BINDING, LISTS)
            self.nights.append(self.do(lambda stage, effect=effect: effect))  # type: ignore[misc]

    def see(self, begun: Begun | Charge) -> None:
        """Keep what the caller of a send has read."""
        assert isinstance(begun, Begun)
        self.records[begun.charge.intent_id, begun.charge.attempt] = begun.record


def _bound(make: Builder, ago: timedelta = timedelta(days=10)) -> None:
    make.do(ACTS["bind"], ago)
    make.open_nights()


def _nothing(make: Builder) -> None:
    _bound(make)


def _prepared(make: Builder) -> None:
    _bound(make)
    make.do(makers.claim(), 48 * HOUR)
    make.do(makers.leasing(WORKER))


def _sending(make: Builder) -> None:
    _bound(make)
    make.see(make.do(makers.claim(send=True), HOUR))


def _unknown(make: Builder) -> None:
    _bound(make)
    make.do(makers.claim(send=True), 2 * HOUR)
    make.do(makers.settle(Unknown("timeout"), status=None), 2 * HOUR)
    make.see(make.do(makers.begin(), HOUR))


def _closed(make: Builder) -> None:
    _bound(make)
    make.see(make.do(makers.claim(send=True), 110 * HOUR))
    make.do(ACTS["give up"], 100 * HOUR)


def _quiet(make: Builder) -> None:
    _closed(make)
    make.do(ACTS["note quiet"], 99 * HOUR)


def _declined(make: Builder) -> None:
    _bound(make)
    make.see(make.do(makers.claim(send=True), HOUR))
    make.do(makers.settle(DECLINED), HOUR)
    make.do(makers.save(0, makers.item("ch_1", shows=Shown.FAILED_TRY), makers.item("ch_2"), makers.item("ch_3")))


def _conflict(make: Builder) -> None:
    _bound(make)
    make.see(make.do(makers.claim(send=True), HOUR))
    make.do(makers.settle(AMOUNTS_DIFFER), HOUR)
    make.do(makers.flag(0), HOUR)


def _succeeded(make: Builder) -> None:
    _bound(make)
    make.see(make.do(makers.claim(send=True), HOUR))
    make.do(makers.settle(PAID), HOUR)
    make.do(makers.save(0, makers.item("ch_1", named=False), makers.item("ch_2")))
    make.do(makers.flag(1), HOUR)


def _over(make: Builder) -> None:
    _bound(make)
    make.see(make.do(makers.claim(send=True), 30 * HOUR))
    make.do(makers.claim(send=True, of=makers.intent(OTHER)), 30 * HOUR)


def _late(make: Builder) -> None:
    _bound(make)
    make.do(makers.claim(late=True), 30 * HOUR)


def _stale(make: Builder) -> None:
    _bound(make)
    make.see(make.do(makers.claim(send=True), 48 * HOUR))
    make.do(makers.settle(Unknown("timeout"), status=None), 48 * HOUR)
    make.do(lambda stage: FlagStale(stage.nights[0], AGES, None), HOUR)


def _stale_closed(make: Builder) -> None:
    _stale(make)
    make.do(ACTS["close stale finding"], HOUR)


def _closed_finding(make: Builder) -> None:
    _bound(make)
    make.see(make.do(makers.claim(send=True), HOUR))
    make.do(makers.flag(0), HOUR)
    make.do(ACTS["close finding"], HOUR)


def _two(make: Builder) -> None:
    _bound(make)
    make.do(makers.claim(), 30 * HOUR)
    make.do(makers.claim(of=makers.intent(OTHER)), 29 * HOUR)
    make.do(makers.leasing(WORKER))


def _two_sends(make: Builder) -> None:
    _bound(make)
    make.see(make.do(makers.claim(send=True), HOUR))
    make.see(make.do(makers.claim(send=True, of=makers.intent(OTHER)), HOUR))


def _run_over(make: Builder) -> None:
    _bound(make)
    make.do(makers.save(0, makers.item("ch_1"), makers.item("ch_9", named=False)))
    lease = RunLease("call 0", OVER_S)
    make.nights[0] = make.do(lambda stage: OpenRun(make.window, lease, BINDING, LISTS))


def _empty(make: Builder) -> None:
    """Nobody has bound the store."""


BUILDERS: dict[str, Callable[[Builder], None]] = {
    "empty": _empty,
    "nothing": _nothing,
    "prepared": _prepared,
    "sending": _sending,
    "unknown": _unknown,
    "closed": _closed,
    "quiet": _quiet,
    "declined": _declined,
    "conflict": _conflict,
    "succeeded": _succeeded,
    "finding closed": _closed_finding,
    "key over": _over,
    "late": _late,
    "stale": _stale,
    "stale, closed": _stale_closed,
    "two intents": _two,
    "two sends": _two_sends,
    "run over": _run_over,
}


@dataclass(frozen=True, eq=False)
class Scene:
    """A scene on disk: what fills the database with its rows."""

    name: str
    stage: Stage
    image: Image
    filling: str


def built(ground: Ground, name: str, *, leases: bool = True) -> Scene:
    """Make a scene's rows once; from then on they are put on disk as they are."""
    ground.clear()
    database = opened(ground.url)
    try:
        builder = Builder(database, datetime.now(UTC).replace(microsecond=0), DAY_S if leases else OVER_S)
        BUILDERS[name](builder)
        image = ground.image()
        return Scene(name, builder.stage, image, ground.filling(image))
    finally:
        database.close()
