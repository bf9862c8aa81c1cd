"""Working: what resume does with one pending charge, for ever, by any number of workers that share the rows. No I/O.

A worker takes a few rows, makes at most one send of each, and gives them back: what is not final is set aside for a
time that grows. Its pace is `pace.py`'s; what is sent is decided by the gate, whoever holds a lease.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from gateway_client.charge import Charge, Place, iso
from gateway_client.errors import (
    AccountRefused,
    ChargeOnceError,
    ClockRefused,
    NeedsPerson,
    NotNow,
    ProviderUnavailable,
    UnknownIntent,
)
from gateway_client.flow.asking import Setup, bind_flow, question
from gateway_client.flow.breaker import Breaker
from gateway_client.flow.charging import Finished
from gateway_client.flow.effects import (
    Ask,
    BeginSend,
    Begun,
    Effect,
    Flow,
    MeetProvider,
    Next,
    Now,
    ReadPending,
    Send,
    Settle,
    Tell,
    Wait,
)
from gateway_client.flow.leasing import CountWaiting, Lease, Release, Waiting
from gateway_client.flow.lookup import by_evidence, may_send_after, read_provider
from gateway_client.flow.resuming import PENDING_PAGE_ROWS_MAX, advance, look_up_all
from gateway_client.gateways.base import Binding
from gateway_client.outcome import CouldNotAsk
from gateway_client.pace import PROBE_S, Pace
from gateway_client.state import SENDABLE, State

ROWS_MAX = 50  # of one lease, or a second's sends if that is less: others want their share
BEGUN_S = 10.0  # what the wire grants a send between its commit and its first byte (wire.py)
POLL_S = 5.0  # how often an idle worker looks for work, about
SLICE_S = 0.25  # how late a wait hears that it is over
RETRY_S, RETRY_S_MAX, ASIDE_S_MAX, POISON_S = 2.0, 120.0, 900.0, 3600.0

News = Callable[[Charge | str], None]
"""Hears of each charge that was worked on, as it is afterwards, and of what the worker waits for, in a sentence."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How one worker works; chance and the wish to end come in from outside."""

    worker: str  # a name that nobody else has
    sends_per_s: float
    timeout_s: float  # of one exchange
    until_idle: bool
    chance: Callable[[], float]
    stopping: Callable[[], bool]
    news: News

    @property
    def call_s_max(self) -> float:
        """The longest call: the account, then the send."""
        return 2 * self.timeout_s + BEGUN_S

    def between(self, least: float, most: float) -> float:
        return least + (most - least) * self.chance()


class _Stopped(Exception):
    """Somebody wants the worker to end: nothing more is begun."""


def work_flow(setup: Setup, plan: Plan) -> Flow[None]:
    """Finish pending charges until somebody stops it, or (until_idle) until none is due; then NotNow ends it, too."""
    # One send a go: a worker that waits to send again keeps other rows waiting. The row's own wait is on disk.
    setup = replace(setup, policy=replace(setup.policy, sends_max=1, in_flight_s_max=0.0))
    pace = Pace(plan.sends_per_s)
    try:
        yield from _watched(setup, plan, pace, _work(setup, plan, pace))
    except _Stopped:
        return


def _work(setup: Setup, plan: Plan, pace: Pace) -> Flow[None]:
    looked_up: frozenset[str] | None = None
    breaker = Breaker()
    idle = ""
    while True:
        try:
            binding = yield from bind_flow(setup)
            if looked_up is None:
                looked_up = yield from _first_look(setup, binding)
            if (yield from _batch(setup, plan, pace, breaker, binding, looked_up)):
                continue
            idle = yield from _tell_idle(plan, idle)
        except ProviderUnavailable as error:
            yield from _until_it_answers(setup, plan, pace, error)
            continue
        except NotNow as error:
            if plan.until_idle or isinstance(error, AccountRefused):
                raise
            yield from Tell(str(error), plan.news)
        if plan.until_idle:
            return
        yield from Wait(POLL_S / 2, POLL_S * 1.5)


def _tell_idle(plan: Plan, told: str) -> Flow[str]:
    """Tell why none of the pending charges is due, once for as long as it is so; what was told."""
    waiting = yield from CountWaiting(plan.timeout_s + BEGUN_S)
    text = nothing_due(waiting)
    if text not in ("", told):
        yield from Tell(text, plan.news)
    return text


def nothing_due(waiting: Waiting) -> str:
    """Why a worker has nothing to do, in words; "" when nothing is pending."""
    counted = [f"{waiting.due} due"]
    if waiting.leased_until is not None:
        counted.append(f"{waiting.leased} leased until {_span(waiting.leased_until)}")
    if waiting.backed_off_until is not None:
        counted.append(f"{waiting.backed_off} backed off until {_span(waiting.backed_off_until)}")
    if waiting.answers:
        counted.append(f"{waiting.answers} with a send that may still be answered")
    return ", ".join(counted) if len(counted) > 1 or waiting.due else ""


def _span(until: tuple[datetime, datetime]) -> str:
    first, last = (iso(moment) for moment in until)
    return f"{first}" if first == last else f"{first} to {last}"


def _first_look(setup: Setup, binding: Binding) -> Flow[frozenset[str]]:
    """Look up what older processes have prepared, once for all (DESIGN §6): keys that the provider has nothing of."""
    prepared: list[Charge] = []
    cursor: Place | None = None
    oldest = (yield from Now()) - setup.gateway.profile.unsent_life
    while page := (yield from ReadPending(cursor, PENDING_PAGE_ROWS_MAX)):
        prepared += [charge for charge in page if charge.state is State.PREPARED and charge.created_at > oldest]
        if page[-1].created_at >= setup.started_at:
            break
        cursor = page[-1].place
    prepared = [charge for charge in prepared if charge.created_at < setup.started_at]
    if not prepared:
        return frozenset()
    seen: set[str] = set()
    for group in by_evidence(setup, prepared):
        scan = yield from read_provider(setup, binding, group)
        seen |= {charge.idempotency_key for charge in group if may_send_after(setup, scan, charge)}
    return frozenset(seen)


def _batch(
    setup: Setup, plan: Plan, pace: Pace, breaker: Breaker, binding: Binding, looked_up: frozenset[str]
) -> Flow[bool]:
    """Take a few rows, work on them, give them back; False when none is due."""
    # No row is begun in the second half of a lease, so that a call that was begun ends within it.
    rows_max = max(1, min(ROWS_MAX, int(plan.sends_per_s)))
    leased = yield from Lease(plan.worker, rows_max, 2 * plan.call_s_max, plan.timeout_s + BEGUN_S)
    if not leased:
        return False
    begun_by = (yield from Now()) + timedelta(seconds=plan.call_s_max)
    aside_s: dict[str, float] = {}
    failure: Exception | None = None
    try:
        yield from _go_through(setup, plan, pace, _Rows(binding, breaker, leased, looked_up, begun_by, aside_s))
    except (ChargeOnceError, _Stopped) as error:
        failure = error
    rows = tuple((each.idempotency_key, aside_s.get(each.idempotency_key)) for each in leased)
    yield from Release(plan.worker, rows)
    if failure is not None:
        raise failure
    return True


@dataclass(frozen=True, slots=True)
class _Rows:
    """Leased rows, and what becomes of them: how long each that was worked on is left alone."""

    binding: Binding
    breaker: Breaker
    leased: tuple[Charge, ...]
    looked_up: frozenset[str]
    begun_by: datetime
    aside_s: dict[str, float]

    def set_aside(self, charge: Charge, seconds: float) -> None:
        self.aside_s[charge.idempotency_key] = seconds
        if not charge.pending:
            self.spare(charge)

    def spare(self, charge: Charge) -> None:
        """It was not the row's fault: whoever comes next may take it at once."""
        self.aside_s.pop(charge.idempotency_key, None)


def _go_through(setup: Setup, plan: Plan, pace: Pace, rows: _Rows) -> Flow[None]:
    """Each row once, then one look-up for those that need it."""
    waiting: list[Finished] = []
    for charge in rows.leased:
        now = yield from Now()
        if now >= rows.begun_by:
            break
        _require_a_token(pace)
        rows.set_aside(charge, _aside_s(plan, charge, now))
        try:
            done = yield from advance(setup, rows.binding, charge, rows.looked_up)
        except (NeedsPerson, UnknownIntent) as error:  # a poison row: the others go on
            rows.set_aside(charge, plan.between(POISON_S, POISON_S * 1.5))
            yield from Tell(replace(charge, reason=str(error)), plan.news)
            continue
        except (ClockRefused, ProviderUnavailable, _Stopped):
            rows.spare(charge)
            raise
        if done.next is Next.NOTHING:
            rows.set_aside(done.charge, _aside_s(plan, done.charge, now))
            yield from Tell(done.charge, plan.news)
        else:
            waiting.append(done)
        rows.breaker.check(done)
    if waiting:
        yield from _look_up(setup, plan, rows, waiting)


def _look_up(setup: Setup, plan: Plan, rows: _Rows, waiting: list[Finished]) -> Flow[None]:
    now = yield from Now()
    sends = {done.charge.idempotency_key: done.charge.sends for done in waiting}
    for done in waiting:
        rows.set_aside(done.charge, _aside_s(plan, done.charge, now, asked=True))
    try:
        charges, unasked, refused = yield from look_up_all(setup, rows.binding, waiting, rows.breaker)
    except (ClockRefused, ProviderUnavailable, _Stopped):
        for done in waiting:
            rows.spare(done.charge)
        raise
    for charge in charges:
        sent = charge.sends > sends[charge.idempotency_key]
        rows.set_aside(charge, _aside_s(plan, charge, now, asked=not sent))
        yield from Tell(charge, plan.news)
    if refused is not None:
        raise refused
    if unasked is not None:
        raise ProviderUnavailable(f"the provider could not be asked: {unasked}")


def _aside_s(plan: Plan, charge: Charge, now: datetime, *, asked: bool = False) -> float:
    """How long a row that is not final is left alone: twice as long after each send, or a quarter of its age."""
    if charge.state in SENDABLE and not asked:  # what keeps all of them from a storm is the pace
        seconds = min(RETRY_S * 2.0 ** min(max(charge.sends - 1, 0), 30), RETRY_S_MAX)
    else:  # a question each time, which is not counted: the older it is, the less is it in a hurry
        seconds = min(max(2 * RETRY_S, (now - charge.created_at).total_seconds() / 4), ASIDE_S_MAX)
    return plan.between(seconds / 2, seconds)


def _until_it_answers(setup: Setup, plan: Plan, pace: Pace, why: ProviderUnavailable) -> Flow[None]:
    """One question a minute, and nothing else, until the provider answers."""
    gateway, asked = setup.gateway, 0
    while True:
        asked += 1
        told = yield from question(setup, gateway.account_request(), gateway.read_account, asks_max=1)
        if not isinstance(told, CouldNotAsk):
            break
        if plan.until_idle:
            raise ProviderUnavailable(f"{why}; it was asked, and {told.reason}. Nothing is lost; run it again.")
        if asked == 1:
            yield from Tell(f"{why}; the provider is asked once a minute until it answers", plan.news)
        yield from Wait(PROBE_S, PROBE_S)
    pace.answered()
    if asked > 1:
        yield from Tell("the provider answers again", plan.news)


# What every effect of a worker passes -------------------------------------------------------------------------------


def _watched(setup: Setup, plan: Plan, pace: Pace, flow: Flow[None]) -> Flow[None]:
    """The flow, at its pace, with its lease in every send; once somebody wants it to end, nothing more is begun."""
    step: Callable[[Any], Effect[Any]] = flow.send
    result: Any = None
    while True:
        try:
            effect = step(result)
        except StopIteration:
            return
        try:
            result = yield from _performed(setup, plan, pace, effect)
            step = flow.send
        except (ChargeOnceError, _Stopped) as error:
            step, result = flow.throw, error


def _performed(setup: Setup, plan: Plan, pace: Pace, effect: Effect[Any]) -> Flow[Any]:
    if isinstance(effect, Wait):
        return (yield from _pause(plan, plan.between(effect.seconds_min, effect.seconds_max)))
    if isinstance(effect, BeginSend | Ask | MeetProvider | Lease) and plan.stopping():
        raise _Stopped
    if isinstance(effect, BeginSend):
        _require_a_token(pace)
        yield from _pause(plan, pace.wait_s((yield from Now())))
        effect = replace(effect, lease_of=plan.worker)
    result: Any = yield from effect
    if isinstance(result, Begun):
        pace.sent((yield from Now()))
    elif isinstance(effect, Send):
        pace.saw(setup.gateway.classify(result), of_send=True)
    elif isinstance(effect, Ask):
        pace.saw(setup.gateway.classify(result), of_send=False)
    elif isinstance(effect, Settle) and effect.answer.retry_after_s:
        pace.held((yield from Now()), effect.answer.retry_after_s)
    elif isinstance(effect, MeetProvider) and isinstance(result, CouldNotAsk) and not result.credential:
        pace.drained()
        raise ProviderUnavailable(f"the provider could not be asked whose key this is: {result.reason}")
    return result


def _require_a_token(pace: Pace) -> None:
    if pace.empty:
        raise ProviderUnavailable("too many sends were not answered as they should be")


def _pause(plan: Plan, seconds: float) -> Flow[float]:
    """Wait in slices, so that a wish to end is heard soon."""
    left = seconds
    while left > 0:
        if plan.stopping():
            raise _Stopped
        left -= yield from Wait(min(left, SLICE_S), min(left, SLICE_S))
    return seconds
