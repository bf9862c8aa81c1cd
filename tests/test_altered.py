"""What was frozen is what is sent: a row whose body and numbers disagree, or whose seal does not fit, stays here."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import parse_qsl, urlencode

import pytest

from gateway_client import Money, NeedsPerson, PaymentIntent, State
from tests.kit import KINDS, ONE_SEND, ORDER, World

SAVED = replace(ORDER, customer="cus_1", payment_method="pm_card_mastercard")


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with World(request.param) as made:
        yield made


def write_body(world: World, body: str) -> None:
    """Somebody writes another body into the table, with its hash."""
    world.sql("UPDATE pending_charges SET body = ?, body_sha256 = ?", (body, hashlib.sha256(body.encode()).hexdigest()))


def form(world: World) -> dict[str, str]:
    return dict(parse_qsl(world.row()["body"]))


def refused(world: World, intent: PaymentIntent = ORDER) -> str:
    """No way to send it sends it; why not."""
    before = world.row()
    with pytest.raises(NeedsPerson) as error:
        world.open_client().charge(intent)
    (left,) = world.open_client().resume()
    assert (left.state, left.reason) == (State.PREPARED, str(error.value))
    assert (world.sends, world.row()) == ([], before)
    return str(error.value)


CHANGED: dict[str, dict[str, str | None]] = {
    "amount": {"amount": "9000000"},
    "currency": {"currency": "eur"},
    "customer": {"customer": "cus_2"},
    "no customer": {"customer": None},
    "payment method": {"payment_method": "pm_card_visa"},
    "not confirmed": {"confirm": "false"},
    "intent": {"metadata[paycli_intent]": "order_43"},
    "attempt": {"metadata[paycli_attempt]": "2"},
    "namespace": {"metadata[paycli_namespace]": "other"},
    "key": {"metadata[paycli_key]": "pc1_other"},
    "no key": {"metadata[paycli_key]": None},
    "money to somebody else": {"transfer_data[destination]": "acct_2"},
    "another account": {"on_behalf_of": "acct_2"},
    "a fee": {"application_fee_amount": "100"},
    "held, not taken": {"capture_method": "manual"},
    "a list in a value's place": {"customer[]": "cus_2"},
}


@pytest.mark.parametrize("kind", CHANGED)
def test_a_body_that_is_not_the_rows(world: World, kind: str) -> None:
    """E1: a body that was changed together with its hash, or that holds what we never send, is not sent."""
    world.open_client().prepare(SAVED)
    fields = {**form(world), **CHANGED[kind]}
    write_body(world, urlencode([(name, value) for name, value in fields.items() if value is not None]))
    assert "changed by hand" in refused(world, SAVED)


@pytest.mark.parametrize("body", ["{}&amount=9000", "amount=9000&{}", "{}&", "{};amount=9000", ""])
def test_a_body_that_two_readers_read_differently(world: World, body: str) -> None:
    """E1: a body with a name twice, or in another form than ours, is not sent."""
    world.open_client().prepare(ORDER)
    write_body(world, body.format(world.row()["body"]))
    assert "changed by hand" in refused(world)


@pytest.mark.parametrize(
    ("column", "value"),
    [("amount", 9000000), ("currency", "eur"), ("customer", "cus_2"), ("payment_method", "pm_card_mastercard")],
)
def test_a_row_that_is_not_the_bodys(world: World, column: str, value: object) -> None:
    """E1: a row whose amount, currency, customer or payment method was changed beside its body is not sent."""
    world.open_client().prepare(ORDER)
    world.sql(f"UPDATE pending_charges SET {column} = ?", (value,))
    (left,) = world.open_client().resume()
    assert (left.state, "changed by hand" in (left.reason or ""), world.sends) == (State.PREPARED, True, [])


def test_what_was_sent_is_not_sent_again_changed(world: World) -> None:
    """E1: a charge in doubt whose body was changed is not sent again; what became of it is still found."""
    world.lose("lost_reply")
    write_body(world, world.row()["body"].replace("amount=2000", "amount=9000"))
    with pytest.raises(NeedsPerson, match="changed by hand"):
        world.open_client(retry=ONE_SEND).charge(ORDER)
    assert len(world.sends) == 1
    world.close_and_wait()
    assert (world.open_client().charge(ORDER).state, world.paid()) == (State.SUCCEEDED, 1)


# The seal -------------------------------------------------------------------------------------------------------------

OLD, NEW = "an-old-secret-of-the-seal-drawn-by-chance", "a-new-secret-of-the-seal-drawn-by-chance"


def ninety_thousand(world: World) -> PaymentIntent:
    """Somebody changes body, hash and amount together; the intent as it would be then."""
    write_body(world, world.row()["body"].replace("amount=2000", "amount=9000000"))
    world.sql("UPDATE pending_charges SET amount = 9000000")
    return replace(ORDER, amount=Money(9000000, "usd"))


def test_without_a_secret_the_table_is_believed(world: World) -> None:
    """E1: who may write the table can charge what he likes while no secret is set: the limits say so."""
    world.open_client().prepare(ORDER)
    ninety_thousand(world)
    (charged,) = world.open_client().resume()
    assert (charged.state, charged.amount) == (State.SUCCEEDED, 9000000)


def test_a_sealed_row_is_sent(world: World) -> None:
    """E1: with a secret each row is sealed when it is written, and is sent by every process that has the secret."""
    world.open_client(seal_secret=NEW).prepare(ORDER)
    assert world.row()["seal"] is not None
    assert world.open_client(seal_secret=NEW).charge(ORDER).state is State.SUCCEEDED
    assert world.open_client(seal_secret=NEW).charge(replace(ORDER, intent_id="order_43")).state is State.SUCCEEDED


CHANGES = {
    "amount": "amount = 9000000",
    "API version": "api_version = '2020-08-27'",
    "another row's seal": "seal = (SELECT seal FROM pending_charges WHERE intent_id = 'order_43')",
    "half of it": "seal = substr(seal, 1, 20)",
    "no text of ours": "seal = substr(seal, 1, 9) || 'ü'",
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_seal_that_does_not_fit(world: World, kind: str) -> None:
    """E1: with a secret set, a row that was changed in whatever way that agrees with itself is not sent."""
    client = world.open_client(seal_secret=NEW)
    client.charge(replace(ORDER, intent_id="order_43"))
    client.prepare(ORDER)
    ninety_thousand(world) if kind == "amount" else None
    world.sql(f"UPDATE pending_charges SET {CHANGES[kind]} WHERE intent_id = 'order_42'")
    (left,) = world.open_client(seal_secret=NEW).resume()
    assert (left.state, "its seal does not fit" in (left.reason or "")) == (State.PREPARED, True)
    assert len(world.sends) == 1


def test_a_row_from_before_the_secret(world: World) -> None:
    """E1: a row without a seal is not sent once a secret is set; the error says so, and cancelling it is the way on."""
    world.open_client().prepare(ORDER)
    client = world.open_client(seal_secret=NEW)
    with pytest.raises(NeedsPerson, match="no seal: it was written before the secret was set") as error:
        client.charge(ORDER)
    assert "paycli cancel" in str(error.value)
    assert world.sends == []
    assert client.cancel("order_42", because="from before the secret").state is State.CANCELED
    assert (client.charge(ORDER, attempt=2).state, world.paid()) == (State.SUCCEEDED, 1)


def test_a_rotated_secret(world: World) -> None:
    """E1: a row sealed under another secret is not sent; named beside the new one, the old secret is believed."""
    world.open_client(seal_secret=OLD).prepare(ORDER)
    with pytest.raises(NeedsPerson, match="sealed under another secret") as error:
        world.open_client(seal_secret=NEW).charge(ORDER)
    assert (OLD in str(error.value), NEW in str(error.value), world.sends) == (False, False, [])
    assert world.open_client(seal_secret=f"{NEW} {OLD}").charge(ORDER).state is State.SUCCEEDED
    world.open_client(seal_secret=f"{NEW} {OLD}").prepare(replace(ORDER, intent_id="order_43"))
    assert world.open_client(seal_secret=NEW).charge(replace(ORDER, intent_id="order_43")).state is State.SUCCEEDED


def test_a_secret_taken_away(world: World) -> None:
    """E1: without a secret a seal is not looked at: it protects where it is set."""
    world.open_client(seal_secret=OLD).prepare(ORDER)
    assert world.open_client().charge(ORDER).state is State.SUCCEEDED
