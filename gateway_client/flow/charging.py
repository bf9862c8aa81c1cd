"""The story of one charge from top to bottom: claim, begin, send, settle, and look up what stays unknown. No I/O.

A crash, a cancelled task and a SIGKILL all stop a flow between two effects and leave the same kind of row;
`resuming.py` tells the same story again for every such row, `clearing.py` takes an attempt back at the provider.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from gateway_client.charge import Charge
from gateway_client.errors import ConfigurationError, NeedsPerson
from gateway_client.flow.asking import Setup, bind_flow, meet
from gateway_client.flow.clearing import ask_for_intent, clear
from gateway_client.flow.effects import BeginSend, Begun, Claim, ClearFirst, Draft, Flow, Held, Next, Send, Wait, named
from gateway_client.flow.lookup import look_up, may_send_after, settle
from gateway_client.frozen import Frozen
from gateway_client.gateways.base import Binding, offered
from gateway_client.intent import PaymentIntent
from gateway_client.outcome import Answer, Cause, CouldNotAsk, InFlight, NotExecuted, Refused, ReplyClass, Unknown
from gateway_client.state import CHARGE

TRIES_MAX = 100  # sends of one call, answered "being executed now" or not, however short the waits are


@dataclass(frozen=True, slots=True)
class Finished:
    """How far a charge came in one go."""

    charge: Charge
    next: Next = Next.NOTHING
    unasked: str | None = None  # why the provider could not be asked, when it could not
    refused: str | None = None  # why the provider refuses the whole account, when it does: others would fare the same
    sends: int = 0  # of those that the policy allows one call, how many were made


def charge_flow(setup: Setup, intent: PaymentIntent, attempt: int | None) -> Flow[Charge]:
    """Charge an intent once: the snapshot of its attempt, whatever became of it."""
    setup.gateway.check_parameters(intent)
    binding = yield from bind_flow(setup)
    draft = partial(_draft, setup, binding, intent)
    claim = Claim(intent, attempt, draft, setup.gateway.profile, binding, begin_with=setup.gateway.credential_id)
    claimed = yield from claim
    if isinstance(claimed, ClearFirst):
        earlier = claimed.charge
        for charge in (*claimed.before, earlier):
            yield from clear(setup, binding, charge)
        claimed = yield from replace(claim, cleared_attempt=earlier.attempt)
    if isinstance(claimed, ClearFirst):
        raise NeedsPerson(f"{intent.intent_id}: its attempts changed under our hands; look at it with `paycli show`")
    begun = claimed if isinstance(claimed, Begun) else None
    charge = claimed.charge if isinstance(claimed, Begun) else claimed
    return (yield from to_its_end(setup, binding, charge, begun))


def to_its_end(setup: Setup, binding: Binding, charge: Charge, begun: Begun | None) -> Flow[Charge]:
    """Send an attempt and look it up, as far as one call comes. `begun`: as in `finish`."""
    if not charge.pending:
        return charge
    done = yield from finish(setup, binding, charge, begun=begun)
    if done.next in (Next.LOOK_UP, Next.LOOK_UP_THEN_SEND):
        found, scan = yield from look_up(setup, binding, [done.charge])
        done = replace(done, charge=found[0])
        if done.next is Next.LOOK_UP_THEN_SEND and may_send_after(setup, scan, found[0]):
            done = yield from finish(setup, binding, found[0], read_at=scan.begun_at, sends=done.sends)
    if done.unasked is not None:
        return replace(done.charge, reason=done.unasked)
    return done.charge


def prepare_flow(setup: Setup, intent: PaymentIntent, attempt: int | None) -> Flow[Claim]:
    """The claim of an intent, to be performed in the caller's own transaction."""
    setup.gateway.check_parameters(intent)
    binding = yield from bind_flow(setup)
    return Claim(intent, attempt, partial(_draft, setup, binding, intent), setup.gateway.profile, binding)


def _draft(setup: Setup, binding: Binding, intent: PaymentIntent, attempt: int) -> Draft:
    gateway, key = setup.gateway, binding.key(CHARGE, intent.intent_id, attempt)
    frozen = Frozen(
        intent.intent_id,
        attempt,
        key,
        intent.amount.amount,
        intent.amount.currency,
        intent.customer,
        intent.payment_method,
        gateway.charge_body(intent, binding, attempt, key),
        gateway.api_version,
    )
    return draft_of(setup, frozen)


def draft_of(setup: Setup, frozen: Frozen) -> Draft:
    """What a row freezes, sealed when a secret is set."""
    seal = None if setup.seal is None else setup.seal.of(frozen)
    return Draft(frozen.idempotency_key, frozen.body, frozen.api_version, seal)


def altered(setup: Setup, binding: Binding, frozen: Frozen, seal: str | None) -> str | None:
    """What of a row is not as it was frozen, so that it is not sent; None when all of it is."""
    problem = offered(setup.gateway, frozen.operation).altered(frozen, binding)
    return problem if problem is not None or setup.seal is None else setup.seal.problem(frozen, seal)


def finish(
    setup: Setup,
    binding: Binding,
    charge: Charge,
    *,
    read_at: datetime | None = None,
    sends: int = 0,
    begun: Begun | None = None,
) -> Flow[Finished]:
    """Send until something is proven, the gate holds it, or this call's limits are used up (`sends` of them are).

    `begun`: its first send, when the commit that made the row has begun it.
    """
    policy = setup.policy
    tries, waited_s = 0, 0.0
    while True:
        step, begun = begun or (yield from _begin(setup, binding, charge, read_at)), None
        if isinstance(step, Held):
            if step.next is Next.RETRIEVE:
                return (yield from _retrieve(setup, binding, step.charge))
            return Finished(step.charge, step.next, sends=sends)
        if isinstance(step, Finished):
            return step
        answer = yield from _send(setup, step)
        charge = yield from settle(setup, step.charge, answer, step)
        outcome = answer.outcome
        tries += 1
        if isinstance(outcome, InFlight):
            waited_s += answer.elapsed_ms / 1000  # a slow 409 is waiting, too
        else:
            sends += 1
        stop = _stop(charge, answer)
        if stop is not None:
            return stop
        pause = policy.delay_s(tries, answer.retry_after_s)
        used_up = waited_s >= policy.in_flight_s_max if isinstance(outcome, InFlight) else sends >= policy.sends_max
        if used_up or pause is None or tries == TRIES_MAX:
            down = answer.reply is ReplyClass.DOWN
            return Finished(charge, unasked=answer.reason if down else None)
        waited_s += yield from Wait(*pause)


def _begin(setup: Setup, binding: Binding, charge: Charge, read_at: datetime | None) -> Flow[Begun | Held | Finished]:
    """Begin a send of a row that is there: once the provider has said whose credential this is, and its time."""
    while True:
        again = charge.last_sent_at is not None
        unasked = yield from meet(setup, binding, anew=again)
        if unasked is not None:
            return Finished(charge, unasked=unasked)
        step = yield from BeginSend(
            **named(charge),
            binding=binding,
            profile=setup.gateway.profile,
            credential_id=setup.gateway.credential_id,
            altered=partial(altered, setup, binding),
            time_asked=again,
            read_at=read_at,
        )
        if not isinstance(step, Held) or step.next is not Next.ASK_TIME:
            return step
        charge = step.charge


def _stop(charge: Charge, answer: Answer) -> Finished | None:
    """Why no other send follows this answer in the same call; None when one may."""
    outcome = answer.outcome
    if answer.cause is Cause.CREDENTIAL and charge.pending:
        raise ConfigurationError(
            f"{answer.reason}: check STRIPE_API_KEY. {charge.intent_id} is {charge.state}: that does not prove that "
            "nothing was executed, so run resume then."
        )
    if not charge.pending or not isinstance(outcome, NotExecuted | InFlight | Refused | Unknown):
        return Finished(charge)
    if answer.cause is Cause.ACCOUNT:
        return Finished(charge, refused=answer.reason)
    if isinstance(outcome, Unknown) and outcome.told and outcome.cause is None:
        return Finished(charge)  # the same words would come again, and prove nothing again
    if isinstance(outcome, Unknown) and answer.should_retry is False:
        return Finished(charge, Next.LOOK_UP)  # "a retry changes nothing" is not "not charged"
    return None


def _send(setup: Setup, begun: Begun) -> Flow[Answer]:
    operation = offered(setup.gateway, begun.charge.operation)
    reply = yield from Send(operation.request(begun.charge, begun.body, begun.api_version), begun)
    return operation.read(reply, setup.expected(begun.charge))


def _retrieve(setup: Setup, binding: Binding, charge: Charge) -> Flow[Finished]:
    """An attempt that the provider has an object of: never a send, a replay would only repeat the first answer."""
    retrieval = offered(setup.gateway, charge.operation).retrieval
    if retrieval is not None:
        (charge,), scan = yield from look_up(setup, binding, [charge])
        return Finished(charge, unasked=scan.why_incomplete)
    answer = yield from ask_for_intent(setup, binding, charge)
    if isinstance(answer, CouldNotAsk):
        reason = f"the provider would not tell of {charge.provider_intent_id}: {answer.reason}"
        return Finished(replace(charge, reason=reason), unasked=None if answer.refused else answer.reason)
    return Finished((yield from settle(setup, charge, answer)))
