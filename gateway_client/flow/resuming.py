"""Resume: the story of `charging.py` told again for every pending charge, with one shared look-up. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gateway_client.bounds import hours
from gateway_client.charge import Charge, Place
from gateway_client.errors import AccountRefused, NeedsPerson, ProviderUnavailable
from gateway_client.flow.asking import Setup, bind_flow, meet, question
from gateway_client.flow.breaker import Breaker
from gateway_client.flow.charging import Finished, finish
from gateway_client.flow.effects import EndLate, Flow, Next, Now, ReadPending, Tell, named
from gateway_client.flow.lookup import by_evidence, look_up, may_send_after
from gateway_client.gateways.base import Binding
from gateway_client.outcome import CouldNotAsk
from gateway_client.state import State

PENDING_PAGE_ROWS_MAX = 100
UNANSWERED_IN_A_ROW_MAX = 3  # charges that nobody answered before resume asks whether the provider is down
UNANSWERED_ROWS_MAX = 10  # and before it stops sending, whatever the provider says: a storm helps nobody


def resume_flow(setup: Setup, rows_max: int | None, listener: Callable[[Charge], None]) -> Flow[tuple[Charge, ...]]:
    """Finish every pending charge that can be finished now, oldest first; one scan serves all that are looked up."""
    binding = yield from bind_flow(setup)
    told: list[Charge] = []
    waiting: list[Finished] = []
    unasked: str | None = None
    unanswered, unanswered_in_all, silent, stop = 0, 0, False, False
    breaker = Breaker()
    cursor: Place | None = None
    while rows_max is None or len(told) + len(waiting) < rows_max:
        left = PENDING_PAGE_ROWS_MAX if rows_max is None else rows_max - len(told) - len(waiting)
        page = yield from ReadPending(cursor, min(left, PENDING_PAGE_ROWS_MAX))
        for charge in page:
            if stop:  # no more sends in this run; one look-up serves any number of charges
                done = Finished(charge, Next.NOTHING if charge.last_sent_at is None else Next.LOOK_UP)
            else:
                done = yield from unless_a_person_is_needed(advance(setup, binding, charge), charge)
            if done.next is Next.NOTHING:
                told.append(done.charge)
                yield from Tell(done.charge, listener)
            else:
                waiting.append(done)
            breaker.check(done)
            unasked = done.unasked or unasked
            unanswered = 0 if done.unasked is None else unanswered + 1
            unanswered_in_all += done.unasked is not None
            if unanswered == UNANSWERED_IN_A_ROW_MAX:
                unanswered, silent = 0, (yield from _is_down(setup))
            stop = unanswered_in_all >= UNANSWERED_ROWS_MAX
            if silent:
                break
        if not page or silent:
            break
        cursor = page[-1].place
    if waiting and not silent:
        looked_up, incomplete, refused = yield from look_up_all(setup, binding, waiting, breaker)
        unasked = incomplete or unasked
        for charge in looked_up:
            told.append(charge)
            yield from Tell(charge, listener)
        if refused is not None:
            raise refused
    if unasked is not None:
        raise ProviderUnavailable(f"not everything could be asked: {unasked}. Nothing is lost; run resume again.")
    return tuple(told)


def advance(setup: Setup, binding: Binding, charge: Charge, looked_up: frozenset[str] = frozenset()) -> Flow[Finished]:
    """What resume does with one pending row before the shared look-up (the table of DESIGN §6).

    `looked_up` are keys that this process has looked up since it began: the provider had nothing of them.
    """
    if charge.not_after is not None:
        unasked = yield from meet(setup, binding)
        if unasked is not None:
            return Finished(charge, unasked=unasked)
        charge = yield from EndLate(**named(charge))
        if not charge.pending:
            return Finished(charge)
    if charge.state is State.PREPARED:
        now = yield from Now()
        life = setup.gateway.profile.unsent_life
        if now - charge.created_at >= life:
            reason = f"never sent, and prepared {hours(life)} ago or earlier: charge it again, or cancel it"
            return Finished(replace(charge, reason=reason))
        if charge.created_at < setup.started_at and charge.idempotency_key not in looked_up:
            return Finished(charge, Next.LOOK_UP_THEN_SEND)
    return (yield from finish(setup, binding, charge))


def look_up_all(
    setup: Setup, binding: Binding, waiting: list[Finished], breaker: Breaker
) -> Flow[tuple[list[Charge], str | None, AccountRefused | None]]:
    """One scan for all that wait; those that only had to be looked up first are sent, and looked up again if held.

    The charges as they are afterwards, why something could not be asked, and why no more of them were sent.
    """
    results: list[Charge] = []
    unasked: str | None = None
    refused: AccountRefused | None = None
    groups = [
        [done for done in waiting if done.charge in group]
        for group in by_evidence(setup, (done.charge for done in waiting))
    ]
    while groups:
        waiting, again = groups.pop(0), []
        found, scan = yield from look_up(setup, binding, [done.charge for done in waiting])
        unasked = scan.why_incomplete or unasked
        for done, charge in zip(waiting, found, strict=True):
            if done.next is Next.LOOK_UP_THEN_SEND and refused is None and may_send_after(setup, scan, charge):
                sending = finish(setup, binding, charge, read_at=scan.begun_at, sends=done.sends)
                sent = yield from unless_a_person_is_needed(sending, charge)
                try:
                    breaker.check(sent)
                except AccountRefused as error:
                    refused = error
                unasked = sent.unasked or unasked
                if sent.next is Next.LOOK_UP:
                    again.append(sent)
                    continue
                results.append(sent.charge)
            else:
                results.append(charge)
        if again:
            groups.append(again)
    return results, unasked, refused


def unless_a_person_is_needed(flow: Flow[Finished], charge: Charge) -> Flow[Finished]:
    """One charge that somebody must look at does not stop the others."""
    try:
        return (yield from flow)
    except NeedsPerson as error:
        return Finished(replace(charge, reason=str(error)))


def _is_down(setup: Setup) -> Flow[bool]:
    """Is it the provider that does not answer, or only a few charges? Asked by a question, never by a charge."""
    gateway = setup.gateway
    answer = yield from question(setup, gateway.account_request(), gateway.read_account)
    return isinstance(answer, CouldNotAsk)
