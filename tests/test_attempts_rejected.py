"""After a rejection: one look-up, then the next attempt, unless the provider shows what another delivery did."""

from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest

from gateway_client import Money, NeedsPerson, ProviderUnavailable, State
from tests.kit import DECLINED, KINDS, ORDER, World


@pytest.fixture(params=KINDS)
def either(request: pytest.FixtureRequest) -> Iterator[World]:
    """The world of each of the two clients."""
    with World(request.param) as world:
        yield world


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


def test_nothing_to_cancel(either: World) -> None:
    """An attempt of which the provider has no intent is followed, after one look-up, without a cancellation (S6)."""
    client = either.open_client()
    assert client.charge(replace(ORDER, payment_method="pm_nothing")).state is State.REJECTED
    before = len(either.asked)
    assert client.charge(ORDER, attempt=2).state is State.SUCCEEDED
    assert either.asked[before:] == [
        "GET /v1/account",
        "GET /v1/payment_intents",
        "GET /v1/charges",
        "POST /v1/payment_intents",
    ]


def test_lists_that_cannot_be_read_after_a_rejection(world: World) -> None:
    """While the lists cannot be read to their end, a rejected attempt is followed by none (S6)."""
    client = world.open_client()
    client.charge(replace(ORDER, payment_method="pm_nothing"))
    world.sandbox.fault("lost_request", times=3, on="GET /v1/charges")
    with pytest.raises(ProviderUnavailable):
        client.charge(ORDER, attempt=2)
    assert world.sql("SELECT attempt, state FROM pending_charges") == [(1, "rejected")]
    assert client.charge(ORDER, attempt=2).state is State.SUCCEEDED


def test_success_of_a_rejected_attempt(either: World) -> None:
    """A rejected send of which the other delivery was executed: a finding, NeedsPerson, no attempt 2, now or later."""

    def twice(request: httpx.Request) -> httpx.Response | None:
        if request.method == "POST":
            either.sandbox.transport().handle_request(request)
        return None

    either.hooks.append(twice)
    either.answer(400, {"error": {"type": "invalid_request_error", "param": "payment_method"}}, echo=True)
    client = either.open_client()
    assert client.charge(ORDER).state is State.REJECTED
    either.hooks.clear()
    with pytest.raises(NeedsPerson):
        client.charge(ORDER, attempt=2)
    assert either.sql("SELECT code, attempt, closed_at FROM paycli_findings") == [("status_mismatch", 1, None)]
    either.sql("UPDATE paycli_findings SET closed_at = found_at, closed_by = 'ann@host'")
    with pytest.raises(NeedsPerson):
        either.open_client().charge(ORDER, attempt=2)
    assert (len(either.sends), either.paid()) == (1, 1)


@pytest.mark.parametrize("delivered", [True, False])
def test_older_attempts_are_read_again(world: World, *, delivered: bool) -> None:
    """Attempt 3 reads the provider for attempt 1 as well: its other delivery may have been executed since (S1)."""
    held: list[httpx.Request] = []

    def hold(request: httpx.Request) -> httpx.Response | None:
        if request.method == "POST" and not held:
            held.append(request)
            error = {"type": "invalid_request_error", "param": "payment_method"}
            headers = {"Idempotency-Key": request.headers["Idempotency-Key"]}
            return httpx.Response(400, json={"error": error}, headers=headers)
        return None

    world.hooks.append(hold)
    client = world.open_client()
    assert client.charge(ORDER).state is State.REJECTED
    assert client.charge(DECLINED, attempt=2).state is State.DECLINED
    if delivered:
        world.sandbox.transport().handle_request(held[0])
        for _ in range(2):
            with pytest.raises(NeedsPerson):
                client.charge(ORDER, attempt=3)
        assert world.sql("SELECT code, attempt, closed_at FROM paycli_findings") == [("status_mismatch", 1, None)]
    else:
        assert client.charge(ORDER, attempt=3).state is State.SUCCEEDED
    assert world.paid() == 1


def test_our_key_on_another_payment(either: World) -> None:
    """What carries our key and was never asked for is not cancelled: a person looks, and attempt 2 is not made (S6)."""
    client = either.open_client()
    rejected = client.charge(replace(ORDER, payment_method="pm_nothing"))
    assert client.charge(replace(DECLINED, intent_id="order_9", amount=Money(777, "usd"))).state is State.DECLINED
    names = {"namespace": "default", "intent": "order_42", "attempt": "1", "key": rejected.idempotency_key}
    (theirs,) = either.sandbox.payment_intents
    either.sandbox.change(theirs["id"], metadata={f"paycli_{name}": value for name, value in names.items()})
    with pytest.raises(NeedsPerson, match="never asked for"):
        client.charge(ORDER, attempt=2)
    assert [one["status"] for one in either.sandbox.payment_intents] == ["requires_payment_method"]
    assert either.sql("SELECT intent_id, attempt FROM pending_charges ORDER BY intent_id") == [
        ("order_42", 1),
        ("order_9", 1),
    ]


# Who pays, the customer here, and what a success without our metadata says of who paid and how much: attempt 2 follows
STRIPPED: dict[str, tuple[dict[str, object], bool]] = {
    "the same customer": ({"customer": "cus_1"}, False),
    "the same payment method": ({"payment_method": "pm_card_visa"}, False),
    "somebody else": ({"customer": "cus_2", "payment_method": "pm_2"}, True),
    "nobody": ({"customer": None, "payment_method": None}, True),
    "another amount": ({"customer": "cus_1", "amount": 1999}, True),
}


@pytest.mark.parametrize("case", STRIPPED)
def test_rejected_and_its_other_delivery_stripped(world: World, case: str) -> None:
    """A success of the payer's and the amount whose metadata somebody stripped stops attempt 2, however read (S1)."""
    changes, follows = STRIPPED[case]

    def doubled(request: httpx.Request) -> httpx.Response | None:
        if request.method == "POST" and not world.sends:
            world.sandbox.transport().handle_request(request)
            error = {"type": "invalid_request_error", "param": "payment_method"}
            return httpx.Response(
                400, json={"error": error}, headers={"Idempotency-Key": request.headers["Idempotency-Key"]}
            )
        return None

    world.hooks.append(doubled)
    client = world.open_client()
    order = replace(ORDER, customer="cus_1")
    assert client.charge(order).state is State.REJECTED
    payer = {"customer": None, "payment_method": None, **changes}
    for made in (*world.sandbox.charges, *world.sandbox.payment_intents):
        world.sandbox.change(made["id"], metadata={}, **payer)
    if follows:
        assert client.charge(order, attempt=2).state is State.SUCCEEDED
    else:
        with pytest.raises(NeedsPerson, match="by this payer, without our metadata"):
            client.charge(order, attempt=2)
        assert len(world.sends) == 1
