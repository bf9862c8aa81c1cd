"""Actors: a real flow, and how far it has come.

A place is where a flow stands, with the effect that it asks for there; `marks.py` says which places are the same. Flows
cannot be copied, so a new place is come to by telling a fresh flow once more all that one was told who came there.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, NamedTuple

from gateway_client import Money, PaymentIntent
from gateway_client.errors import ChargeOnceError
from gateway_client.flow.asking import Setup
from gateway_client.flow.charging import charge_flow
from gateway_client.flow.effects import Ask, Effect, MeetProvider, Now, ReadBinding, Send, Tell, Wait
from gateway_client.flow.resuming import resume_flow
from gateway_client.gateways.base import Account, Binding, NoReply, Reply, Request
from gateway_client.retry import RetryPolicy
from reconcile.effects import (
    Adopt,
    CloseOver,
    CloseStale,
    EndRun,
    FlagStale,
    ForgetRuns,
    KeepItem,
    OpenRun,
    Renew,
    RunLease,
)
from reconcile.flow import reconcile_flow
from reconcile.throttle import Pace
from tests.exhaust.marks import mark, value_of
from tests.sim.hosts import HostClock, Process
from tests.sim.provider import ACCOUNT
from tests.sim.safety import Broken

START_S = datetime(2026, 11, 20, 12, 0, tzinfo=UTC).timestamp()
START = datetime.fromtimestamp(START_S, UTC)
BINDING = Binding("stripe", "test", ACCOUNT, "default", "the store")
POLICY = RetryPolicy(sends_max=3, in_flight_s_max=0.1)
"""A call makes three sends, and one more when its first answer is a 409: then it leaves the rest to the next call."""

PACE = Pace(rate=10_000, windows=1)
"""Nothing is waited for, and one page is read after the other."""

TOLD_MAX = 200  # L4: no call goes on for ever
GONE = 0
"""The place of whoever has ended or died."""

PRIVATE = (MeetProvider, OpenRun, ForgetRuns, Adopt, Renew, KeepItem, EndRun)
"""Effects that touch nothing which another actor reads or writes: it is nobody else's business when they are done.

(`Adopt` could, but every object here carries its names.)
"""
OF_OLD_ROWS = (CloseOver, FlagStale, CloseStale)
"""Effects that find nothing to do while every row is young."""


@dataclass(frozen=True)
class Program:
    """What an actor runs. `run`: it is the nightly one; `met`: its process knows the account and the time already."""

    name: str
    flow: Callable[[Setup], Generator[Effect[Any], Any, Any]]
    run: bool = False
    met: bool = False


def charge(payment_method: str, attempt: int | None = None, *, met: bool = False) -> Program:
    """`charge` of the one intent."""
    intent = PaymentIntent("order_1", Money(2000, "usd"), payment_method)
    return Program("charge", lambda setup: charge_flow(setup, intent, attempt), met=met)


RESUME = Program("resume", lambda setup: resume_flow(setup, None, lambda charge: None))


def reconcile(leased_by: str = "night") -> Program:
    """`reconcile` of the day on which all of it happens."""
    lease = RunLease(leased_by, 0.0)  # over at once: whoever heals takes the run over
    return Program("reconcile", lambda setup: reconcile_flow(setup, START.date(), "UTC", lease, pace=PACE), run=True)


def process_at(time: Callable[[], float], database: Any = None) -> Process:
    """A process that has just begun."""
    return Process("one", "ours", HostClock(time), database, lambda: False)


@dataclass(frozen=True)
class Told:
    """What came of one effect: a result, or an error that was raised."""

    value: Any
    raised: bool = False

    @cached_property
    def mark(self) -> str:
        """Equal for what is the same to a flow."""
        return repr((self.raised, value_of(self.value)))


class Move(NamedTuple):
    """One move: how many faults it costs, where it leads, and how many ways of going wrong come to the same."""

    faults: int
    where: int  # the database's contents or the provider's state afterwards
    place: int  # the actor's
    ways: int
    said: str
    broken: Broken | None = None  # what does not hold of it


@dataclass(eq=False)
class Place:
    """How far an actor has come. At its end there is no effect, and `result` is what the call returned or raised."""

    program: Program
    history: tuple[Told, ...]  # one that leads there
    effect: Effect[Any] | None = None
    result: Any = None
    number: int = GONE
    asks: str = ""  # the effect, as a mark
    private: bool = False  # the next step is nobody else's business
    account: Account | None = None
    dated: bool = False  # an answer of the provider has told its time
    waits: bool = False  # for the provider, which is executing its send
    asked_from: Place | None = None  # where it was when it sent that
    ways: dict[str, Place] = field(default_factory=dict)  # by what it is told
    moves: dict[int, list[Move]] = field(default_factory=dict)  # by the state of what its next step touches

    @property
    def over(self) -> bool:
        return self.effect is None

    @cached_property
    def by_wire(self) -> bool:
        """The next step is the provider's; else it is the database's."""
        return isinstance(self.effect, Send | Ask | MeetProvider)

    @cached_property
    def sends(self) -> bool:
        """The next step is that a send leaves."""
        return isinstance(self.effect, Send) and not self.waits


class Cast:
    """Every place that an actor has come to, by number. `young`: no row is old enough to be closed or stale."""

    def __init__(self, *, young: bool) -> None:
        self._private = (*PRIVATE, *OF_OLD_ROWS) if young else PRIVATE
        self._known: dict[str, Place] = {}
        self.places = [Place(RESUME, ())]
        process = process_at(lambda: START_S)
        self.gateway = process.gateway
        self._setup = replace(process.setup, policy=POLICY)
        self.introduced = Account(ACCOUNT)

    def start(self, program: Program) -> Place:
        """Before the first effect."""
        return self._come_to(program, ())

    def on(self, place: Place, told: Told) -> Place:
        """The next place, when this comes of the effect."""
        found = place.ways.get(told.mark)
        if found is None:
            found = place.ways[told.mark] = self._come_to(place.program, (*place.history, told))
        return found

    def waiting(self, place: Place) -> Place:
        """The place while the provider executes the send."""
        found = place.ways.get("waits")
        if found is None:
            found = replace(place, waits=True, asked_from=place, ways={}, moves={})
            found = place.ways["waits"] = self._numbered(found, f"{place.number} waits")
        return found

    def met(self, reply: Reply | NoReply) -> Told:
        """What a process makes of the answer about its account."""
        process = process_at(lambda: START_S)
        process.fetched.reply = reply
        try:
            return Told(process.perform(MeetProvider()))
        except ChargeOnceError as error:
            return Told(_bare(error), raised=True)

    def request_of(self, place: Place) -> Request:
        """The request that the next step makes."""
        match place.effect:
            case Send() | Ask():
                return place.effect.request
            case MeetProvider():
                return self.gateway.account_request()
        raise TypeError(f"{type(place.effect).__name__} makes no request")

    def _numbered(self, place: Place, mark: str) -> Place:
        """The place with this mark: the one that is known, or this one, which is new."""
        found = self._known.setdefault(mark, place)
        if found is place:
            place.number = len(self.places)
            self.places.append(place)
        return found

    def _come_to(self, program: Program, history: tuple[Told, ...]) -> Place:
        if len(history) > TOLD_MAX:
            raise Broken("L4", f"{program.name} does not end")
        flow = program.flow(self._setup)
        place = Place(program, history)
        if program.met:
            place.account, place.dated = self.introduced, True
        try:
            effect = _to_the_next(flow, next(flow), place)
            for told in history:
                if isinstance(effect, MeetProvider):
                    place.account = told.value if isinstance(told.value, Account) else None
                place.dated |= isinstance(told.value, Account | Reply)
                effect = flow.throw(_bare(told.value)) if told.raised else flow.send(told.value)
                effect = _to_the_next(flow, effect, place)
            place.effect = effect
            stands = mark(flow)
            place.asks = f"{place.dated} {type(effect).__name__} {value_of(effect)}"
            # There is one page of anything: what is asked for after it holds nothing.
            place.private = isinstance(effect, self._private) or getattr(effect, "after", None) is not None
        except StopIteration as end:
            place.result = end.value
            stands = f"over: {value_of(end.value)}"
        except ChargeOnceError as error:
            place.result = _bare(error)
            stands = f"over: {value_of(error)}"
        flow.close()
        return self._numbered(place, f"{program.name} {place.account is not None} {place.dated} {stands}")


def drive(flow: Generator[Any, Any, Any], perform: Callable[[Effect[Any]], Any]) -> Any:
    """Drive a flow to its end as a client does, with another hand on its effects."""
    step, result = flow.send, None
    while True:
        try:
            effect = step(result)
        except StopIteration as end:
            return end.value
        try:
            step, result = flow.send, perform(effect)
        except ChargeOnceError as error:
            step, result = flow.throw, error


def _to_the_next(flow: Generator[Any, Any, Any], effect: Effect[Any], place: Place) -> Effect[Any]:
    """Answer what is between an actor and itself: the time, which stands still; whom it tells; what it knows."""
    while True:
        match effect:
            case Now():
                result: Any = START
            case Wait():
                result = (effect.seconds_min + effect.seconds_max) / 2
            case Tell():
                result = None
            case ReadBinding():
                result = BINDING
            case MeetProvider() if place.account is not None and not effect.anew:
                result = place.account
            case _:
                return effect
        effect = flow.send(result)


def _bare(error: ChargeOnceError) -> ChargeOnceError:
    """Without its traceback, which would keep every frame alive."""
    return error.with_traceback(None)
