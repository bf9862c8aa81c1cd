"""A provider and settings that are against us: answers cut short, replayed for ever, or denied; absurd addresses."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from urllib.parse import parse_qsl

import httpx
import pytest

from gateway_client import (
    AttemptRefused,
    ConfigurationError,
    NeedsPerson,
    ProviderUnavailable,
    Sandbox,
    State,
    Stripe,
)
from tests.kit import BOUNDS, DECLINED, KINDS, ORDER, START, World

INTENTS = "/v1/payment_intents"
POST = ("POST", INTENTS)
BECAUSE = "the customer left"
DEBIT = replace(ORDER, payment_method="pm_usBankAccount_processing")  # stays `processing` until it is cancelled


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


@pytest.fixture(params=KINDS)
def either(request: pytest.FixtureRequest) -> Iterator[World]:
    """The world of each of the two clients."""
    with World(request.param) as world:
        yield world


def findings(world: World) -> list[tuple[object, ...]]:
    return world.sql("SELECT intent_id, attempt, closed_at FROM paycli_findings")


def statuses(world: World) -> list[str]:
    """Of the provider's intents, newest first."""
    return [intent["status"] for intent in world.sandbox.payment_intents]


def without_intent(world: World, *, echo: bool = True) -> None:
    """Declines arrive without the intent that was declined; with `echo` they name our key, as a header."""

    def hook(request: httpx.Request) -> httpx.Response | None:
        if (request.method, request.url.path) != POST:
            return None
        response = world.sandbox.transport().handle_request(request)
        body = json.loads(response.content)
        if response.status_code == 402:
            assert body["error"].pop("payment_intent")["status"] == "requires_payment_method"
        headers = {"Date": response.headers["Date"]}
        if echo:
            headers["Idempotency-Key"] = request.headers["Idempotency-Key"]
        return httpx.Response(response.status_code, json=body, headers=headers)

    world.hooks.append(hook)


def on_cancel(world: World, answer: Callable[[httpx.Request], httpx.Response | None]) -> None:
    """How the provider, or whatever is in front of it, answers cancellations."""

    def hook(request: httpx.Request) -> httpx.Response | None:
        return answer(request) if request.url.path.endswith("/cancel") else None

    world.hooks.append(hook)


def not_cancelable(world: World) -> httpx.Response:
    """What Stripe answers to a cancellation while the intent is processing."""
    intent = {**world.sandbox.payment_intents[0], "status": "processing"}
    error = {"type": "invalid_request_error", "code": "payment_intent_unexpected_state", "payment_intent": intent}
    return httpx.Response(400, json={"error": error})


def begun_and_refused(world: World) -> list[httpx.Request]:
    """The create call makes an intent, and is answered 400 with that intent in the error; the requests."""
    caught: list[httpx.Request] = []

    def hook(request: httpx.Request) -> httpx.Response | None:
        if (request.method, request.url.path) != POST:
            return None
        caught.append(request)
        form = dict(parse_qsl(request.content.decode()))
        kept = {name: value for name, value in form.items() if name.startswith(("amount", "currency", "metadata"))}
        intent = world.post(INTENTS, kept).json()
        assert intent["status"] == "requires_payment_method"
        error = {"type": "invalid_request_error", "code": "payment_method_unexpected_state", "payment_intent": intent}
        return httpx.Response(400, json={"error": error})

    world.hooks.append(hook)
    return caught


# Intents that the provider has, and did not name


def test_decline_without_its_intent_and_a_late_success(either: World) -> None:
    """A declined intent that was never named is looked for before attempt 2; its late success stops it (S6)."""
    client = either.open_client()
    without_intent(either)
    first = client.charge(DECLINED)
    assert (first.state, first.provider_intent_id) == (State.DECLINED, None)
    intent = either.sandbox.payment_intents[0]["id"]
    confirmed = either.post(f"{INTENTS}/{intent}/confirm", {"payment_method": "pm_card_visa"})
    assert confirmed.json()["status"] == "succeeded"
    for again in (client, either.open_client()):
        with pytest.raises(NeedsPerson):
            again.charge(ORDER, attempt=2)
    assert findings(either) == [(ORDER.intent_id, 1, None)]
    assert (either.paid(), len(either.sends), statuses(either)) == (1, 1, ["succeeded"])


def test_decline_without_its_intent_is_cancelled_first(either: World) -> None:
    """A declined intent that was never named is found by our key and cancelled before attempt 2 charges (S6)."""
    client = either.open_client()
    without_intent(either)
    assert client.charge(DECLINED).provider_intent_id is None
    assert client.charge(ORDER, attempt=2).state is State.SUCCEEDED
    assert statuses(either) == ["succeeded", "canceled"]
    intent = f"{INTENTS}/{either.sandbox.payment_intents[1]['id']}"
    assert either.asked[-3:] == [f"POST {intent}/cancel", f"GET {intent}", f"POST {INTENTS}"]
    assert findings(either) == []


def test_decline_without_its_intent_and_no_lists(world: World) -> None:
    """While the lists cannot be read, nobody knows whether that intent is open: there is no attempt 2 (S6)."""
    client = world.open_client()
    without_intent(world)
    client.charge(DECLINED)
    for path in (INTENTS, "/v1/charges"):
        world.answer(503, on=("GET", path), times=99)
    with pytest.raises(ProviderUnavailable):
        client.charge(ORDER, attempt=2)
    assert world.sql("SELECT count(*) FROM pending_charges") == [(1,)]
    assert (len(world.sends), world.paid()) == (1, 0)


@pytest.mark.parametrize("shown", [True, False])
def test_decline_without_its_intent_and_late_lists(world: World, *, shown: bool) -> None:
    """Lists that show nothing yet are no proof that no intent is open: attempt 2 waits a quiet time (F63, S6)."""
    client = world.open_client()
    without_intent(world)
    client.charge(DECLINED)
    for path in (INTENTS, "/v1/charges"):
        page = {"object": "list", "url": path, "data": [], "has_more": False}
        world.answer(200, page, on=("GET", path), times=2 if shown else 9)
    for at in (START, START + BOUNDS.quiet - timedelta(seconds=1)):
        world.clock.advance(at - world.clock.now)
        with pytest.raises(ProviderUnavailable, match=r"may be listed late: it is possible from 2026-11-20T15:11:40"):
            client.charge(ORDER, attempt=2)
    assert (statuses(world), len(world.sends)) == (["requires_payment_method"], 1)
    world.clock.advance(seconds=1)
    assert client.charge(ORDER, attempt=2).state is State.SUCCEEDED
    assert statuses(world) == ["succeeded", "canceled" if shown else "requires_payment_method"]


def test_decline_that_nothing_ties_to_us(either: World) -> None:
    """A decline with neither our key in it nor its echo ends the call and proves nothing, until it is found."""
    client = either.open_client()
    without_intent(either, echo=False)
    charge = client.charge(DECLINED)
    assert (charge.state, charge.sends, charge.provider_intent_id) == (State.UNKNOWN, 1, None)
    assert "card_declined" in (charge.reason or "")
    with pytest.raises(AttemptRefused):
        client.charge(ORDER, attempt=2)
    client.cancel(ORDER.intent_id, because=BECAUSE)
    (charge,) = client.resume()
    assert (charge.state, charge.provider_intent_id) == (State.DECLINED, either.sandbox.payment_intents[0]["id"])
    assert client.charge(ORDER, attempt=2).state is State.SUCCEEDED
    assert (statuses(either), len(either.sends)) == (["succeeded", "canceled"], 2)


def test_refused_with_an_intent_of_ours(either: World) -> None:
    """A 400 that carries our intent was begun: it is `unknown`, never sent again, and `cancel` cancels it there."""
    caught = begun_and_refused(either)
    client = either.open_client()
    charge = client.charge(ORDER)
    intent = either.sandbox.payment_intents[0]
    assert (charge.state, charge.provider_intent_id) == (State.UNKNOWN, intent["id"])
    for again in (client, either.open_client()):
        assert again.charge(ORDER).state is State.UNKNOWN
        again.resume()
    with pytest.raises(AttemptRefused):
        client.charge(ORDER, attempt=2)
    assert (len(caught), either.state()) == (1, State.UNKNOWN)
    assert client.cancel(ORDER.intent_id, because=BECAUSE).state is State.CANCELED
    assert (statuses(either), either.paid()) == (["canceled"], 0)


# Cancellations


def replayed(world: World) -> None:
    """Two cancellations are answered by an old "processing", and not done."""
    answers = [not_cancelable(world), not_cancelable(world)]
    on_cancel(world, lambda request: answers.pop() if answers else None)


def test_replayed_refusal_of_a_cancellation(either: World) -> None:
    """An old "it is processing" is not believed: the intent is asked, found open, and cancelled once more (S6)."""
    client = either.open_client()
    client.charge(DECLINED)
    replayed(either)
    assert client.charge(ORDER, attempt=2).state is State.SUCCEEDED
    assert (statuses(either), findings(either)) == (["succeeded", "canceled"], [])
    intent = either.sandbox.payment_intents[1]["id"]
    assert either.asked.count(f"GET {INTENTS}/{intent}") == 3
    assert [sent.idempotency_key for sent in either.sandbox.requests if sent.path.endswith("/cancel")] == [None]


def test_replayed_refusal_of_a_cancellation_by_hand(either: World) -> None:
    """`cancel` asks the intent itself when an old answer to the cancellation says "processing", and cancels it."""
    begun_and_refused(either)
    client = either.open_client()
    client.charge(ORDER)
    replayed(either)
    assert client.cancel(ORDER.intent_id, because=BECAUSE).state is State.CANCELED
    assert statuses(either) == ["canceled"]


def test_processing_of_a_declined_attempt(world: World) -> None:
    """A declined intent that is processing just now delays attempt 2, and leaves no finding that forbids it (S6)."""
    client = world.open_client()
    client.charge(DECLINED)
    on_cancel(world, lambda request: not_cancelable(world))
    intent = world.sandbox.payment_intents[0]
    world.answer(200, {**intent, "status": "processing"}, on=("GET", f"{INTENTS}/{intent['id']}"), times=99)
    for _ in range(2):
        with pytest.raises((ProviderUnavailable, AttemptRefused, NeedsPerson)):
            client.charge(ORDER, attempt=2)
    assert (findings(world), world.sql("SELECT count(*) FROM pending_charges")) == ([], [(1,)])
    world.hooks.clear()
    assert client.charge(ORDER, attempt=2).state is State.SUCCEEDED
    assert statuses(world) == ["succeeded", "canceled"]


def minimal(world: World) -> None:
    """Cancellations are done, and answered with next to nothing."""

    def answer(request: httpx.Request) -> httpx.Response:
        done = json.loads(world.sandbox.transport().handle_request(request).content)
        return httpx.Response(200, json={name: done[name] for name in ("id", "object", "status")})

    on_cancel(world, answer)


def test_minimal_answer_of_a_cancellation(either: World) -> None:
    """A cancellation answered without metadata and amount is no finding: the intent is asked, and attempt 2 goes on."""
    client = either.open_client()
    first = client.charge(DECLINED)
    minimal(either)
    assert client.charge(ORDER, attempt=2).state is State.SUCCEEDED
    assert (statuses(either), findings(either)) == (["succeeded", "canceled"], [])
    assert f"GET {INTENTS}/{first.provider_intent_id}" in either.asked


def test_minimal_answer_of_a_cancellation_by_hand(world: World) -> None:
    """`cancel` believes the intent itself when the answer of the cancellation proves nothing."""
    client = world.open_client()
    client.charge(DEBIT)
    minimal(world)
    assert client.cancel(ORDER.intent_id, because=BECAUSE).state is State.CANCELED
    assert findings(world) == []


def test_intent_that_the_provider_does_not_know(either: World) -> None:
    """An intent that the provider denies to have (404) needs a person, not another try."""
    client = either.open_client()
    client.charge(DEBIT)
    either.sql("UPDATE pending_charges SET provider_intent_id = 'pi_gone'")
    with pytest.raises(NeedsPerson):
        client.cancel(ORDER.intent_id, because=BECAUSE)
    assert either.state() is State.PROCESSING
    assert {asked for asked in either.asked if "pi_gone" in asked} == {
        f"POST {INTENTS}/pi_gone/cancel",
        f"GET {INTENTS}/pi_gone",
    }


# Addresses

BAD_ADDRESSES = [
    *("http://127.0.0.1:abc", "http://[::1", "https://exa\u2028mple.com", "https://xn--a", f"https://{'a' * 64}.com"),
    *("https://host:99999", "https://host:-1", "https://ex ample.com", "http://127.0.0.1:8\n0"),
    *("http://:pw@127.0.0.1:1", "https://u@host"),
]


@pytest.mark.parametrize("address", BAD_ADDRESSES)
def test_bad_address(address: str) -> None:
    """An address that could not be called, or that hides a credential, is refused when the gateway is made."""
    with pytest.raises(ConfigurationError, match="PAYCLI_STRIPE_API_BASE"):
        Stripe(Sandbox.api_key, api_base=address)


GOOD_ADDRESSES = "https://stripe.example https://x:8443 http://127.0.0.1:12111/ http://localhost:1 http://[::1]:8080"


@pytest.mark.parametrize("address", GOOD_ADDRESSES.split())
def test_good_address(address: str) -> None:
    """Https anywhere and http on this machine are taken as they are."""
    assert Stripe(Sandbox.api_key, api_base=address).base_url == address.rstrip("/")
