"""Taking an attempt back at the provider: a person gives it up, or the next attempt needs it out of the way. No I/O.

It never moves money, and believes nothing but what the provider says now.
"""

from __future__ import annotations

from dataclasses import replace

from gateway_client.charge import Charge, iso
from gateway_client.errors import NeedsPerson, ProviderUnavailable
from gateway_client.flow.asking import Setup, bind_flow, meet, question
from gateway_client.flow.effects import Flow, GiveUp
from gateway_client.flow.lookup import look_up, settle
from gateway_client.gateways.base import Binding
from gateway_client.outcome import Answer, Canceled, CouldNotAsk, Declined, RequiresAction, Succeeded, Unknown


def cancel_flow(setup: Setup, intent_id: str, because: str) -> Flow[Charge]:
    """Give the newest attempt up. It never moves money."""
    binding = yield from bind_flow(setup)
    charge = yield from GiveUp(intent_id, because)
    if charge.final or charge.provider_intent_id is None:
        return charge
    answer = yield from _cancel_there(setup, binding, charge)
    return (yield from settle(setup, charge, answer))


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
    unasked = yield from meet(setup, binding)
    if unasked is None:
        _, scan = yield from look_up(setup, [charge])
        answer = scan.found.get(charge.idempotency_key)
        if answer is None and scan.why_incomplete is None:
            shown_by = charge.last_sent_at and charge.last_sent_at + setup.gateway.profile.quiet
            if shown_by is None or scan.begun_at >= shown_by:
                return charge
            raise ProviderUnavailable(
                f"{charge.intent_id} attempt {charge.attempt} is {charge.state}, and the provider's lists do not show "
                f"its intent, which they may do late: try again from {iso(shown_by)}. No new attempt was made."
            )
        intent = None if answer is None else getattr(answer.outcome, "provider_intent_id", None)
        if intent is not None:
            return replace(charge, provider_intent_id=intent)
        unasked = scan.why_incomplete or "its intent has no id"
    raise ProviderUnavailable(
        f"{charge.intent_id} attempt {charge.attempt} is {charge.state}; what the provider has of it could not be "
        f"read: {unasked}. No new attempt was made."
    )


def _cancel_there(setup: Setup, binding: Binding, charge: Charge) -> Flow[Answer]:
    """Cancel the provider's intent of a charge; what the provider says of it afterwards."""
    gateway = setup.gateway
    intent, key = charge.provider_intent_id or "", binding.key("cancel", charge.intent_id, charge.attempt)
    cancel, ask = gateway.cancel_request(intent, key), gateway.retrieve_request(intent)
    # The first answer to the cancellation is replayed for as long as its key lives, a 500 and a "not now" too. So only
    # a cancelled or succeeded intent is believed at once; else it is asked, and if it is open, cancelled without a key:
    # cancelling twice is cancelling once.
    unasked = yield from meet(setup, binding)
    refused = False
    now: Answer | None = None
    for request in (cancel, ask, replace(cancel, idempotency_key=None), ask) if unasked is None else ():
        answer = yield from question(setup, request, lambda reply: gateway.read_intent(reply, charge))
        if isinstance(answer, CouldNotAsk):
            unasked, refused = answer.reason, answer.refused
        elif isinstance(answer.outcome, Canceled | Succeeded):
            return answer
        elif request is ask:
            now = answer
            if not isinstance(answer.outcome, Declined | Unknown | RequiresAction):
                break  # processing, or not ours: it cannot be cancelled
    if now is not None:
        return now
    problem = (
        f"{charge.intent_id}: the provider would not cancel {charge.provider_intent_id}: {unasked}. Nothing changed"
    )
    if refused:
        raise NeedsPerson(f"{problem}; look for it at the provider.")
    raise ProviderUnavailable(f"{problem}; run the same command again.")
