"""Credentials: of another account, of another mode, restricted, revoked, rotated; and what a store refuses."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest

from gateway_client import Charge, ConfigurationError, Sandbox, State
from tests.kit import BOUNDS, KINDS, ONE_SEND, ORDER, START, World
from tests.kit_clients import AnyClient
from tests.test_sends import ACCOUNT, CREATE, LIMITED, LISTS


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


@pytest.fixture(params=KINDS)
def either(request: pytest.FixtureRequest) -> Iterator[World]:
    """The world of each of the two clients."""
    with World(request.param) as world:
        yield world


# Whose


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


@pytest.mark.parametrize("declared", [True, False])
def test_restricted_key(either: World, *, declared: bool) -> None:
    """A restricted key may not ask for its account; a denial that names the account says it, and then it charges."""
    account = either.sandbox.account if declared else None
    assert either.open_client("rk_test_sandbox", account=account).charge(ORDER).state is State.SUCCEEDED


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize(
    "denial",
    [
        {"error": {"type": "invalid_request_error", "message": "This key may not do that."}},
        {"error": {"type": "invalid_request_error", "message": "Neither acct_1 nor acct_2."}},
    ],
)
def test_restricted_key_of_nobody_knows_whom(either: World, denial: object, *, declared: bool) -> None:
    """A key whose account the provider does not say sends nothing, whatever account was declared (F53)."""
    either.open_client().prepare(ORDER)
    before = either.row()
    account = either.sandbox.account if declared else None
    either.answer(403, denial, on=("GET", "/v1/account"), times=9)
    with pytest.raises(ConfigurationError, match="permission to read its account"):
        either.open_client("rk_test_sandbox", account=account).charge(ORDER)
    assert (either.sends, either.row()) == ([], before)


def test_declared_account_must_agree(world: World) -> None:
    """PAYCLI_STRIPE_ACCOUNT of another account is refused, by the store's word and by the provider's."""
    with pytest.raises(ConfigurationError, match="PAYCLI_STRIPE_ACCOUNT says acct_other"):
        world.open_client(account="acct_other").charge(ORDER)
    world.open_client().prepare(ORDER)
    with pytest.raises(ConfigurationError, match="PAYCLI_STRIPE_ACCOUNT says acct_other"):
        world.open_client(account="acct_other").charge(ORDER)
    assert world.sends == []


# Revoked and rotated


def test_401_stops_every_send(either: World) -> None:
    """A revoked key stops `resume` at its first 401 and names the setting; the other rows are as they were (F46)."""
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
    assert after[1:] == before[1:]
    assert (after[0]["state"], len(either.sends)) == (State.UNKNOWN, 2)
    client = either.open_client("sk_test_another")
    client.resume()
    assert [either.state(f"order_{number}") for number in range(3)] == [State.UNKNOWN, *[State.SUCCEEDED] * 2]
    assert [either.paid(f"order_{number}") for number in range(3)] == [0, 1, 1]


def test_401_in_doubt(world: World) -> None:
    """A 401 says nothing about an earlier send: in doubt it stays unknown."""
    client = world.open_client(retry=ONE_SEND)
    world.sandbox.fault("lost_reply")
    client.charge(ORDER)
    world.sandbox.revoke(Sandbox.api_key)
    with pytest.raises(ConfigurationError):
        client.charge(ORDER)
    assert (world.state(), world.paid()) == (State.UNKNOWN, 1)


@pytest.mark.parametrize("again", ["charge", "resume"])
def test_in_doubt_under_another_key(either: World, again: str) -> None:
    """A row in doubt that was sent under another API key is looked up before it is sent again (DESIGN §5)."""
    either.lose("lost_reply")
    client = either.open_client("sk_test_rotated", retry=ONE_SEND)
    charge = client.charge(ORDER) if again == "charge" else client.resume()[0]
    assert (charge.state, len(either.sends), either.paid()) == (State.SUCCEEDED, 1, 1)


def once_more(client: AnyClient, again: str) -> Charge:
    return client.charge(ORDER) if again == "charge" else client.resume()[0]


@pytest.mark.parametrize("status", [401, 429])
@pytest.mark.parametrize("again", ["charge", "resume"])
def test_refused_under_another_key_and_not_found(either: World, again: str, status: int) -> None:
    """What was refused, and a look-up a quiet time after it was held does not find, is sent under the new key (S1)."""
    either.answer(status, LIMITED, echo=True)
    with suppress(ConfigurationError):
        either.open_client(retry=ONE_SEND).charge(ORDER)
    client = either.open_client("sk_test_rotated", retry=ONE_SEND)
    for passed in (timedelta(0), BOUNDS.quiet - timedelta(seconds=1)):
        either.clock.advance(passed)
        charge = once_more(client, again)
        assert (charge.state, len(either.sends)) == (State.UNKNOWN, 0)
        assert "another API key" in (charge.reason or "")
        assert either.asked[-4:] == [ACCOUNT, *LISTS, ACCOUNT]
    either.clock.advance(seconds=1)
    charge = once_more(client, again)
    assert either.asked[-5:] == [ACCOUNT, *LISTS, ACCOUNT, CREATE]
    assert (charge.state, charge.sends, either.paid()) == (State.SUCCEEDED, 2, 1)


@pytest.mark.parametrize("again", ["charge", "resume"])
def test_in_doubt_under_another_key_and_not_found(either: World, again: str) -> None:
    """What was not answered may be a 500, rolled forward later: it is looked up under the new key, never sent (S1)."""
    either.lose()
    client = either.open_client("sk_test_rotated", retry=ONE_SEND)
    for at in (timedelta(0), BOUNDS.quiet, BOUNDS.key_life - timedelta(seconds=1), BOUNDS.key_life):
        either.clock.advance(START + at - either.clock.now)
        assert once_more(client, again).state is State.UNKNOWN
    either.clock.advance(BOUNDS.quiet_unproven)
    assert once_more(client, again).state is State.ABSENT
    assert (len(either.sends), either.paid()) == (1, 0)


def test_refused_under_another_key_and_not_looked_up(world: World) -> None:
    """When the look-up fails nothing is sent under the new API key, however much later."""
    world.answer(429, LIMITED, echo=True)
    world.open_client(retry=ONE_SEND).charge(ORDER)
    client = world.open_client("sk_test_rotated", retry=ONE_SEND)
    client.charge(ORDER)
    world.clock.advance(BOUNDS.quiet)
    world.sandbox.fault("lost_request", times=9, on="GET /v1/charges")
    assert (client.charge(ORDER).state, world.sends) == (State.UNKNOWN, [])
