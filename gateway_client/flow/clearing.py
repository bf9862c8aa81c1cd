"""Taking an attempt back at the provider: a person gives it up, or the next attempt needs it out of the way. No I/O.

It never moves money, and believes nothing but what the provider says now.
"""

from __future__ import annotations

from dataclasses import replace

from gateway_client.absence import what_is_strange
from gateway_client.charge import Charge
from gateway_client.errors import ClockRefused, ConfigurationError, NeedsPerson, ProviderUnavailable
from gateway_client.evidence import Known, Step, why_not
from gateway_client.flow.asking import ASKS_MAX, Setup, bind_flow, meet, question
from gateway_client.flow.effects import Ask, Flow, GiveUp, Wait
from gateway_client.flow.lookup import look_up, settle
from gateway_client.gateways.base import Binding
from gateway_client.outcome import Answer, Canceled, CouldNotAsk, Declined, RequiresAction, Succeeded, Unknown


def cancel_flow(setup: Setup, intent_id: str, because: str) -> Flow[Charge]:
    """Give the newest attempt up. It never moves money."""
    binding = yield from bind_flow(setup)
    charge = yield from GiveUp(intent_id, because, setup.gateway.profile)
    if charge.final:
        return charge
    if charge.provider_intent_id is None:
        return (yield from _note_time(setup, binding, charge, because))
    answer = yield from _cancel_there(setup, binding, charge)
    return (yield from settle(setup, charge, answer))


def _note_time(setup: Setup, binding: Binding, charge: Charge, because: str) -> Flow[Charge]:
    """Note from which moment of the provider's time no send can begin. The attempt is closed, whoever answers."""
    try:
        unasked = yield from meet(setup, binding, anew=True)
    except (ConfigurationError, ClockRefused):
        return charge  # the first look-up notes it
    if unasked is not None:
        return charge
    return (yield from GiveUp(charge.intent_id, because, setup.gateway.profile, time_asked=True))


def clear(setup: Setup, binding: Binding, charge: Charge) -> Flow[None]:
    """Make sure that a refused attempt can never charge beside the next one: cancel what the provider has of it."""
    attempt = f"{charge.intent_id} attempt {charge.attempt}"
    if charge.provider_intent_id is None:
        charge = yield from _look_again(setup, binding, charge)
        if charge.provider_intent_id is None:
            return
    answer = yield from _cancel_there(setup, binding, charge)
    if isinstance(answer.outcome, Succeeded):
        yield from settle(setup, charge, answer)  # a late success: a finding
        raise NeedsPerson(
            f"{attempt} is {charge.state} here, but the provider says it succeeded "
            f"({answer.outcome.provider_charge_id}): the customer has paid. No new attempt was made; a finding is open."
        )
    if not isinstance(answer.outcome, Canceled):
        raise ProviderUnavailable(
            f"{attempt} could not be cancelled at the provider (it says {answer.name}); no new attempt was made."
        )


def _look_again(setup: Setup, binding: Binding, charge: Charge) -> Flow[Charge]:
    """A refused attempt with the intent that the provider has of it by now: its id may never have reached us."""
    attempt, bounds = f"{charge.intent_id} attempt {charge.attempt}", setup.gateway.profile.bounds
    _, scan = yield from look_up(setup, binding, [charge])
    answer = scan.found.get(charge.idempotency_key)
    if answer is not None:
        intent = getattr(answer.outcome, "provider_intent_id", None)
        if intent is not None:
            return replace(charge, provider_intent_id=intent)
        raise NeedsPerson(f"the provider has an object of {attempt} without an id; no new attempt was made.")
    strange = what_is_strange(charge, scan)
    if strange is not None:
        raise NeedsPerson(f"{attempt} is {charge.state}, and {strange}: look for it there. No new attempt was made.")
    problem = why_not(Step.NEXT_ATTEMPT, Known(charge, bounds, scan.begun_at, scan))
    if problem is not None:
        raise ProviderUnavailable(f"{attempt} is {charge.state}, and {problem}. No new attempt was made.")
    return charge


def _cancel_there(setup: Setup, binding: Binding, charge: Charge) -> Flow[Answer]:
    """Cancel a known intent, and ask what has become of it: nothing but that is believed."""
    gateway = setup.gateway
    intent = charge.provider_intent_id or ""
    unasked = yield from meet(setup, binding)
    refused = False
    now: Answer | None = None
    tries = 0
    while unasked is None and tries < ASKS_MAX:
        tries += 1
        yield from Ask(gateway.cancel_request(intent))
        asked = question(setup, gateway.retrieve_request(intent), lambda reply: gateway.read_intent(reply, charge))
        answer = yield from asked
        if isinstance(answer, CouldNotAsk):
            unasked, refused = answer.reason, answer.refused
            break
        if isinstance(answer.outcome, Canceled | Succeeded):
            return answer
        now = answer
        pause = setup.policy.delay_s(tries, answer.retry_after_s)
        if pause is None or not isinstance(answer.outcome, Declined | Unknown | RequiresAction):
            break  # processing, or not ours: it cannot be cancelled
        yield from Wait(*pause)
    if now is not None:
        return now
    problem = (
        f"{charge.intent_id}: the provider would not cancel {charge.provider_intent_id}: {unasked}. Nothing changed"
    )
    if refused:
        raise NeedsPerson(f"{problem}; look for it at the provider.")
    raise ProviderUnavailable(f"{problem}; run the same command again.")
