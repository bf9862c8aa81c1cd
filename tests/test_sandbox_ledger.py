"""Hands on the sandbox's ledger: what `change` and `remove` do to objects, lists and cursors."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from gateway_client.sandbox import Sandbox
from tests.sandbox_kit import assert_valid, create, error_of, in_process

START = 1_800_000_000
KINDS = ("charge", "payment_intent")


class Time:
    """The time that the sandbox's clock is given."""

    now = START


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def sandbox(time: Time) -> Sandbox:
    return Sandbox(time=lambda: float(time.now))


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[httpx.Client]:
    with in_process(sandbox) as client:
        yield client


def make(client: httpx.Client, kind: str, **form: str) -> str:
    """A new object of this kind; the id."""
    intent = create(client, **form).json()
    return str(intent["latest_charge"] if kind == "charge" else intent["id"])


def get(client: httpx.Client, kind: str, object_id: str) -> dict[str, Any]:
    response = client.get(f"/v1/{kind}s/{object_id}")
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def page(client: httpx.Client, kind: str, **params: str | int) -> list[str]:
    """The ids of one page."""
    response = client.get(f"/v1/{kind}s", params=params)
    assert response.status_code == 200, response.text
    return [item["id"] for item in response.json()["data"]]


def walk(client: httpx.Client, kind: str, cursor: str, limit: int) -> list[str]:
    """The ids of all pages, newest first, whichever end they are read from."""
    found = page(client, kind, limit=limit) if cursor == "starting_after" else page(client, kind, limit=100)[-1:]
    while True:
        next_to = found[-1] if cursor == "starting_after" else found[0]
        more = page(client, kind, limit=limit, **{cursor: next_to})
        if not more:
            return found
        found = found + more if cursor == "starting_after" else more + found


# --- change


@pytest.mark.parametrize("kind", KINDS)
def test_change_is_seen_wherever_the_object_is_read(client: httpx.Client, sandbox: Sandbox, kind: str) -> None:
    """The changed fields, and no others, are new in the object, in lists and in the ledger."""
    object_id = make(client, kind)
    before = get(client, kind, object_id)
    fields = {"amount": 2099, "currency": "eur", "status": "canceled", "metadata": {"paycli_intent": "order_43"}}
    sandbox.change(object_id, **fields)
    assert get(client, kind, object_id) == before | fields
    assert client.get(f"/v1/{kind}s").json()["data"] == [before | fields]
    assert (sandbox.charges if kind == "charge" else sandbox.payment_intents) == (before | fields,)


def test_change_of_one_object_changes_no_other(client: httpx.Client, sandbox: Sandbox) -> None:
    """A changed charge leaves its intent as it was, and the other way round: so the two can be made to disagree."""
    charge_id = make(client, "charge")
    (charge,), (intent,) = sandbox.charges, sandbox.payment_intents
    sandbox.change(charge_id, amount=1, status="failed", metadata={})
    assert sandbox.payment_intents == (intent,)
    sandbox.change(intent["id"], amount=2, status="canceled", metadata={"a": "b"})
    assert sandbox.charges == (charge | {"amount": 1, "status": "failed", "metadata": {}},)


def test_change_counts(client: httpx.Client, sandbox: Sandbox) -> None:
    """What the ledger counts as succeeded is what it says after the change."""
    first, second = make(client, "charge"), make(client, "charge")
    sandbox.change(first, status="failed")
    sandbox.change(second, metadata={"paycli_intent": "order_43"})
    assert sandbox.succeeded() == {"order_43": 1}


def test_change_keeps_a_copy(client: httpx.Client, sandbox: Sandbox) -> None:
    """Whoever changes the ledger may go on with the values it gave."""
    metadata = {"paycli_intent": "order_43"}
    charge_id = make(client, "charge")
    sandbox.change(charge_id, metadata=metadata)
    metadata["paycli_intent"] = "order_44"
    assert sandbox.charges[0]["metadata"] == {"paycli_intent": "order_43"}


def test_saved_answer_stays(client: httpx.Client, sandbox: Sandbox) -> None:
    """A request that is repeated under its key gets the answer it got first, whatever was done to the ledger."""
    first = create(client, key="k1").json()
    sandbox.change(first["id"], amount=1)
    sandbox.remove(first["latest_charge"])
    assert create(client, key="k1").json() == first


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("amuont", 1, "has no field 'amuont'"),
        ("id", "ch_x", "`id` cannot be changed"),
        ("object", "refund", "`object` cannot be changed"),
        ("created", "2027-01-15", "`created` must be whole seconds since 1970, an int, not str"),
        ("created", datetime(2027, 1, 15, tzinfo=UTC), "not datetime"),
        ("created", 1.5, "not float"),
        ("created", True, "not bool"),
        ("created", None, "not NoneType"),
    ],
)
def test_a_change_that_cannot_be_is_no_change(
    client: httpx.Client, sandbox: Sandbox, kind: str, field: str, value: object, problem: str
) -> None:
    """A field that is not there or stands fast, and a `created` that is no int, are named, and nothing is changed."""
    object_id = make(client, kind)
    before = get(client, kind, object_id)
    with pytest.raises(ValueError, match=problem):
        sandbox.change(object_id, **{"amount": 1, field: value})
    assert get(client, kind, object_id) == before
    assert page(client, kind) == [object_id]


def test_a_value_that_is_not_json_is_no_change(client: httpx.Client, sandbox: Sandbox) -> None:
    """A value that could not be sent is refused, before anything is changed."""
    charge_id = make(client, "charge")
    before = sandbox.charges
    with pytest.raises(TypeError, match="not JSON serializable"):
        sandbox.change(charge_id, created=START - 9, amount=1, metadata={"a": object()})
    assert sandbox.charges == before
    assert page(client, "charge", **{"created[gte]": START}) == [charge_id]


@pytest.mark.parametrize("object_id", ["ch_x", "pi_x", "cus_1", ""])
def test_an_id_that_is_not_there_is_named(client: httpx.Client, sandbox: Sandbox, object_id: str) -> None:
    """Changing or removing what the ledger does not have is a LookupError with the id."""
    make(client, "charge")
    before = sandbox.charges, sandbox.payment_intents
    with pytest.raises(LookupError, match=f"no charge or payment intent '{object_id}'"):
        sandbox.change(object_id, amount=1)
    with pytest.raises(LookupError, match=f"no charge or payment intent '{object_id}'"):
        sandbox.remove(object_id)
    assert (sandbox.charges, sandbox.payment_intents) == before


def test_what_is_due_happens_before_the_change(client: httpx.Client, sandbox: Sandbox, time: Time) -> None:
    """A debit that is settled by now does not overwrite the change afterwards."""
    charge_id = make(client, "charge", payment_method="pm_usBankAccount")
    assert sandbox.charges[0]["status"] == "pending"
    time.now += 3600
    sandbox.change(charge_id, status="failed")
    assert sandbox.charges[0]["status"] == "failed"


@pytest.mark.parametrize("kind", KINDS)
def test_changed_created_moves_the_object(client: httpx.Client, sandbox: Sandbox, time: Time, kind: str) -> None:
    """Order, `created` ranges and cursors go by the new `created`; equal ones stay ordered by arrival."""
    made = []
    for _ in range(5):
        made.append(make(client, kind))
        time.now += 10
    oldest, second, third, fourth, newest = made
    sandbox.change(oldest, created=START + 30)  # the second of the fourth, which arrived later
    assert page(client, kind) == [newest, fourth, oldest, third, second]
    assert page(client, kind, **{"created[gte]": START + 30}) == [newest, fourth, oldest]
    assert page(client, kind, **{"created[lt]": START + 30}) == [third, second]
    assert page(client, kind, created=START) == []
    assert page(client, kind, starting_after=oldest) == [third, second]
    assert page(client, kind, ending_before=oldest) == [newest, fourth]
    assert get(client, kind, oldest)["created"] == START + 30


# --- remove


@pytest.mark.parametrize("kind", KINDS)
def test_removed_object_is_gone(client: httpx.Client, sandbox: Sandbox, kind: str) -> None:
    """A removed object is in no list and not in the ledger, and its id names nothing any more."""
    kept, removed = make(client, kind), make(client, kind)
    sandbox.remove(removed)
    param = "charge" if kind == "charge" else "intent"
    assert error_of(client.get(f"/v1/{kind}s/{removed}")) == (404, "resource_missing", param)
    assert page(client, kind) == [kept]
    assert [item["id"] for item in (sandbox.charges if kind == "charge" else sandbox.payment_intents)] == [kept]
    for cursor in ("starting_after", "ending_before"):
        answer = client.get(f"/v1/{kind}s", params={cursor: removed})
        assert error_of(answer) == (400, "resource_missing", cursor)
    with pytest.raises(LookupError):
        sandbox.remove(removed)


def test_removed_charge_is_still_named_by_its_intent(client: httpx.Client, sandbox: Sandbox) -> None:
    """The intent of a removed charge is as it was, and names it."""
    charge_id = make(client, "charge")
    intents = sandbox.payment_intents
    sandbox.remove(charge_id)
    assert sandbox.charges == ()
    assert sandbox.succeeded() == {}
    assert sandbox.payment_intents == intents
    assert intents[0]["latest_charge"] == charge_id
    assert_valid("payment_intent", get(client, "payment_intent", intents[0]["id"]))


def test_removed_intent_is_still_named_by_its_charge(client: httpx.Client, sandbox: Sandbox) -> None:
    """The charge of a removed intent is as it was, and names it; nothing can be done with the intent."""
    intent_id = make(client, "payment_intent")
    charges = sandbox.charges
    sandbox.remove(intent_id)
    assert sandbox.charges == charges
    assert page(client, "charge", payment_intent=intent_id) == [charges[0]["id"]]
    assert error_of(client.post(f"/v1/payment_intents/{intent_id}/cancel")) == (404, "resource_missing", "intent")
    assert error_of(client.post(f"/v1/payment_intents/{intent_id}/confirm")) == (404, "resource_missing", "intent")


def test_removed_charge_does_not_come_back(client: httpx.Client, sandbox: Sandbox, time: Time) -> None:
    """A debit whose charge was removed settles at the intent only."""
    sandbox.remove(make(client, "charge", payment_method="pm_usBankAccount"))
    time.now += 3600
    assert sandbox.charges == ()
    assert sandbox.payment_intents[0]["status"] == "succeeded"


@pytest.mark.parametrize("kind", KINDS)
def test_removal_between_two_pages(client: httpx.Client, sandbox: Sandbox, kind: str) -> None:
    """Whoever pages sees everything else exactly once, whether what goes was seen or not."""
    made = [make(client, kind) for _ in range(7)][::-1]
    first = page(client, kind, limit=3)
    sandbox.remove(made[0])  # seen
    sandbox.remove(made[4])  # not seen yet
    assert first == made[:3]
    assert page(client, kind, limit=3, starting_after=first[-1]) == [made[3], made[5], made[6]]
    assert page(client, kind, limit=3, ending_before=made[5]) == made[1:4]


@pytest.mark.parametrize("kind", KINDS)
def test_arrivals_after_a_removal(client: httpx.Client, sandbox: Sandbox, kind: str) -> None:
    """What arrives after a removal, in the same second, is newer than all that arrived before."""
    removed, *made = [make(client, kind) for _ in range(4)]
    sandbox.remove(removed)
    made += [make(client, kind) for _ in range(4)]
    assert page(client, kind) == made[::-1]
    assert walk(client, kind, "starting_after", 1) == made[::-1]
    assert walk(client, kind, "ending_before", 1) == made[::-1]


@pytest.mark.parametrize("seed", range(5))
def test_lists_are_right_after_anything(client: httpx.Client, sandbox: Sandbox, time: Time, seed: int) -> None:
    """After any sequence of arrivals, changes and removals, lists are what sorting by hand gives."""
    chance = random.Random(seed)
    places: dict[str, tuple[int, int]] = {}
    for step in range(40):
        todo = chance.choice(("arrive", "arrive", "change", "remove")) if places else "arrive"
        if todo == "arrive":
            time.now += chance.randrange(2)
            places[make(client, "charge")] = (time.now, step)
            continue
        touched = chance.choice(sorted(places))
        if todo == "change":
            places[touched] = (START + chance.randrange(12), places[touched][1])
            sandbox.change(touched, created=places[touched][0])
        else:
            sandbox.remove(touched)
            del places[touched]
        expected = sorted(places, key=lambda charge_id: places[charge_id], reverse=True)
        bound = START + chance.randrange(12)
        assert page(client, "charge", limit=100) == expected
        assert page(client, "charge", limit=100, **{"created[gt]": bound}) == [
            charge_id for charge_id in expected if places[charge_id][0] > bound
        ]
        for cursor in ("starting_after", "ending_before") if places else ():
            assert walk(client, "charge", cursor, chance.randrange(1, 5)) == expected
