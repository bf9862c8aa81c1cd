"""Taking an attempt back at the provider: it is given up, is in the way of the next one, or was left uncharged. No I/O.

It never moves money, and believes nothing but what the provider says now.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from gateway_client.absence import what_is_strange
from gateway_client.charge import Charge
from gateway_client.errors import ClockRefused, ConfigurationError, NeedsPerson, ProviderUnavailable
from gateway_client.evidence import Known, Step, why_not
from gateway_client.flow.asking import ASKS_MAX, Setup, bind_flow, meet, question
from gateway_client.flow.effects import Ask, Flow, GiveUp, NoteQuiet, Now, Wait, named
from gateway_client.flow.lookup import look_up, settle
from gateway_client.gateways.base import Binding
from gateway_client.outcome import Answer, Canceled, Conflict, CouldNotAsk, Declined, RequiresAction, Succeeded, Unknown

LEFT = "left uncharged at the provider, and cancelled there when no 500 could charge it any more"


def cancel_flow(setup: Setup, intent_id: str, because: str) -> Flow[Charge]:
    """Give the newest attempt up. It never moves money."""
    binding = yield from bind_flow(setup)
    charge = yield from GiveUp(intent_id, because, setup.gateway.profile)
    if not charge.pending:
        return charge
    if charge.provider_intent_id is None:
        return (yield from _note_time(setup, binding, charge))
    answer = yield from _cancelled(setup, binding, charge)
    return (yield from settle(setup, charge, answer))


def _note_time(setup: Setup, binding: Binding, charge: Charge) -> Flow[Charge]:
    """Note from which moment of the provider's time no send can begin. The attempt is closed, whoever answers."""
    try:
        unasked = yield from meet(setup, binding, anew=True)
    except (ConfigurationError, ClockRefused):
        return charge  # the first look-up notes it
    if unasked is not None:
        return charge
    return (yield from NoteQuiet(**named(charge)))


def ask_for_intent(
    setup: Setup, binding: Binding, charge: Charge, asks_max: int = ASKS_MAX
) -> Flow[Answer | CouldNotAsk]:
    """Ask for the intent that the provider has of a charge, and cancel what a closed attempt has left there uncharged.

    Not before every 500 of it is beyond its roll-forward: until then it may charge, and the payment be made.
    """
    gateway, bounds = setup.gateway, setup.gateway.profile.bounds
    request = gateway.retrieve_request(charge.provider_intent_id or "")
    read = partial(gateway.read_intent, expected=setup.expected(charge))
    answer = yield from question(setup, request, read, asks_max)
    if isinstance(answer, CouldNotAsk) or charge.closed_at is None:
        return answer
    if not isinstance(answer.outcome, Unknown) or not answer.outcome.uncharged:
        return answer
    if charge.quiet_from is None:
        if (yield from meet(setup, binding, anew=True)) is None:
            yield from NoteQuiet(**named(charge))
        return answer
    if why_not(Step.CANCEL_THERE, Known(charge, bounds, (yield from Now()))) is not None:
        return answer
    now = yield from _cancel_there(setup, binding, charge)
    if isinstance(now, CouldNotAsk):
        return answer
    return replace(now, outcome=replace(now.outcome, reason=LEFT)) if isinstance(now.outcome, Canceled) else now


def clear(setup: Setup, binding: Binding, charge: Charge) -> Flow[None]:
    """Make sure that a refused attempt can never charge beside the next one: cancel what the provider has of it."""
    attempt = f"{charge.intent_id} attempt {charge.attempt}"
    if charge.provider_intent_id is None:
        charge = yield from _look_again(setup, binding, charge)
        if charge.provider_intent_id is None:
            return
    answer = yield from _cancelled(setup, binding, charge)
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
        if isinstance(answer.outcome, Conflict):  # our key on another amount: it may be somebody else's payment
            raise NeedsPerson(
                f"{attempt} is {charge.state}, and the provider has something under its key that was never asked for "
                f"({answer.outcome.reason}): look for it there. Nothing was cancelled, and no new attempt was made."
            )
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


def _cancelled(setup: Setup, binding: Binding, charge: Charge) -> Flow[Answer]:
    """What has become of a known intent that somebody wants to be cancelled. Raises when nobody tells."""
    answer = yield from _cancel_there(setup, binding, charge)
    if not isinstance(answer, CouldNotAsk):
        return answer
    intent = charge.provider_intent_id
    problem = f"{charge.intent_id}: the provider would not cancel {intent}: {answer.reason}. Nothing changed"
    if answer.refused:
        raise NeedsPerson(f"{problem}; look for it at the provider.")
    raise ProviderUnavailable(f"{problem}; run the same command again.")


def _cancel_there(setup: Setup, binding: Binding, charge: Charge) -> Flow[Answer | CouldNotAsk]:
    """Cancel a known intent, and ask what has become of it: nothing but that is believed."""
    gateway = setup.gateway
    intent = charge.provider_intent_id or ""
    unasked = yield from meet(setup, binding)
    if unasked is not None:
        return CouldNotAsk(unasked)
    read = partial(gateway.read_intent, expected=setup.expected(charge))
    now: Answer | CouldNotAsk | None = None
    for tries in range(1, ASKS_MAX + 1):
        yield from Ask(gateway.cancel_request(intent))
        answer = yield from question(setup, gateway.retrieve_request(intent), read)
        if isinstance(answer, CouldNotAsk):
            return now or answer
        if isinstance(answer.outcome, Canceled | Succeeded):
            return answer
        now = answer
        pause = setup.policy.delay_s(tries, answer.retry_after_s)
        if pause is None or not isinstance(answer.outcome, Declined | Unknown | RequiresAction):
            break  # processing, or not ours: it cannot be cancelled
        yield from Wait(*pause)
    assert now is not None, "it is asked for at least once"
    return now
