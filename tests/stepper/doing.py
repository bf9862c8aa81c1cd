"""What an actor does: an effect or a work, in one transaction, as its caller has it done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy.orm import Session

import reconcile.store.performing  # noqa: F401 - it says what performs the effects of a run
from gateway_client import Money
from gateway_client.db import Database, joined
from gateway_client.flow.effects import (
    Claim,
    DatabaseEffect,
)
from gateway_client.gateways.base import Binding
from gateway_client.group_commit import Job
from gateway_client.outcome import (
    Conflict,
)
from gateway_client.record import Record
from gateway_client.store.performing import ahead_of, perform
from gateway_client.transaction import Transaction
from reconcile.effects import (
    OpenedRun,
)
from reconcile.window import Window

ORDER, OTHER = "order_1", "order_2"
BINDING = Binding("stripe", "test", "acct_1", "default", "the store")
CREDENTIAL = "credential"
DAY_S = 86_400.0
LISTS = 2
USD_20 = Money(2000, "usd")

AMOUNTS_DIFFER = Conflict("the amounts differ", "pi_1", "ch_1", "amount")


@dataclass(frozen=True, eq=False)
class Stage:
    """What is there when it begins, as the actors know it. `records`: the rows as their sends' callers have them."""

    now: datetime
    records: Mapping[tuple[str, int], Record]
    nights: tuple[OpenedRun, ...]
    window: Window
    lease_s: float  # how long a lease lasts


@dataclass(frozen=True)
class Raised:
    """An error that reached a caller."""

    error: BaseException


@dataclass(frozen=True)
class Hand:
    """A work that is no effect of a flow."""

    work: Callable[[Transaction], Any]


@dataclass(frozen=True)
class Together:
    """Effects of one process that wait for its writer: they become one transaction."""

    effects: tuple[DatabaseEffect[Any], ...]


@dataclass(frozen=True)
class Prepared:
    """A claim in a transaction of the caller's."""

    claim: Claim


Asked = DatabaseEffect[Any] | Hand | Together | Prepared
Make = Callable[[Stage], Asked]
Time = Callable[[], datetime]


def performing(stage: Stage, effect: Asked, number: int) -> Callable[[Database], Any]:
    """The call of one actor; each has a time of its own, so that the rows show who wrote what."""
    now = stage.now + timedelta(seconds=1 + number)

    def time() -> datetime:
        return now

    match effect:
        case Together():
            return lambda database: in_a_group(database, effect, time)
        case Hand():
            return lambda database: database.transact(effect.work, time=time)
        case Prepared():
            return lambda database: in_a_session(database, effect.claim, time)
    return lambda database: database.transact(
        partial(perform, effect=effect),
        time=time,
        write=effect.writes,
        repeatable=effect.repeatable,
        intent_id=effect.decides_about,
    )


def in_a_session(database: Database, effect: Claim, time: Time) -> Any:
    """Do what `prepare` does: the row is the caller's to commit."""
    with Session(database._engine) as session:
        opened = database.join(session)
        result = joined(session, opened, time, partial(perform, effect=effect), effect.intent.intent_id)
        session.commit()
    return result


def in_a_group(database: Database, effect: Together, time: Time) -> list[Any]:
    """Do what as many threads of a process do that come while its writer is at work: the next one leads them."""
    jobs: list[Job[Any]] = []
    for each in effect.effects:
        jobs.append(Job(partial(perform, effect=each), each.repeatable, each.decides_about, time, ahead_of(each)))
        database.group.waiting.add(jobs[-1])
    database.group.lead()
    return [attempted(lambda job=job: database.alone(job) if job.alone else job.result()) for job in jobs]  # type: ignore[misc]


def attempted(work: Callable[[], Any]) -> Any:
    """What a work returns, or the error that its caller is told."""
    try:
        return work()
    except Exception as error:  # whatever it is, it is judged
        return Raised(error)
