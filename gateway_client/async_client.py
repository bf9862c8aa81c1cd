"""AsyncClient: the words of `client.py` with `await`, and the driver that performs the same flows on an event loop."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import httpx
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from gateway_client import intake, store, telemetry
from gateway_client.async_db import async_database
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
from gateway_client.errors import ChargeOnceError, ConfigurationError, NeedsPerson, StoreUnavailable, UsageError
from gateway_client.exchange import AsyncExchange, unaged
from gateway_client.flow.charging import charge_flow, prepare_flow
from gateway_client.flow.clearing import cancel_flow
from gateway_client.flow.effects import (
    Ask,
    AskAll,
    Begun,
    ClearFirst,
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
from gateway_client.wire import AsyncWire

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

T = TypeVar("T")


class AsyncClient(Driver):
    """The same words with `await`. `database` is a URL or an AsyncEngine.

    One client belongs to one event loop, that of its first call: in another one every method is a UsageError.
    """

    def __init__(
        self,
        gateway: Gateway,
        *,
        database: str | AsyncEngine,
        namespace: str = "default",
        timeout_s: float = 30.0,
        retry: RetryPolicy | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
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
            self._database = async_database(database)
        finally:
            del database, seal_secret, proxy  # a crash reporter sends local variables, and a URL holds a password
        self._new_wire = partial(AsyncWire, gateway, timeout_s, transport, way)
        self._wire: AsyncExchange = self._new_wire()
        self._inherited: list[AsyncExchange] = []
        self._lock = asyncio.Lock()
        self._loops: dict[int, asyncio.AbstractEventLoop] = {}  # of a process: a child has a loop of its own
        self.timeout_s = timeout_s

    async def charge(self, intent: PaymentIntent, *, attempt: int | None = None) -> Charge:
        """As Client.charge. A cancelled task leaves a row that `resume` finishes."""
        check_charge(intent, attempt)
        return await self.run(charge_flow(self._setup, intent, attempt))

    async def prepare(
        self, intent: PaymentIntent, session: AsyncSession | None = None, *, attempt: int | None = None
    ) -> Charge:
        """As Client.prepare, with an AsyncSession."""
        check_charge(intent, attempt)
        theirs = None if session is None else intake.async_session_of(session)
        effect = await self.run(prepare_flow(self._setup, intent, attempt))
        if theirs is None:
            return claimed(await self.perform(effect))

        def joined(inner: Session) -> Charge | Begun | ClearFirst:
            return self._joined(inner, self._database.join(inner), effect)

        return claimed(await theirs.run_sync(joined))

    async def resume(self, limit: int | None = None, *, on_charge: Listener = ignore) -> tuple[Charge, ...]:
        """As Client.resume."""
        check_rows(limit)
        return await self.run(resume_flow(self._setup, limit, on_charge))

    async def cancel(self, intent_id: str, *, because: str) -> Charge:
        """As Client.cancel."""
        check_intent_id(intent_id)
        check_text("because", because)
        return await self.run(cancel_flow(self._setup, intent_id, because))

    async def find(self, intent_id: str, *, attempt: int | None = None) -> Charge | None:
        """As Client.find."""
        check_intent_id(intent_id)
        await self._open()
        found = await self._database.transact(lambda tx: store.read_attempts(tx, intent_id), write=False)
        return next((charge for charge in reversed(found) if attempt in (None, charge.attempt)), None)

    async def run(self, flow: Flow[T]) -> T:
        """Drive a flow to its end."""
        await self._open()
        step, result = flow.send, cast("Any", None)
        while True:
            try:
                effect = step(result)
            except StopIteration as end:
                return cast("T", end.value)
            try:
                step, result = flow.send, await self.perform(effect)
            except ChargeOnceError as error:
                step, result = flow.throw, error

    async def perform(self, effect: Effect[T]) -> T:
        """Do one effect: the only place of this driver that touches the world."""
        return cast("T", await self._perform(effect))

    async def _perform(self, effect: Effect[Any]) -> object:  # noqa: PLR0911 - one effect a line
        match effect:
            case DatabaseEffect():
                return await self._transact(effect)
            case Send():
                return self._learn(effect.request, await self._wire.exchange(effect.request, effect.begun.age_s))
            case Ask():
                return await self._ask(effect.request)
            case AskAll():
                return tuple(await asyncio.gather(*map(self._ask, effect.requests)))
            case MeetProvider():
                return await self._meet(anew=effect.anew)
            case Now():
                return self._time.now()
            case Wait():
                seconds = self._draw(effect)
                await self._clock.sleep_async(seconds)
                return seconds
            case Tell():
                effect.listener(effect.what)
                return None
        raise TypeError(f"not an effect: {type(effect).__name__}")

    async def _ask(self, request: Request) -> Reply | NoReply:
        return self._learn(request, await self._wire.exchange(request, unaged))

    async def _meet(self, *, anew: bool) -> Account | CouldNotAsk:
        request, asked = self._gateway.account_request(), self._asked
        if anew:  # nobody else's question will do: it may have been answered before our clocks stood still
            return self._introduced(request, await self._wire.exchange(request, unaged))
        async with self._lock:
            return self._known(asked) or self._introduced(request, await self._wire.exchange(request, unaged))

    async def _transact(self, effect: DatabaseEffect[T]) -> T:
        if isinstance(effect, ReadBinding) and self._binding is not None:
            return cast("T", self._binding)
        records: list[telemetry.Record] = []
        try:
            result = await self._database.transact(self._work(effect, records), **self._transaction_of(effect))
        except (StoreUnavailable, ConfigurationError, NeedsPerson, SQLAlchemyError) as error:
            told = not_recorded(effect, error)
            if told is error:
                raise
            raise told from error
        return self._performed(effect, result, records)

    def copy_store(self, path: Path) -> Database:
        """As Client.copy_store."""
        return self._database.copy_to(path)

    async def _open(self) -> None:
        usable, loop = self._usable(), asyncio.get_running_loop()
        if os.getpid() not in self._loops:
            self._database.check_loop(loop)
        if self._loops.setdefault(os.getpid(), loop) is not loop:  # one step: another thread may come at this moment
            raise _another_loop("Nothing was written or sent.")
        if not usable:
            self._inherited.append(self._wire)
            self._database.after_fork()
            self._wire, self._lock = self._new_wire(), asyncio.Lock()
            self._reopened()
        if not self._created:
            await self._database.create()
            self._created = True

    async def close(self) -> None:
        """Close the connections; the client sends nothing afterwards."""
        self._closed = True
        if self._loops.get(os.getpid(), asyncio.get_running_loop()) is not asyncio.get_running_loop():
            raise _another_loop("Its connections were left open.")
        await self._wire.close()
        await self._database.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _another_loop(then: str) -> UsageError:
    """Say that a client is called in another loop than the one that its connections belong to."""
    return UsageError(
        "this AsyncClient belongs to another event loop, that of its first call: make one AsyncClient for each loop, "
        f"in each `asyncio.run`, thread or task of a job queue, and close it there; or use Client. {then}"
    )
