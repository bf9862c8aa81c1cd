"""The idempotency key: never changes, differs where it must. Not here: that each send carries it (the flow's tests)."""

import asyncio
import base64
import hashlib
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_client import AsyncClient, Charge, Client, Money, PaymentIntent, Sandbox, State, Stripe
from gateway_client.errors import InvalidInput
from gateway_client.gateways.base import Binding
from gateway_client.intent import check_attempt, check_namespace, idempotency_key

FIELDS: dict[str, Any] = {
    "provider": "stripe",
    "mode": "test",
    "account": "acct_1",
    "namespace": "default",
    "operation": "create",
    "intent_id": "order_42",
    "attempt": 1,
}

# Frozen: a released version has sent these. If one fails, the code is wrong, not the vector.
VECTORS = [
    ({}, "pc1_bxtjijveimnqm5htfpvidda7rrm42szdzdacr4ekcfix65dcck2a"),
    ({"attempt": 2}, "pc1_zxdcsgpwmy4m3ljncquy7d7yrqtlugyb4honfioisdiug7dxsjcq"),
    ({"operation": "cancel"}, "pc1_g2mvm6r6trqu7wz66hok2mih7yne2vkx6d2ajtgsrcxhfw2xn5uq"),
    (
        {"mode": "live", "account": "acct_1PqRsTuVwXyZ", "namespace": "billing-eu", "intent_id": "order 7/é"},
        "pc1_76asvx352jdodtz7lfg3pft55usezbeqyncoedwahhazvs4wh2ua",
    ),
]


@pytest.mark.parametrize(("changed", "key"), VECTORS)
def test_pc1_never_changes(changed: dict[str, Any], key: str) -> None:
    """The keys of version pc1 are these, for ever."""
    assert idempotency_key(**{**FIELDS, **changed}) == key


def test_key_is_what_the_design_says() -> None:
    """The key is "pc1_" and the lower-case base32 of SHA-256 over the seven length-prefixed fields."""
    hashed = hashlib.sha256(b"6:stripe4:test6:acct_17:default6:create8:order_421:1").digest()
    key = idempotency_key(**FIELDS)
    assert key == "pc1_" + base64.b32encode(hashed).decode().lower().strip("=")
    assert len(key) == 56
    assert set(key[4:]) <= set("abcdefghijklmnopqrstuvwxyz234567")


def test_key_is_the_same_in_every_process() -> None:
    """A fresh process with another hash seed computes the same key as this one, on each call."""
    program = f"from gateway_client.intent import idempotency_key; print(idempotency_key(**{FIELDS!r}))"
    keys = {idempotency_key(**FIELDS), idempotency_key(**FIELDS)}
    for seed in ("0", "1", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "TZ": "Asia/Tokyo", "LC_ALL": "C"}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        keys.add(done.stdout.strip())
    assert keys == {VECTORS[0][1]}


@pytest.mark.parametrize("field", list(FIELDS))
def test_key_differs_in_each_field(field: str) -> None:
    """Another intent, attempt, account, mode, namespace, operation or provider has another key."""
    other = 2 if field == "attempt" else FIELDS[field] + "x"
    assert idempotency_key(**{**FIELDS, field: other}) != idempotency_key(**FIELDS)


@given(text=st.text("ab1:", max_size=12), cut=st.integers(0, 12), other_cut=st.integers(0, 12))
def test_key_knows_where_fields_end(text: str, cut: int, other_cut: int) -> None:
    """The same characters divided otherwise between two fields are another key."""
    keys = [idempotency_key(**{**FIELDS, "operation": text[:at], "intent_id": text[at:]}) for at in (cut, other_cut)]
    assert (keys[0] == keys[1]) == (text[:cut] == text[:other_cut])


@given(
    one=st.tuples(*[st.text("ab1:", max_size=3)] * 6, st.integers(1, 12)),
    other=st.tuples(*[st.text("ab1:", max_size=3)] * 6, st.integers(1, 12)),
)
def test_key_is_injective(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    """Two keys are equal exactly when all seven fields are."""
    keys = [idempotency_key(**dict(zip(FIELDS, fields, strict=True))) for fields in (one, other)]
    assert (keys[0] == keys[1]) == (one == other)


@pytest.mark.parametrize("attempt", [0, -1, True, 1.0, "1", None])
def test_attempt_is_counted_from_one(attempt: Any) -> None:
    """An attempt is exactly an int of 1 or more; 1.0 or "1" would be another spelling of the same key."""
    for refuse in (check_attempt, lambda given: idempotency_key(**{**FIELDS, "attempt": given})):
        with pytest.raises(InvalidInput) as caught:
            refuse(attempt)
        assert caught.value.field == "attempt"
    check_attempt(1)
    check_attempt(2)


@pytest.mark.parametrize("namespace", ["", "a" * 41, "Billing", "a b", "a_b", "é", "a\n", None, 1])
def test_namespace_is_plain(namespace: Any) -> None:
    """A namespace is 1 to 40 lower-case letters, digits and dashes."""
    with pytest.raises(InvalidInput) as caught:
        check_namespace(namespace)
    assert caught.value.field == "namespace"
    for good in ("default", "billing-eu-2", "a" * 40):
        check_namespace(good)


def test_the_keys_that_are_sent_never_change() -> None:
    """The operations in use are frozen as well: renaming one would send a charge in doubt under a second key."""
    binding = Binding("stripe", "test", "acct_1", "default")
    assert [binding.key(operation, "order_42", 1) for operation in ("charge", "cancel")] == [
        "pc1_cmnwilye3sfmsgtt4oqc6i6tvtuzeqrlichz6pp6zj6aqz3phpla",
        "pc1_g2mvm6r6trqu7wz66hok2mih7yne2vkx6d2ajtgsrcxhfw2xn5uq",
    ]


def test_a_lost_row_is_charged_under_its_old_key(tmp_path: Path) -> None:
    """When the row is lost, the next call computes the same key and bytes: a replay, not a second charge."""
    sandbox = Sandbox()
    path = tmp_path / "store.db"
    intent = PaymentIntent("order_42", Money(1999, "usd"), "pm_card_visa")
    with Client(Stripe(sandbox.api_key), database=f"sqlite:///{path}", transport=sandbox.transport()) as client:
        first = client.charge(intent)
        with closing(sqlite3.connect(path)) as connection, connection:
            for table in ("paycli_events", "paycli_sends", "pending_charges"):
                connection.execute(f"DELETE FROM {table}")
        again = client.charge(intent)
    assert (again.state, again.provider_charge_id) == (State.SUCCEEDED, first.provider_charge_id)
    assert len(sandbox.charges) == 1


def test_sync_and_async_compute_one_key(tmp_path: Path) -> None:
    """Both clients, on stores of their own, send one key for one intent: together they charge it once."""
    sandbox = Sandbox()
    intent = PaymentIntent("order_42", Money(1999, "usd"), "pm_card_visa")
    gateway = Stripe(sandbox.api_key)
    with Client(gateway, database=f"sqlite:///{tmp_path}/sync.db", transport=sandbox.transport()) as client:
        first = client.charge(intent)

    async def charge() -> Charge:
        url, door = f"sqlite:///{tmp_path}/async.db", sandbox.async_transport()
        async with AsyncClient(gateway, database=url, transport=door) as client:
            return await client.charge(intent)

    second = asyncio.run(charge())
    assert (second.idempotency_key, second.provider_charge_id) == (first.idempotency_key, first.provider_charge_id)
    assert len(sandbox.charges) == 1
