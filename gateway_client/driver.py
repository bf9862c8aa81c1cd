"""What both clients know and decide alike: the account, the provider's time, what is told, which arguments are refused.

It does no I/O of its own; performing effects is `client.py`'s.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, cast

from sqlalchemy import event
from sqlalchemy.orm import Session

from gateway_client import telemetry
from gateway_client.charge import Charge
from gateway_client.clock import Clock, ProviderTime, Stopwatch, SystemClock
from gateway_client.db import joined
from gateway_client.errors import (
    AttemptRefused,
    ConfigurationError,
    InvalidInput,
    NeedsPerson,
    OutcomeNotRecorded,
    StoreUnavailable,
    UsageError,
)
from gateway_client.flow.asking import Setup
from gateway_client.flow.effects import (
    BeginSend,
    Begun,
    Bind,
    Claim,
    ClaimUpon,
    ClearFirst,
    DatabaseEffect,
    ReadBinding,
    Settle,
    Wait,
)
from gateway_client.frozen import Seal
from gateway_client.gateways.base import Account, Binding, Gateway, NoReply, Reply, Request
from gateway_client.intent import PaymentIntent, check_attempt, check_namespace
from gateway_client.outcome import CouldNotAsk
from gateway_client.retry import RetryPolicy
from gateway_client.store.performing import ahead_of, perform, send_ended
from gateway_client.transaction import Opened, Transaction

T = TypeVar("T")
Listener = Callable[[Charge], None]


def ignore(charge: Charge | str) -> None:
    """Nobody listens."""


class Driver:
    """What both drivers know and decide alike; it does no I/O."""

    def __init__(
        self,
        gateway: Gateway,
        *,
        namespace: str = "default",
        retry: RetryPolicy | None = None,
        clock: Clock | None = None,
        on_record: telemetry.Hook | None = None,
        seal_secret: str | None = None,
    ) -> None:
        try:
            seal = None if seal_secret is None else Seal(seal_secret)
        finally:
            del seal_secret  # a crash reporter sends local variables
        check_namespace(namespace)
        self._clock: Clock = clock or SystemClock()
        self._gateway = gateway
        self._on_record = on_record
        began = datetime.fromtimestamp(self._clock.time(), UTC)
        self._setup = Setup(gateway, namespace, retry or RetryPolicy(), began, seal)
        self._time = ProviderTime(self._clock)
        self._met: Account | CouldNotAsk | None = None
        self._asked = 0
        self._binding: Binding | None = None
        self._created = False
        self._closed = False
        self._pid = os.getpid()

    @property
    def setup(self) -> Setup:
        """What a flow needs to know, for those who bring one of their own to `run`."""
        return self._setup

    @property
    def clock(self) -> Clock:
        """The machine's clock and its chance, or whatever stands for them."""
        return self._clock

    def _learn(self, request: Request, reply: Reply | NoReply) -> Reply | NoReply:
        """Every answer of the provider to what was asked tells its time."""
        date = self._gateway.read_time(request, reply) if isinstance(reply, Reply) else None
        if date is not None and isinstance(reply, Reply):
            self._time.learn(date, timedelta(milliseconds=reply.elapsed_ms))
        return reply

    def _draw(self, wait: Wait) -> float:
        return wait.seconds_min + (wait.seconds_max - wait.seconds_min) * self._clock.jitter()

    def _known(self, asked: int) -> Account | CouldNotAsk | None:
        """The account, when it was asked for and the provider's time is known; None: ask anew.

        Who waited for another caller's question (the number of questions is no longer `asked`) takes its answer, a
        failure too: else a hundred threads would wait for a dead provider one after the other.
        """
        if self._asked != asked and isinstance(self._met, CouldNotAsk):
            return self._met
        return self._met if isinstance(self._met, Account) and self._time.trusted else None

    def _introduced(self, request: Request, reply: Reply | NoReply) -> Account | CouldNotAsk:
        met = self._gateway.read_account(self._learn(request, reply))
        self._asked, self._met = self._asked + 1, met
        if isinstance(met, Account):
            self._time.check()
        return met

    def _work(self, effect: DatabaseEffect[T], records: list[telemetry.Record]) -> Callable[[Transaction], T]:
        """One database effect as one transaction's work; `records` is what to tell once it is committed."""

        def work(tx: Transaction) -> T:
            if isinstance(effect, BeginSend):
                self._time.check()  # again: since the account was met we may have slept, or our clock was set
            watch = Stopwatch(self._clock)  # before the gate reads the time: a pause in the commit counts, too
            result = perform(tx, self._allowed(effect))
            if isinstance(result, Begun):
                result = cast("T", replace(result, age_s=watch.elapsed_s))
            records[:] = tx.records  # of this try; one that was rolled back tells nothing
            return result

        return work

    def _transaction_of(self, effect: DatabaseEffect[Any]) -> dict[str, Any]:
        """What the transaction of an effect is, for `Database.transact`."""
        return {
            "time": self._time.now,
            "write": effect.writes,
            "repeatable": effect.repeatable,
            "intent_id": effect.decides_about,
            "ahead": ahead_of(effect),
        }

    def _allowed(self, effect: DatabaseEffect[T]) -> DatabaseEffect[T]:
        """Allow a claim to begin a send only when whose credential this is, and the provider's time, are known.

        Then the row alone is written, the provider is asked, and the gate is a transaction of its own.
        """
        if not isinstance(effect, Claim | ClaimUpon) or effect.begin_with is None:
            return effect
        met = self._known(self._asked)
        known = isinstance(met, Account) and met.account == effect.binding.account
        return cast("DatabaseEffect[T]", effect if known else replace(effect, begin_with=None))

    def _performed(self, effect: DatabaseEffect[T], result: T, records: list[telemetry.Record]) -> T:
        if isinstance(effect, Settle):
            ended = send_ended(effect, cast("Charge", result))
            records.extend([] if ended is None else [ended])
        telemetry.emit(records, self._on_record)
        if isinstance(effect, ReadBinding | Bind):
            self._binding = cast("Binding | None", result)
        return result

    def _joined(self, session: Session, opened: Opened, effect: DatabaseEffect[T]) -> T:
        """An effect in the caller's own transaction; what it tells is told if and when the caller commits."""
        records: list[telemetry.Record] = []

        def work(tx: Transaction) -> T:
            result = perform(tx, effect)
            records[:] = tx.records  # of this try, not of one that was undone
            return result

        result = joined(session, opened, self._time.now, work, effect.decides_about or "")
        event.listen(session, "after_rollback", lambda _: records.clear(), once=True)
        event.listen(session, "after_commit", lambda _: telemetry.emit(records, self._on_record), once=True)
        return result

    def _usable(self) -> bool:
        """False in a child process, which must open connections of its own."""
        if self._closed:
            raise UsageError("this client is closed")
        return self._pid == os.getpid()

    def _reopened(self) -> None:
        """The child has its own connections. Said last: another thread that comes earlier opens its own as well."""
        self._met, self._pid = None, os.getpid()


def not_recorded(effect: DatabaseEffect[Any], error: Exception) -> Exception:
    """A database that refuses what the provider answered, for whatever reason: the caller must hear of the charge."""
    if not isinstance(effect, Settle) or effect.send_no is None:
        return error
    charge_id = getattr(effect.answer.outcome, "provider_charge_id", None)
    match error:
        case StoreUnavailable():
            why = error.why
        case ConfigurationError():
            why = str(error).removesuffix(" Nothing more was sent.").removesuffix(".")
        case NeedsPerson():
            why = str(error).removesuffix(".")
        case _:
            why = f"the database refused: {type(error).__name__}"
    return OutcomeNotRecorded(
        f"{effect.intent_id} attempt {effect.attempt}: the provider answered {effect.answer.name} "
        f"(charge {charge_id or 'unnamed'}, request {effect.answer.request_id or 'unnamed'}), which is not recorded: "
        f"{why}",
        "Nothing is lost: run resume.",
    )


def claimed(result: Charge | Begun | ClearFirst) -> Charge:
    assert not isinstance(result, Begun), "what is prepared is not sent"
    if isinstance(result, ClearFirst):
        raise AttemptRefused(
            f"{result.charge.intent_id}: attempt {result.charge.attempt} must first be cleared at the provider, "
            "which `prepare` cannot do; use charge(..., attempt=…). Nothing was written."
        )
    return result


def check_charge(intent: PaymentIntent, attempt: int | None) -> None:
    if not isinstance(intent, PaymentIntent):
        raise InvalidInput("intent", f"must be a PaymentIntent, not {type(intent).__name__}")
    if attempt is not None:
        check_attempt(attempt)


def check_rows(limit: int | None) -> None:
    if limit is not None and (type(limit) is not int or limit < 1):
        raise InvalidInput("limit", "must be a whole number from 1")
