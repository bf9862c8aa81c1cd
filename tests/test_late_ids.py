"""Ids of the provider that are learned after a row has ended: filled in, told, and never changed to another's (A7)."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

from gateway_client import State
from gateway_client.flow.effects import Settle
from gateway_client.outcome import Answer, Declined, Outcome, Succeeded
from tests.kit import ORDER
from tests.nightly import DATABASES, Night, codes, night


@pytest.fixture(params=DATABASES)
def world(request: pytest.FixtureRequest) -> Iterator[Night]:
    with night(request.param) as made:
        yield made


def without_its_charge(world: Night, *paths: str) -> None:
    """The provider does not name the charge of an intent in its answers to these requests."""

    def hook(request: httpx.Request) -> httpx.Response | None:
        if f"{request.method} {request.url.path}" not in paths:
            return None
        told = world.sandbox.transport().handle_request(request)
        told.read()
        headers = {name: value for name, value in told.headers.items() if name != "content-length"}
        return httpx.Response(
            told.status_code, json={**json.loads(told.content), "latest_charge": None}, headers=headers
        )

    world.hooks.append(hook)


def succeeded_without_its_charge(world: Night) -> str:
    """A success whose charge was not named; its charge."""
    without_its_charge(world, "POST /v1/payment_intents")
    charge = world.open_client().charge(ORDER)
    assert (charge.state, charge.provider_charge_id) == (State.SUCCEEDED, None)
    world.hooks.clear()
    return str(world.sandbox.charges[0]["id"])


def test_listed(world: Night) -> None:
    """A7: the nightly run that lists the charge of a success fills it in; the row stays as it ended, and tells it."""
    charge_id = succeeded_without_its_charge(world)
    before = world.row()
    world.clock.advance(hours=1)
    after = before | {"provider_charge_id": charge_id, "revision": before["revision"] + 1}
    assert (codes(world.run()), world.row()) == (set(), after)
    events = world.sql("SELECT event FROM paycli_events ORDER BY event_no")
    assert events[-1] == (f"named by the provider: {charge_id}",)
    assert codes(world.run()) == set()
    assert world.sql("SELECT event FROM paycli_events ORDER BY event_no") == events


def test_asked_for(world: Night) -> None:
    """A7: so does one that no list has shown it, and that asks for its intent."""
    charge_id = succeeded_without_its_charge(world)
    world.hooks.append(
        lambda request: (
            httpx.Response(200, json={"object": "list", "url": request.url.path, "data": [], "has_more": False})
            if request.url.path in ("/v1/payment_intents", "/v1/charges")
            else None
        )
    )
    world.clock.advance(hours=1)
    assert (codes(world.run()), world.row()["provider_charge_id"]) == (set(), charge_id)


@pytest.mark.parametrize(
    ("outcome", "ids"),
    [
        (Succeeded("pi_1", "ch_1"), ("pi_1", "ch_1")),
        (Succeeded("pi_2", "ch_2"), ("pi_1", None)),  # of another intent
        (Succeeded(None, "ch_1"), ("pi_1", "ch_1")),
        (Succeeded("pi_1", None), ("pi_1", None)),
        (Declined("declined", "pi_1", "ch_1"), ("pi_1", None)),  # another result: a finding
    ],
)
def test_a_late_answer(world: Night, outcome: Outcome, ids: tuple[str, str | None]) -> None:
    """A7: a late answer of the same result fills in what is missing, and nothing of another intent or result."""
    world.open_client().prepare(ORDER)
    first = Settle(ORDER.intent_id, 1, Answer(Succeeded("pi_1", None)), saves_declines=True)
    world.perform(first)
    charge = world.perform(Settle(ORDER.intent_id, 1, Answer(outcome), saves_declines=True))
    assert (charge.provider_intent_id, charge.provider_charge_id) == ids
    assert (world.row()["provider_intent_id"], world.row()["provider_charge_id"]) == ids
    world.perform(Settle(ORDER.intent_id, 1, Answer(Succeeded("pi_1", "ch_9")), saves_declines=True))
    assert world.row()["provider_charge_id"] == (ids[1] or "ch_9")


def test_a_nameless_decline(world: Night) -> None:
    """A7: a decline that named no intent gets it from the list, so that the next attempt cancels it at once."""
    error = {"error": {"type": "card_error", "code": "card_declined", "message": "declined", "payment_intent": None}}

    def hook(request: httpx.Request) -> httpx.Response | None:
        if request.method != "POST" or request.url.path != "/v1/payment_intents":
            return None
        told = world.sandbox.transport().handle_request(request)
        told.read()
        headers = {name: value for name, value in told.headers.items() if name != "content-length"}
        return httpx.Response(402, json=error, headers=headers)

    world.hooks.append(hook)
    assert world.pay("order_42", "pm_card_chargeDeclined").state is State.DECLINED
    assert world.row()["provider_intent_id"] is None
    world.hooks.clear()
    world.clock.advance(hours=1)
    assert codes(world.run()) == set()
    assert world.row()["provider_intent_id"] == world.sandbox.payment_intents[0]["id"]
    assert world.open_client().charge(ORDER, attempt=2).state is State.SUCCEEDED
