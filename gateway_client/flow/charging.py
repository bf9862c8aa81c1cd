"""The story of a charge from top to bottom: claim, begin, send, settle, look up, give up. No I/O happens here.

Each flow is a generator that yields effects (`effects.py`) and receives their results. A crash, a cancelled task and a
SIGKILL all stop it between two effects and leave the same kind of row; `resume_flow` is the same story told again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from gateway_client.charge import Charge
from gateway_client.errors import ConfigurationError, NeedsPerson, ProviderUnavailable
from gateway_client.flow.asking import Setup, bind_flow, meet, question
from gateway_client.flow.effects import (
    BeginSend,
    Begun,
    Claim,
    ClearFirst,
    Draft,
    Flow,
    GiveUp,
    Held,
    Next,
    Now,
    ReadPending,
    Send,
    Tell,
    Wait,
)
from gateway_client.flow.lookup import look_up, may_send_after, settle
from gateway_client.gateways.base import Binding, Gateway
from gateway_client.intent import PaymentIntent
from gateway_client.outcome import (
    Answer,
    Canceled,
    Cause,
    CouldNotAsk,
    Declined,
    InFlight,
    NotExecuted,
    RequiresAction,
    Succeeded,
    Unknown,
)
from gateway_client.state import State

PENDING_PAGE_ROWS_MAX = 100
TRIES_MAX = 100  # sends of one call, answered "being executed now" or not, however short the waits are
UNANSWERED_IN_A_ROW_MAX = 3  # charges that nobody answered before resume asks whether the provider is down
UNANSWERED_ROWS_MAX = 10  # and before it stops, whatever the provider says: a storm helps nobody


@dataclass(frozen=True, slots=True)
class _Finished:
    """How far a charge came in one go."""

    charge: Charge
    next: Next = Next.NOTHING
    unasked: str | None = None  # why the provider could not be asked, when it could not


def charge_flow(setup: Setup, intent: PaymentIntent, attempt: int | None) -> Flow[Charge]:
    """Charge an intent once: the snapshot of its attempt, whatever became of it."""
    binding = yield from bind_flow(setup)
    draft = partial(_draft, setup.gateway, binding, intent)
    profile = setup.gateway.profile
    claimed = yield from Claim(intent, attempt, draft, profile)
    if isinstance(claimed, ClearFirst):
        earlier = claimed.charge
        yield from _clear(setup, binding, earlier)
        claimed = yield from Claim(intent, attempt, draft, profile, cleared_attempt=earlier.attempt)
    if isinstance(claimed, ClearFirst):
        raise NeedsPerson(f"{intent.intent_id}: its attempts changed under our hands; look at it with `paycli show`")
    if claimed.final:
        return claimed
    done = yield from _finish(setup, binding, claimed)
    if done.next in (Next.LOOK_UP, Next.LOOK_UP_THEN_SEND):
        found, scan = yield from look_up(setup, [done.charge])
        done = replace(done, charge=found[0])
        if done.next is Next.LOOK_UP_THEN_SEND and may_send_after(scan, found[0]):
            done = yield from _finish(setup, binding, found[0], looked_up=True)
    if done.unasked is not None:
        return replace(done.charge, reason=done.unasked)
    return done.charge


def prepare_flow(setup: Setup, intent: PaymentIntent, attempt: int | None) -> Flow[Claim]:
    """The claim of an intent, to be performed in the caller's own transaction."""
    binding = yield from bind_flow(setup)
    return Claim(intent, attempt, partial(_draft, setup.gateway, binding, intent), setup.gateway.profile)


def cancel_flow(setup: Setup, intent_id: str, because: str) -> Flow[Charge]:
    """Give the newest attempt up. It never moves money."""
    binding = yield from bind_flow(setup)
    charge = yield from GiveUp(intent_id, because)
    if charge.final or charge.provider_intent_id is None:
        return charge
    answer = yield from _cancel_there(setup, binding, charge)
    return (yield from settle(setup, charge, answer))


def resume_flow(setup: Setup, rows_max: int | None, listener: Callable[[Charge], None]) -> Flow[tuple[Charge, ...]]:
    """Finish every pending charge that can be finished now, oldest first; one scan serves all that are looked up."""
    binding = yield from bind_flow(setup)
    told: list[Charge] = []
    waiting: list[_Finished] = []
    unasked: str | None = None
    unanswered, unanswered_in_all, down = 0, 0, False
    cursor: tuple[datetime, str, int] | None = None
    while rows_max is None or len(told) + len(waiting) < rows_max:
        left = PENDING_PAGE_ROWS_MAX if rows_max is None else rows_max - len(told) - len(waiting)
        page = yield from ReadPending(cursor, min(left, PENDING_PAGE_ROWS_MAX))
        for charge in page:
            done = yield from _unless_a_person_is_needed(_advance(setup, binding, charge), charge)
            if done.next is Next.NOTHING:
                told.append(done.charge)
                yield from Tell(done.charge, listener)
            else:
                waiting.append(done)
            unasked = done.unasked or unasked
            unanswered = 0 if done.unasked is None else unanswered + 1
            unanswered_in_all += done.unasked is not None
            if unanswered == UNANSWERED_IN_A_ROW_MAX:
                unanswered, down = 0, (yield from _is_down(setup))
            if down := down or unanswered_in_all == UNANSWERED_ROWS_MAX:
                break
        if not page or down:
            break
        cursor = (page[-1].created_at, page[-1].intent_id, page[-1].attempt)
    if waiting and not down:
        looked_up, incomplete = yield from _look_up_all(setup, binding, waiting)
        unasked = incomplete or unasked
        for charge in looked_up:
            told.append(charge)
            yield from Tell(charge, listener)
    if unasked is not None:
        raise ProviderUnavailable(f"not everything could be asked: {unasked}. Nothing is lost; run resume again.")
    return tuple(told)


def _unless_a_person_is_needed(flow: Flow[_Finished], charge: Charge) -> Flow[_Finished]:
    """One charge that somebody must look at does not stop the others."""
    try:
        return (yield from flow)
    except NeedsPerson as error:
        return _Finished(replace(charge, reason=str(error)))


def _is_down(setup: Setup) -> Flow[bool]:
    """Is it the provider that does not answer, or only a few charges? Asked by a question, never by a charge."""
    gateway = setup.gateway
    answer = yield from question(setup, gateway.account_request(), gateway.read_account)
    return isinstance(answer, CouldNotAsk)


def _draft(gateway: Gateway, binding: Binding, intent: PaymentIntent, attempt: int) -> Draft:
    key = binding.key("charge", intent.intent_id, attempt)
    return Draft(key, gateway.charge_body(intent, binding, attempt, key), gateway.api_version)


# One charge ---------------------------------------------------------------------------------------------------------


def _advance(setup: Setup, binding: Binding, charge: Charge) -> Flow[_Finished]:
    """What resume does with one pending row before the shared look-up (the table of DESIGN §6)."""
    if charge.state is State.PREPARED:
        now = yield from Now()
        if now - charge.created_at >= setup.gateway.profile.unsent_life:
            return _Finished(charge)  # stale: a person charges it again or cancels it
        if charge.created_at < setup.started_at:
            return _Finished(charge, Next.LOOK_UP_THEN_SEND)
    return (yield from _finish(setup, binding, charge))


def _finish(setup: Setup, binding: Binding, charge: Charge, *, looked_up: bool = False) -> Flow[_Finished]:
    """Send until something is proven, the gate holds it, or this call's limits are used up."""
    gateway, policy = setup.gateway, setup.policy
    tries, sends, waited_s = 0, 0, 0.0
    while True:
        unasked = yield from meet(setup, binding)
        if unasked is not None:
            return _Finished(charge, unasked=unasked)
        step = yield from BeginSend(
            charge.intent_id, charge.attempt, binding, gateway.profile, gateway.credential_id, looked_up
        )
        if isinstance(step, Held):
            if step.next is Next.RETRIEVE:
                return (yield from _retrieve(setup, step.charge))
            return _Finished(step.charge, step.next)
        answer = yield from _send(setup, step)
        charge = yield from settle(setup, step.charge, answer, step.send_no)
        outcome = answer.outcome
        if isinstance(outcome, NotExecuted) and outcome.cause is Cause.CREDENTIAL:
            raise ConfigurationError(f"{outcome.reason}: check STRIPE_API_KEY. {charge.intent_id} is {charge.state}.")
        tries += 1
        sends += not isinstance(outcome, InFlight)
        if charge.final or not isinstance(outcome, NotExecuted | InFlight | Unknown):
            return _Finished(charge)
        if answer.should_retry is False and isinstance(outcome, Unknown):
            return _Finished(charge, Next.LOOK_UP)  # "a retry changes nothing" is not "not charged"
        pause = policy.delay_s(tries, answer.retry_after_s)
        used_up = waited_s >= policy.in_flight_s_max if isinstance(outcome, InFlight) else sends >= policy.sends_max
        if used_up or pause is None or tries == TRIES_MAX:
            down = answer.status is None or answer.status in (502, 503, 504)
            return _Finished(charge, unasked=getattr(outcome, "reason", None) if down else None)
        waited_s += yield from Wait(*pause)


def _send(setup: Setup, begun: Begun) -> Flow[Answer]:
    request = setup.gateway.charge_request(begun.body, begun.charge.idempotency_key, begun.api_version)
    reply = yield from Send(request, begun)
    return setup.gateway.read_charge(reply, begun.charge)


def _retrieve(setup: Setup, charge: Charge) -> Flow[_Finished]:
    """A charge whose intent the provider has: never a send, a replay would only repeat the first answer."""
    gateway = setup.gateway
    answer = yield from question(
        setup,
        gateway.retrieve_request(charge.provider_intent_id or ""),
        lambda reply: gateway.read_intent(reply, charge),
    )
    if isinstance(answer, CouldNotAsk):
        reason = f"the provider would not tell of {charge.provider_intent_id}: {answer.reason}"
        return _Finished(replace(charge, reason=reason), unasked=answer.reason if answer.passing else None)
    return _Finished((yield from settle(setup, charge, answer)))


def _clear(setup: Setup, binding: Binding, charge: Charge) -> Flow[None]:
    """Make sure that a refused attempt can never charge beside the next one: cancel its intent, if it has one."""
    attempt = f"{charge.intent_id} attempt {charge.attempt}"
    answer: Answer | None = None
    if charge.provider_intent_id is not None:
        answer = yield from _cancel_there(setup, binding, charge)
    elif charge.state is State.ABSENT:
        answer = yield from _look_again(setup, binding, charge)
    if answer is not None:
        yield from settle(setup, charge, answer)
    if answer is None or isinstance(answer.outcome, Canceled):
        return
    if isinstance(answer.outcome, Succeeded):
        raise NeedsPerson(
            f"{attempt} is {charge.state} here, but the provider says it succeeded "
            f"({answer.outcome.provider_charge_id}): the customer has paid. No new attempt was made; a finding is open."
        )
    raise ProviderUnavailable(
        f"{attempt} could not be cancelled at the provider (it says {answer.name}); no new attempt was made."
    )


def _look_again(setup: Setup, binding: Binding, charge: Charge) -> Flow[Answer | None]:
    """What the provider has of an absent attempt by now, cancelled if it can be; None when it is still absent."""
    unasked = yield from meet(setup, binding)
    if unasked is None:
        _, scan = yield from look_up(setup, [charge])
        answer = scan.found.get(charge.idempotency_key)
        if answer is None and scan.why_incomplete is None:
            return None
        if answer is not None and isinstance(answer.outcome, Succeeded):
            return answer
        intent = getattr(answer and answer.outcome, "provider_intent_id", None)
        if intent is not None:
            return (yield from _cancel_there(setup, binding, replace(charge, provider_intent_id=intent)))
        unasked = scan.why_incomplete or "its intent has no name"
    raise ProviderUnavailable(
        f"{charge.intent_id} attempt {charge.attempt} is absent; whether it still is could not be read: {unasked}. "
        "No new attempt was made."
    )


def _cancel_there(setup: Setup, binding: Binding, charge: Charge) -> Flow[Answer]:
    """Cancel the provider's intent of a charge; what the provider says of it afterwards."""
    gateway = setup.gateway
    unasked = yield from meet(setup, binding)
    if unasked is None:
        intent, key = charge.provider_intent_id or "", binding.key("cancel", charge.intent_id, charge.attempt)
        cancel, ask = gateway.cancel_request(intent, key), gateway.retrieve_request(intent)
        # A saved 500 of the cancellation is replayed for as long as its key lives. Cancelling twice is cancelling once,
        # so if the intent turns out to be open still, it is cancelled without a key.
        for request in (cancel, ask, replace(cancel, idempotency_key=None)):
            answer = yield from question(setup, request, lambda reply: gateway.read_intent(reply, charge))
            if isinstance(answer, CouldNotAsk):
                unasked = answer.reason
            elif request is not ask or not isinstance(answer.outcome, Declined | Unknown | RequiresAction):
                return answer
    raise ProviderUnavailable(
        f"{charge.intent_id}: the provider could not be asked to cancel {charge.provider_intent_id}: {unasked}. "
        "Nothing changed; run the same command again."
    )


def _look_up_all(setup: Setup, binding: Binding, waiting: list[_Finished]) -> Flow[tuple[list[Charge], str | None]]:
    """One scan for all that wait; those that only had to be looked up first are sent, and looked up again if held."""
    results: list[Charge] = []
    unasked = yield from meet(setup, binding)
    if unasked is not None:
        return [done.charge for done in waiting], unasked
    while waiting:
        again: list[_Finished] = []
        found, scan = yield from look_up(setup, [done.charge for done in waiting])
        unasked = scan.why_incomplete or unasked
        for done, charge in zip(waiting, found, strict=True):
            if done.next is Next.LOOK_UP_THEN_SEND and may_send_after(scan, charge):
                sending = _finish(setup, binding, charge, looked_up=True)
                sent = yield from _unless_a_person_is_needed(sending, charge)
                unasked = sent.unasked or unasked
                if sent.next is Next.LOOK_UP:
                    again.append(sent)
                    continue
                results.append(sent.charge)
            else:
                results.append(charge)
        waiting = again
    return results, unasked
