"""`absent` only by the four conditions of DESIGN §6 (S16), each left out in turn; and what is found instead."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import httpx
import pytest

from gateway_client import (
    AttemptRefused,
    Charge,
    ConfigurationError,
    ProviderUnavailable,
    Sandbox,
    State,
)
from gateway_client.flow.lookup import PAGES_WITHOUT_PROGRESS_MAX
from tests.kit import BOUNDS, KINDS, ONE_SEND, ORDER, START, World

INTENTS, CHARGES = "/v1/payment_intents", "/v1/charges"
ACCOUNT = "GET /v1/account"
SECOND = timedelta(seconds=1)


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


@pytest.fixture(params=KINDS)
def either(request: pytest.FixtureRequest) -> Iterator[World]:
    """The world of each of the two clients."""
    with World(request.param) as world:
        yield world


def resume(world: World) -> Charge:
    """A new process resumes; the row afterwards, also when the lists could not be read."""
    client = world.open_client(retry=ONE_SEND)
    with suppress(ProviderUnavailable):
        client.resume()
    found = client.find(ORDER.intent_id)
    assert found is not None
    return found


# Through the client


def test_reaches_absent(either: World) -> None:
    """What was never executed is proven absent after its key's life and a quiet time, and then tried anew (S16)."""
    either.lose()
    either.close_and_wait()
    assert either.state() is State.UNKNOWN
    before = len(either.asked)
    assert resume(either).state is State.ABSENT
    asked = [what for what in either.asked[before:] if what != ACCOUNT]
    assert asked == [f"GET {INTENTS}", f"GET {CHARGES}"]
    either.clock.advance(BOUNDS.roll_forward)
    again = either.open_client().charge(ORDER, attempt=2)
    assert (again.state, again.attempt, either.paid()) == (State.SUCCEEDED, 2, 1)


def test_lists_are_read_back_to_before_the_first_send(world: World) -> None:
    """The lists are asked from 15 min before the first send to 10 min after now, for every customer (F64)."""
    world.lose()
    world.clock.advance(BOUNDS.key_life)
    resume(world)
    lists = [dict(sent.params) for sent in world.sandbox.requests if sent.path in (INTENTS, CHARGES)][1:]
    assert len(lists) == 2
    for asked in lists:
        assert int(asked["created[gte]"]) == (START - timedelta(minutes=15)).timestamp()
        assert int(asked["created[lte]"]) == (world.clock.now + timedelta(minutes=10)).timestamp()
        assert set(asked) == {"created[gte]", "created[lte]", "limit"}


def test_open_attempt_is_not_absent(world: World) -> None:
    """Condition 1: while the key lives, a look-up that finds nothing proves nothing."""
    world.lose("error_500", times=2)
    for hours in (0, 1, 21.8):
        world.clock.advance(hours=hours)
        charge = resume(world)
        assert (charge.state, charge.closed_at) == (State.UNKNOWN, None)
    assert f"GET {CHARGES}" in world.asked
    assert len(world.sends) == 2


def states_at(world: World, *ages: timedelta) -> list[State]:
    """What it is at these ages, counted from the start, each time when it was resumed."""
    states = []
    for age in ages:
        world.clock.advance(START + age - world.clock.now)
        states.append(resume(world).state)
    return states


def test_not_quiet_after_a_cancel(world: World) -> None:
    """Condition 2: a charge given up at once is absent only a quiet time after it was closed: a send may be held."""
    world.lose()
    world.open_client().cancel(ORDER.intent_id, because="the customer left")
    states = states_at(world, timedelta(0), BOUNDS.quiet_unproven - SECOND, BOUNDS.quiet_unproven)
    assert states == [State.UNKNOWN, State.UNKNOWN, State.ABSENT]


@pytest.mark.parametrize("fault", ["lost_request", "error_500", "unavailable_503"])
def test_not_quiet_beside_an_unproven_send(world: World, fault: str) -> None:
    """Condition 2: beside an unproven send absence waits for 72 h more: a 500 may be rolled forward (F37)."""
    world.lose(fault, times=2)
    over = BOUNDS.key_life + BOUNDS.quiet_unproven
    states = states_at(world, BOUNDS.key_life, BOUNDS.key_life + BOUNDS.quiet, over - SECOND, over)
    assert states == [State.UNKNOWN, State.UNKNOWN, State.UNKNOWN, State.ABSENT]
    assert (len(world.sends), world.paid()) == (2, 0)


def test_executed_late_while_not_quiet(world: World) -> None:
    """Why the quiet time: a request that lay somewhere for ten minutes is executed after we gave it up (F29, S8)."""
    world.lose("late")
    world.open_client().cancel(ORDER.intent_id, because="the customer left")
    assert resume(world).state is State.UNKNOWN
    world.clock.advance(hours=1)
    assert (resume(world).state, world.paid()) == (State.SUCCEEDED, 1)


# Names as somebody may write them by hand: the key is not the one that the namespace computes.
OF_NO_NAMESPACE = {
    "paycli_namespace": "other",
    "paycli_intent": "order_9",
    "paycli_attempt": "1",
    "paycli_key": "pc1_" + "a" * 52,
}


def stranger(number: int) -> dict[str, object]:
    return {"id": f"x_{number}", "status": "succeeded", "amount": 5, "currency": "usd", "metadata": {}}


def broken_list(world: World, path: str, kind: str) -> list[str]:
    """The provider's list breaks in this way; the cursors that were asked for."""
    asked: list[str] = []

    def page(data: list[dict[str, object]], *, has_more: bool) -> httpx.Response:
        return httpx.Response(200, json={"object": "list", "url": path, "data": data, "has_more": has_more})

    def hook(request: httpx.Request) -> httpx.Response | None:
        if (request.method, request.url.path) != ("GET", path):
            return None
        asked.append(request.url.params.get("starting_after", ""))
        if kind == "connection breaks":
            raise httpx.ReadError("reset", request=request)
        if len(asked) == 1 and kind not in ("empty page with more", "html"):
            return page([stranger(1)], has_more=True)
        answers = {
            "500 on page 2": httpx.Response(500, json={"error": {"type": "api_error"}}),
            "429 on page 2": httpx.Response(429, json={"error": {"code": "rate_limit"}}),
            "cursor gone": httpx.Response(400, json={"error": {"type": "invalid_request_error"}}),
            "cursor does not advance": page([stranger(1)], has_more=True),
            "empty page with more": page([], has_more=True),
            "empty page 2 with more": page([], has_more=True),
            "no end": page([stranger(len(asked))], has_more=True),
            "html": httpx.Response(200, content=b"<html>"),
        }
        return answers[kind]

    world.hooks.append(hook)
    return asked


@pytest.mark.parametrize("path", [INTENTS, CHARGES])
@pytest.mark.parametrize(
    "kind",
    [
        "500 on page 2",
        "429 on page 2",
        "cursor gone",
        "cursor does not advance",
        "empty page with more",
        "empty page 2 with more",
        "no end",
        "html",
        "connection breaks",
    ],
)
def test_incomplete_list(world: World, path: str, kind: str) -> None:
    """Condition 3: a list that was not read to its end proves nothing, and `resume` says so (F120–F122)."""
    world.lose()
    world.close_and_wait()
    asked = broken_list(world, path, kind)
    with pytest.raises(ProviderUnavailable):
        world.open_client(retry=ONE_SEND).resume()
    row = world.row()
    assert row["state"] == State.UNKNOWN
    assert "not proven" in row["reason"]
    assert len(asked) <= PAGES_WITHOUT_PROGRESS_MAX + 1
    world.hooks.clear()
    assert resume(world).state is State.ABSENT


def test_found_on_an_incomplete_list(world: World) -> None:
    """What was listed is believed at once, although the list broke later."""
    world.lose("lost_reply")
    world.clock.advance(BOUNDS.key_life)
    broken_list(world, CHARGES, "connection breaks")
    assert resume(world).state is State.SUCCEEDED


@pytest.mark.parametrize(
    "metadata", [{}, {"order": "42"}, {"paycli_namespace": "other", "paycli_key": "pc1_other"}, OF_NO_NAMESPACE]
)
def test_stranger_of_the_same_amount(world: World, metadata: dict[str, str]) -> None:
    """Condition 3: a success of this amount whose names are not those of any namespace goes to a person (F136)."""
    world.lose()
    world.stranger_pays(metadata=metadata)
    world.close_and_wait()
    charge = resume(world)
    assert charge.state is State.UNKNOWN
    assert "a person looks" in (charge.reason or "")
    with pytest.raises(AttemptRefused):
        world.open_client().charge(ORDER, attempt=2)


@pytest.mark.parametrize(("amount", "currency"), [(2001, "usd"), (2000, "eur")])
def test_stranger_of_another_payment(world: World, amount: int, currency: str) -> None:
    """A success of another amount or currency does not stand in the way."""
    world.lose()
    world.stranger_pays(amount, currency)
    world.close_and_wait()
    assert resume(world).state is State.ABSENT


def test_payment_of_another_namespace(world: World) -> None:
    """A success of another namespace of ours, with the key that it computes, does not stand in the way."""
    world.lose()
    key = replace(world.binding, namespace="other").key("charge", "order_9", 1)
    world.stranger_pays(metadata=OF_NO_NAMESPACE | {"paycli_key": key})
    world.close_and_wait()
    assert resume(world).state is State.ABSENT


def test_stranger_long_before(world: World) -> None:
    """What was paid more than 15 min before the first send cannot be ours."""
    world.stranger_pays()
    world.clock.advance(minutes=16)
    world.lose()
    world.close_and_wait()
    assert resume(world).state is State.ABSENT


def test_credential_of_another_account(either: World) -> None:
    """Condition 4: a key of another account proves nothing about ours, and is refused before it asks (F53, S11)."""
    either.lose()
    either.close_and_wait()
    before = either.row()
    other = Sandbox(account="acct_other", time=either.clock.true_time)
    with pytest.raises(ConfigurationError, match="STRIPE_API_KEY is of account acct_other"):
        either.open_client(provider=other).resume()
    assert [sent.path for sent in other.requests] == ["/v1/account"]
    assert either.row() == before


def test_refused_credential_proves_nothing(world: World) -> None:
    """A key that was revoked, or may not read the lists, proves nothing, and the message says what is missing."""
    world.lose()
    world.close_and_wait()
    world.answer(401, {"error": {"type": "invalid_request_error"}}, on=("GET", CHARGES), times=1)
    with pytest.raises(ConfigurationError, match="STRIPE_API_KEY"):
        world.open_client(retry=ONE_SEND).resume()
    assert world.state() is State.UNKNOWN
    world.answer(403, {"error": {"type": "invalid_request_error"}}, on=("GET", CHARGES), times=1)
    with pytest.raises(ProviderUnavailable, match="permission"):
        world.open_client(retry=ONE_SEND).resume()
    assert world.state() is State.UNKNOWN
    assert resume(world).state is State.ABSENT


def test_one_scan_for_all_rows_that_wait(world: World) -> None:
    """Five charges in doubt are looked up by one reading of the two lists; each is judged by itself."""
    for number in range(5):
        world.lose("lost_reply" if number == 2 else "lost_request", intent=replace(ORDER, intent_id=f"order_{number}"))
    for passed, lists, absent in ((BOUNDS.key_life, 2, State.UNKNOWN), (BOUNDS.quiet_unproven, 4, State.ABSENT)):
        world.clock.advance(passed)
        world.open_client().resume()
        assert sum(asked in (f"GET {INTENTS}", f"GET {CHARGES}") for asked in world.asked) == lists
        expected = [State.SUCCEEDED if number == 2 else absent for number in range(5)]
        assert [world.state(f"order_{number}") for number in range(5)] == expected


def test_intent_found_uncharged_is_not_absent(world: World) -> None:
    """An intent of ours that waits at the provider, uncharged, is not absence, however old: it is cancelled (S6)."""
    world.lose()
    key = world.row()["idempotency_key"]
    form = {"amount": "2000", "currency": "usd", "payment_method": "pm_card_visa", "metadata[paycli_key]": key}
    assert world.post(INTENTS, form).json()["status"] == "requires_confirmation"
    world.clock.advance(BOUNDS.key_life)
    for _ in range(2):
        charge = resume(world)
        assert charge.state is State.UNKNOWN
        assert charge.provider_intent_id is not None
        world.clock.advance(hours=37)
    assert world.open_client().cancel(ORDER.intent_id, because="it waits for nobody").state is State.CANCELED
    assert world.sandbox.payment_intents[0]["status"] == "canceled"
