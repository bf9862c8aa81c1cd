"""Client: what billing services call, and the driver that performs the flows' effects.

The story is in `flow/`, every statement in `store/`. Effects are performed in one place, `perform`: the only place that
sends or sleeps.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import httpx
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from gateway_client import intake, store, telemetry
from gateway_client.charge import Charge
from gateway_client.clock import Clock
from gateway_client.db import Database
from gateway_client.driver import (
    Driver,
    Listener,
    check_charge,
    check_rows,
    claimed,
    ignore,
    not_recorded,
)
from gateway_client.errors import ChargeOnceError, ConfigurationError, NeedsPerson, StoreUnavailable
from gateway_client.exchange import Exchange, unaged
from gateway_client.flow.charging import charge_flow, prepare_flow
from gateway_client.flow.clearing import cancel_flow
from gateway_client.flow.effects import (
    Ask,
    AskAll,
    DatabaseEffect,
    Effect,
    Flow,
    MeetProvider,
    Now,
    ReadBinding,
    Send,
    Tell,
    Wait,
)
from gateway_client.flow.resuming import resume_flow
from gateway_client.gateways.base import Account, Gateway, NoReply, Reply, Request
from gateway_client.intent import PaymentIntent, check_intent_id, check_text
from gateway_client.outcome import CouldNotAsk
from gateway_client.proxy import read_proxy
from gateway_client.retry import RetryPolicy
from gateway_client.transaction import Transaction
from gateway_client.wire import Wire

T = TypeVar("T")


class Client(Driver):
    """Charges through a gateway, exactly once for each attempt. Safe to share between threads; reopens after a fork.

    `database` is a URL or an Engine; `timeout_s` bounds one send from connecting to the last byte. `seal_secret`, kept
    outside of the database, seals each row: one that was changed there is not sent. `proxy` is the URL of an HTTP proxy
    (http://user:password@host:port), through which everything to the provider goes; no proxy of the environment is
    used. Nobody is asked and no database is opened before the first call. See `errors.py` for what may be raised.
    """

    def __init__(
        self,
        gateway: Gateway,
        *,
        database: str | Engine,
        namespace: str = "default",
        timeout_s: float = 30.0,
        retry: RetryPolicy | None = None,
        transport: httpx.BaseTransport | None = None,
        clock: Clock | None = None,
        on_record: telemetry.Hook | None = None,
        seal_secret: str | None = None,
        proxy: str | None = None,
    ) -> None:
        try:
            way = read_proxy(proxy, base_url=gateway.base_url, transport=transport)
            super().__init__(
                gateway, namespace=namespace, retry=retry, clock=clock, on_record=on_record, seal_secret=seal_secret
            )
            self._database = Database(database)
        finally:
            del database, seal_secret, proxy  # a crash reporter sends local variables, and a URL holds a password
        self._new_wire = partial(Wire, gateway, timeout_s, transport, way)
        self._wire: Exchange = self._new_wire()
        self._inherited: list[Exchange] = []
        self._lock = threading.Lock()
        self.timeout_s = timeout_s

    def charge(self, intent: PaymentIntent, *, attempt: int | None = None) -> Charge:
        """Charge an intent; safe to call again, after any crash. `attempt` None is the newest.

        Returns the snapshot of the attempt, whatever became of the payment: look at `.state`. Raises IntentConflict,
        AttemptRefused, NeedsPerson, ConfigurationError, ClockRefused, StoreUnavailable, OutcomeNotRecorded.
        """
        check_charge(intent, attempt)
        return self.run(charge_flow(self._setup, intent, attempt))

    def prepare(self, intent: PaymentIntent, session: Session | None = None, *, attempt: int | None = None) -> Charge:
        """Write the pending charge without sending it, in the caller's own transaction when a session is given."""
        check_charge(intent, attempt)
        theirs = None if session is None else intake.session_of(session)
        effect = self.run(prepare_flow(self._setup, intent, attempt))
        if theirs is None:
            return claimed(self.perform(effect))
        return claimed(self._joined(theirs, self._database.join(theirs), effect))

    def resume(self, limit: int | None = None, *, on_charge: Listener = ignore) -> tuple[Charge, ...]:
        """Finish every pending charge that can be finished now, oldest first; those looked at, as they are afterwards.

        Raises ProviderUnavailable when somebody could not be asked; what was finished before is on disk.
        """
        check_rows(limit)
        return self.run(resume_flow(self._setup, limit, on_charge))

    def cancel(self, intent_id: str, *, because: str) -> Charge:
        """Give the newest attempt up, safely: never sent → canceled; else cancelled there, or closed until proof."""
        check_intent_id(intent_id)
        check_text("because", because)
        return self.run(cancel_flow(self._setup, intent_id, because))

    def find(self, intent_id: str, *, attempt: int | None = None) -> Charge | None:
        """The snapshot of an attempt (None: the newest), or None. Asks nobody but the database."""
        check_intent_id(intent_id)
        self._open()
        found = self._database.transact(lambda tx: store.read_attempts(tx, intent_id), write=False)
        return next((charge for charge in reversed(found) if attempt in (None, charge.attempt)), None)

    def run(self, flow: Flow[T]) -> T:
        """Drive a flow to its end."""
        self._open()
        step, result = flow.send, cast("Any", None)
        while True:
            try:
                effect = step(result)
            except StopIteration as end:
                return cast("T", end.value)
            try:
                step, result = flow.send, self.perform(effect)
            except ChargeOnceError as error:  # the flow may know better than to end
                step, result = flow.throw, error

    def perform(self, effect: Effect[T]) -> T:
        """Do one effect: the only place of this driver that touches the world."""
        return cast("T", self._perform(effect))

    def _perform(self, effect: Effect[Any]) -> object:  # noqa: PLR0911 - one effect a line
        match effect:
            case DatabaseEffect():
                return self._transact(effect)
            case Send():
                return self._learn(effect.request, self._wire.exchange(effect.request, effect.begun.age_s))
            case Ask():
                return self._ask(effect.request)
            case AskAll():
                with ThreadPoolExecutor(len(effect.requests), "charge-once asks") as threads:
                    return tuple(threads.map(self._ask, effect.requests))
            case MeetProvider():
                return self._meet(anew=effect.anew)
            case Now():
                return self._time.now()
            case Wait():
                seconds = self._draw(effect)
                self._clock.sleep(seconds)
                return seconds
            case Tell():
                effect.listener(effect.what)
                return None
        raise TypeError(f"not an effect: {type(effect).__name__}")

    def _ask(self, request: Request) -> Reply | NoReply:
        return self._learn(request, self._wire.exchange(request, unaged))

    def _meet(self, *, anew: bool) -> Account | CouldNotAsk:
        request, asked = self._gateway.account_request(), self._asked
        if anew:  # nobody else's question will do: it may have been answered before our clocks stood still
            return self._introduced(request, self._wire.exchange(request, unaged))
        with self._lock:
            return self._known(asked) or self._introduced(request, self._wire.exchange(request, unaged))

    def _transact(self, effect: DatabaseEffect[T]) -> T:
        if isinstance(effect, ReadBinding) and self._binding is not None:
            return cast("T", self._binding)
        records: list[telemetry.Record] = []
        try:
            result = self._database.transact(self._work(effect, records), **self._transaction_of(effect))
        except (StoreUnavailable, ConfigurationError, NeedsPerson, SQLAlchemyError) as error:
            told = not_recorded(effect, error)
            if told is error:
                raise
            raise told from error
        return self._performed(effect, result, records)

    def transact(self, work: Callable[[Transaction], T], *, write: bool = True) -> T:
        """Run `work` in one transaction, at the provider's time."""
        self._open()
        return self._database.transact(work, time=self._time.now, write=write)

    def copy_store(self, path: Path) -> Database:
        """A copy of the store as it is now, in a file of its own: what is tried on it changes nothing here."""
        self._open()
        return self._database.copy_to(path)

    def _open(self) -> None:
        if not self._usable():
            self._inherited.append(self._wire)  # never closed here: the sockets are the parent's
            self._database.after_fork()
            self._wire, self._lock = self._new_wire(), threading.Lock()
            self._reopened()
        if not self._created:
            self._database.create()
            self._created = True

    def close(self) -> None:
        """Close the connections; the client sends nothing afterwards."""
        self._closed = True
        self._wire.close()
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
