"""The loop of sends: what is waited out, what is sent again with the same key and bytes, what ends a call."""

from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest

from gateway_client import (
    ConfigurationError,
    ProviderUnavailable,
    RetryPolicy,
    Sandbox,
    State,
)
from tests.kit import DECLINED, KINDS, ONE_SEND, ORDER, START, World

POST = ("POST", "/v1/payment_intents")


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


@pytest.fixture(params=KINDS)
def either(request: pytest.FixtureRequest) -> Iterator[World]:
    """The world of each of the two clients."""
    with World(request.param) as world:
        yield world


def assert_same_request(world: World) -> None:
    """All sends of the attempt repeat key and bytes (S3)."""
    assert len({(sent.idempotency_key, sent.params) for sent in world.sends}) == 1


@pytest.mark.parametrize("fault", ["lost_request", "lost_reply", "cut_body", "html_body", "unavailable_503", "refused"])
def test_sent_again_until_it_is_known(either: World, fault: str) -> None:
    """What may or may not have been executed is sent again, same key, same bytes, and charges once (S1, F21–F27)."""
    either.sandbox.fault(fault, times=2)
    charge = either.open_client().charge(ORDER)
    assert (charge.state, charge.sends, either.paid()) == (State.SUCCEEDED, 3, 1)
    assert_same_request(either)


def test_delays_double(world: World) -> None:
    """The waits between sends double, within their limits, and a call ends after `sends_max` sends."""
    world.sandbox.faults = {"lost_request": 1.0}
    charge = world.open_client(retry=RetryPolicy(sends_max=6, delay_s_first=1, delay_s_max=5)).charge(ORDER)
    assert (charge.state, charge.sends) == (State.UNKNOWN, 6)
    assert world.clock.slept_s == [1, 2, 4, 5, 5]


def test_409_is_waited_out(either: World) -> None:
    """A 409 says that it is being executed: it is waited out with the same key and never a failure (F25, F40)."""
    either.sandbox.fault("lost_reply")
    either.sandbox.fault("in_use_409", times=6)
    charge = either.open_client(retry=RetryPolicy(sends_max=2)).charge(ORDER)
    assert (charge.state, charge.sends, either.paid()) == (State.SUCCEEDED, 8, 1)
    assert_same_request(either)


def test_409_for_longer_than_the_limit(world: World) -> None:
    """A 409 that does not end leaves the charge unknown after `in_flight_s_max`; `resume` goes on (F40)."""
    world.sandbox.fault("in_use_409", times=1000)
    charge = world.open_client(retry=RetryPolicy(in_flight_s_max=30)).charge(ORDER)
    assert charge.state is State.UNKNOWN
    assert 30 <= sum(world.clock.slept_s) <= 38
    assert charge.sends < 10


def test_409_without_waits_ends(world: World) -> None:
    """A policy without waits does not hammer a provider that answers 409 for ever: every loop has a limit."""
    world.sandbox.fault("in_use_409", times=105)
    world.open_client(retry=RetryPolicy(delay_s_first=0, delay_s_max=0)).charge(ORDER)
    assert len(world.sends) <= 100


def test_429_backs_off(either: World) -> None:
    """A 429 was not executed: the same key later, and the row stays prepared meanwhile (F42)."""
    either.sandbox.fault("rate_limited_429", times=2)
    charge = either.open_client().charge(ORDER)
    assert (charge.state, charge.sends, either.paid()) == (State.SUCCEEDED, 3, 1)
    assert either.clock.slept_s == [0.5, 1.0]


@pytest.mark.parametrize("retry_after", ["7", "Fri, 20 Nov 2026 12:00:07 GMT"])
def test_retry_after_is_the_least_wait(world: World, retry_after: str) -> None:
    """Retry-After as a number or a date is waited for, at least (F42)."""
    world.answer(429, {}, headers={"Retry-After": retry_after})
    assert world.open_client().charge(ORDER).state is State.SUCCEEDED
    assert 7 <= world.clock.slept_s[0] <= 10


@pytest.mark.parametrize("retry_after", ["-5", "soon", "Fri, 20 Nov 2026 11:00:00 GMT"])
def test_retry_after_that_is_no_wait(world: World, retry_after: str) -> None:
    """A negative, past or unreadable Retry-After leaves our own back-off (F42)."""
    world.answer(429, {}, headers={"Retry-After": retry_after})
    assert world.open_client().charge(ORDER).state is State.SUCCEEDED
    assert world.clock.slept_s == [0.5]


@pytest.mark.parametrize("retry_after", ["21600", "Fri, 20 Nov 2026 18:00:00 GMT"])
def test_retry_after_of_six_hours(world: World, retry_after: str) -> None:
    """A wait of six hours ends the call at once; the row stays prepared, as if never sent (F42)."""
    world.answer(429, {}, headers={"Retry-After": retry_after})
    charge = world.open_client().charge(ORDER)
    assert (charge.state, charge.first_sent_at, charge.sends) == (State.PREPARED, None, 1)
    assert (world.clock.slept_s, world.sends) == ([], [])


def test_429_in_doubt(world: World) -> None:
    """A 429 says nothing about an earlier send: in doubt it stays unknown."""
    world.lose()
    world.sandbox.fault("rate_limited_429")
    charge = world.open_client(retry=ONE_SEND).charge(ORDER)
    assert (charge.state, charge.first_sent_at) == (State.UNKNOWN, START)


def test_401_leaves_every_row(either: World) -> None:
    """A revoked key stops the worker at its first 401, names the setting, and leaves every row as it was (F46)."""
    client = either.open_client()
    client.charge(replace(ORDER, intent_id="first"))
    for number in range(3):
        client.prepare(replace(ORDER, intent_id=f"order_{number}"))
    before = [either.row(f"order_{number}") for number in range(3)]
    either.sandbox.revoke(Sandbox.api_key)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="STRIPE_API_KEY"):
            either.open_client().resume()
        with pytest.raises(ConfigurationError, match="STRIPE_API_KEY"):
            client.resume()  # it knows its account already and learns of it by the send
    after = [either.row(f"order_{number}") for number in range(3)]
    # Only why it was not sent is written down.
    assert [{**row, "reason": None} for row in after] == before
    assert either.open_client("sk_test_another").resume()[0].state is State.SUCCEEDED


def test_401_in_doubt(world: World) -> None:
    """A 401 says nothing about an earlier send: in doubt it stays unknown."""
    client = world.open_client(retry=ONE_SEND)
    world.sandbox.fault("lost_reply")
    client.charge(ORDER)
    world.sandbox.revoke(Sandbox.api_key)
    with pytest.raises(ConfigurationError):
        client.charge(ORDER)
    assert (world.state(), world.paid()) == (State.UNKNOWN, 1)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_not_followed(either: World, status: int) -> None:
    """A redirect is never followed, on a POST or a GET: it proves nothing, and the key goes nowhere else (F32)."""
    hosts: list[str] = []

    def hook(request: httpx.Request) -> httpx.Response | None:
        hosts.append(request.url.host)
        if request.method == "POST":
            return httpx.Response(status, headers={"Location": "https://elsewhere.invalid/v1/payment_intents"})
        return None

    either.hooks.append(hook)
    charge = either.open_client(retry=ONE_SEND).charge(ORDER)
    assert (charge.state, charge.sends) == (State.UNKNOWN, 1)
    assert set(hosts) == {"api.stripe.com"}


def test_redirect_of_the_sandbox(world: World) -> None:
    """After a redirect the same request is sent again to the same place, and charges once (F32)."""
    world.sandbox.fault("redirect_302")
    assert (world.open_client().charge(ORDER).state, world.paid()) == (State.SUCCEEDED, 1)


def test_wrong_amount_is_conflict(either: World) -> None:
    """A body with another amount is `conflict`: never a success, never sent again, settled by a look-up (F56, S7)."""
    either.sandbox.fault("wrong_amount")
    client = either.open_client()
    charge = client.charge(ORDER)
    assert (charge.state, charge.provider_charge_id, charge.sends) == (State.CONFLICT, None, 1)
    (charge,) = client.resume()  # the list names the right amount
    assert (charge.state, charge.sends, either.paid()) == (State.SUCCEEDED, 1, 1)


@pytest.mark.parametrize(
    "changed", [{"amount": 1}, {"currency": "eur"}, {"livemode": True}, {"metadata": {"paycli_key": "pc1_other"}}]
)
def test_answer_that_is_not_ours_is_conflict(world: World, changed: dict[str, object]) -> None:
    """An answer of another amount, currency, mode or key is `conflict` and stays one while nothing is proven (F35)."""

    def hook(request: httpx.Request) -> httpx.Response | None:
        if request.method != "POST":
            return None
        answer = world.sandbox.transport().handle_request(request).json()
        return httpx.Response(200, json={**answer, **changed})

    world.hooks.append(hook)
    charge = world.open_client().charge(ORDER)
    assert (charge.state, charge.sends) == (State.CONFLICT, 1)
    assert world.open_client().charge(ORDER).sends == 1


def test_conflict_of_the_key(world: World) -> None:
    """A key that another request owns is `conflict`: never a new key, and absent only by proof (F45)."""
    world.open_client().prepare(ORDER)
    key = world.row()["idempotency_key"]
    with httpx.Client(transport=world.sandbox.transport(), base_url="https://api.stripe.com") as other:
        form = {"amount": "1", "currency": "usd"}
        headers = {"Authorization": f"Bearer {Sandbox.api_key}", "Idempotency-Key": key}
        assert other.post("/v1/payment_intents", data=form, headers=headers).status_code == 200
    client = world.open_client()
    assert client.charge(ORDER).state is State.CONFLICT
    for hours in (0, 12, 20):
        world.clock.advance(hours=hours)
        client.charge(ORDER)
    assert {sent.idempotency_key for sent in world.sends} == {key}
    assert world.paid() == 0


@pytest.mark.parametrize(("should_retry", "sends"), [("false", 1), ("true", 4), (None, 4)])
def test_should_retry(world: World, should_retry: str | None, sends: int) -> None:
    """Stripe-Should-Retry: false ends the sends, and means "look it up", not "not charged" (STRIPE.md §1.7)."""
    headers = {} if should_retry is None else {"Stripe-Should-Retry": should_retry}
    caught = world.answer(503, {"error": {"type": "api_error"}}, times=9, headers=headers)
    charge = world.open_client().charge(ORDER)
    assert (charge.state, len(caught)) == (State.UNKNOWN, sends)
    assert ("GET /v1/payment_intents" in world.asked) == (should_retry == "false")


def test_decline_is_final(either: World) -> None:
    """A decline is one send and final; asked again nothing is sent (F43, F07)."""
    client = either.open_client()
    charge = client.charge(DECLINED)
    assert (charge.state, charge.reason, charge.sends) == (State.DECLINED, "card_declined generic_decline", 1)
    before = either.asked
    assert (client.charge(DECLINED), either.asked) == (charge, before)


def test_final_sends_nothing(either: World) -> None:
    """A charge already final is returned as it is by every process, with no request at all (F07)."""
    charge = either.open_client().charge(ORDER)
    before = either.asked
    assert either.open_client().charge(ORDER) == charge
    assert either.asked == before


def test_provider_that_cannot_be_asked(either: World) -> None:
    """When nobody answers whose key this is nothing is sent: the row stays prepared (exit 3)."""
    either.open_client().prepare(ORDER)
    either.sandbox.fault("lost_request", times=9, on="GET /v1/account")
    charge = either.open_client().charge(ORDER)
    assert (charge.state, charge.sends, either.sends) == (State.PREPARED, 0, [])


def test_first_charge_of_an_unbound_store(world: World) -> None:
    """A store that belongs to nobody yet cannot compute a key: without the provider nothing is written."""
    world.sandbox.fault("lost_request", times=9, on="GET /v1/account")
    with pytest.raises(ProviderUnavailable):
        world.open_client().charge(ORDER)
    assert world.sql("SELECT count(*) FROM pending_charges") == [(0,)]


# Credentials


def test_key_of_another_account(either: World) -> None:
    """An API key of another account is refused before a send, and the row stays as it was (F53, S11)."""
    either.open_client().prepare(ORDER)
    before = either.row()
    other = Sandbox(account="acct_other", time=either.clock.true_time)
    with pytest.raises(ConfigurationError, match="acct_other"):
        either.open_client(provider=other).charge(ORDER)
    assert [sent.path for sent in other.requests] == ["/v1/account"]
    assert either.row() == before


def test_key_of_another_mode(either: World) -> None:
    """A live key never opens a test store: refused without a request (F52, S11)."""
    either.open_client().prepare(ORDER)
    before = (either.row(), either.asked)
    with pytest.raises(ConfigurationError, match="live mode"):
        either.open_client("sk_live_sandbox").charge(ORDER)
    assert (either.row(), either.asked) == before


def test_another_namespace(world: World) -> None:
    """A service of another namespace is refused without a request."""
    world.open_client().prepare(ORDER)
    before = world.asked
    with pytest.raises(ConfigurationError, match="namespace"):
        world.open_client(namespace="other").charge(ORDER)
    assert world.asked == before


def test_restricted_key(either: World) -> None:
    """A restricted key may not ask for its account (403): PAYCLI_STRIPE_ACCOUNT must name it, and then it charges."""
    with pytest.raises(ConfigurationError, match="PAYCLI_STRIPE_ACCOUNT"):
        either.open_client("rk_test_sandbox").charge(ORDER)
    assert either.sends == []
    declared = either.open_client("rk_test_sandbox", account=either.sandbox.account)
    assert declared.charge(ORDER).state is State.SUCCEEDED


def test_declared_account_must_agree(world: World) -> None:
    """PAYCLI_STRIPE_ACCOUNT of another account is refused, by the store's word and by the provider's."""
    with pytest.raises(ConfigurationError, match="PAYCLI_STRIPE_ACCOUNT says acct_other"):
        world.open_client(account="acct_other").charge(ORDER)
    world.open_client().prepare(ORDER)
    with pytest.raises(ConfigurationError, match="PAYCLI_STRIPE_ACCOUNT says acct_other"):
        world.open_client(account="acct_other").charge(ORDER)
    assert world.sends == []


@pytest.mark.parametrize("again", ["charge", "resume"])
def test_in_doubt_under_another_key(either: World, again: str) -> None:
    """A row in doubt that was sent under another API key is looked up before it is sent again (DESIGN §5)."""
    either.lose("lost_reply")
    client = either.open_client("sk_test_rotated", retry=ONE_SEND)
    charge = client.charge(ORDER) if again == "charge" else client.resume()[0]
    assert (charge.state, len(either.sends), either.paid()) == (State.SUCCEEDED, 1, 1)


def test_in_doubt_under_another_key_and_not_found(world: World) -> None:
    """What the look-up does not find is sent again under the new API key, same idempotency key, same bytes."""
    world.lose()
    client = world.open_client("sk_test_rotated", retry=ONE_SEND)
    charge = client.charge(ORDER)
    lists, post = ["GET /v1/payment_intents", "GET /v1/charges"], "POST /v1/payment_intents"
    assert world.asked[-4:] == ["GET /v1/account", *lists, post]
    assert (charge.state, charge.sends, world.paid()) == (State.SUCCEEDED, 2, 1)
    assert_same_request(world)


def test_in_doubt_under_another_key_and_not_looked_up(world: World) -> None:
    """When the look-up fails nothing is sent under the new API key."""
    world.lose()
    world.sandbox.fault("lost_request", times=9, on="GET /v1/charges")
    charge = world.open_client("sk_test_rotated", retry=ONE_SEND).charge(ORDER)
    assert (charge.state, len(world.sends)) == (State.UNKNOWN, 1)
