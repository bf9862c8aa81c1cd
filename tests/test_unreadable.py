"""Objects of a page that cannot be read: whose they may be, how a list goes on, and what a look-up concludes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import httpx
import msgspec
import pytest

from gateway_client import Client, NeedsPerson, State, Stripe, Worker
from gateway_client.gateways.base import Binding, Page, Reply
from gateway_client.outcome import CouldNotAsk
from gateway_client.proof import Expected
from tests.kit import KINDS, ONE_SEND, ORDER, World

INTENTS, CHARGES = "/v1/payment_intents", "/v1/charges"
API = Stripe("sk_test_1")
OURS = Binding("stripe", "test", "acct_1", "default")
Object = dict[str, Any]

BROKEN: list[Object] = [
    *({"status": None}, {"status": 7}, {"status": {}}),
    *({"amount": amount} for amount in ("2000", 19.99, True)),
    *({"created": created} for created in ("2026-11-20", 1.5)),
    *({"livemode": "false"}, {"currency": 7}, {"customer": {"object": "customer"}}, {"latest_charge": 7}, {"id": None}),
    *({"id": 7}, {"id": "\x1b[31m"}, {"payment_intent": []}, {"last_payment_error": "declined"}, {"captured": "yes"}),
]
"""Fields of a charge or an intent; not every one of them is of both."""


def claims(intent_id: str = "order_1", binding: Binding = OURS, **changes: Any) -> Object:
    names = {
        "namespace": binding.namespace,
        "intent": intent_id,
        "attempt": "1",
        "key": binding.key("charge", intent_id, 1),
    }
    return {f"paycli_{name}": value for name, value in {**names, **changes}.items()}


def made(path: str, number: int, **fields: Any) -> Object:
    kind = "payment_intent" if path == INTENTS else "charge"
    whole = {"id": f"x_{number}", "object": kind, "status": "succeeded", "amount": 2000, "currency": "usd"}
    return {**whole, "created": 1_800_000_000 - number, "metadata": {}, **fields}


def read(path: str, *data: object, has_more: bool = False, **fields: Any) -> Page | CouldNotAsk:
    body = {"object": "list", "url": path, "has_more": has_more, "data": data, **fields}
    return API.read_page(path, Reply(200, {}, msgspec.json.encode(body), 1))


def page(path: str, *data: object, has_more: bool = False) -> Page:
    found = read(path, *data, has_more=has_more)
    assert isinstance(found, Page)
    return found


# One page ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [INTENTS, CHARGES])
def test_what_can_be_read_beside_it(path: str) -> None:
    """B2: an object that cannot be read takes none of those beside it along, and is named by its id."""
    found = page(path, made(path, 1), made(path, 2, status=None), made(path, 3), has_more=True)
    assert [item.object_id for item in found.items] == ["x_1", "x_3"]
    assert [one.object_id for one in found.unreadable] == ["x_2"]
    assert (found.last_id, found.has_more) == ("x_3", True)
    oldest = page(path, made(path, 1), made(path, 2, status=None)).read_back_to
    assert oldest is not None
    assert oldest.timestamp() == 1_800_000_000 - 2


@pytest.mark.parametrize("path", [INTENTS, CHARGES])
@pytest.mark.parametrize("fields", BROKEN, ids=str)
def test_a_type_error_in_any_field(path: str, fields: Object) -> None:
    """B2: whatever field is of another type, a stranger's object is no reason to doubt, and one of ours is."""
    (name,) = fields
    if (path == INTENTS and name in ("payment_intent", "captured")) or (
        path == CHARGES and name in ("latest_charge", "last_payment_error")
    ):
        found = page(path, made(path, 1, **fields))
        assert (len(found.items), found.unreadable) == (1, ())
        return
    for metadata, ours in (({}, False), ({"order": "7"}, False), (claims(), True)):
        found = page(path, made(path, 1, metadata=metadata, **fields))
        (one,) = found.unreadable
        assert (found.items, one.may_be_of(OURS)) == ((), ours)
        assert one.object_id == (f"no_id_1_of_{path[4:]}" if name == "id" else "x_1")


@pytest.mark.parametrize(
    ("metadata", "ours"),
    [
        ({}, False),
        ({"paycli": "no name of ours", "deep": [{}]}, False),
        (claims("order_1", Binding("stripe", "test", "acct_1", "other")), False),
        (claims(), True),
        ({"paycli_intent": "order_1"}, True),
        ({"paycli_key": None}, True),
        ({"paycli_anything": 7}, True),
        (claims(namespace=["default"]), True),
        (claims(namespace="other"), True),  # a name alone is easily edited: the key is ours
        ([], True),
        ("", True),
        (7, True),
        (None, True),
    ],
    ids=str,
)
def test_whose_it_may_be(metadata: object, ours: bool) -> None:
    """B2: an unreadable object may be ours with any name of ours, or when its metadata cannot be read."""
    (one,) = page(CHARGES, made(CHARGES, 1, status=None, metadata=metadata)).unreadable
    assert one.may_be_of(OURS) is ours


@pytest.mark.parametrize("item", [None, 7, True, "x", [], [{}], 1.5], ids=str)
def test_no_object_at_all(item: object) -> None:
    """B2: what cannot be read as far as its metadata may be ours; it is named by where it stands."""
    found = page(CHARGES, item, made(CHARGES, 1), item, item, made(CHARGES, 2))
    names = ["no_id_1_of_charges", "no_id_1_of_charges_after_x_1", "no_id_2_of_charges_after_x_1"]
    assert [one.object_id for one in found.unreadable] == names
    assert [one.may_be_of(OURS) for one in found.unreadable] == [True] * 3
    assert ([one.object_id for one in found.items], found.last_id) == (["x_1", "x_2"], "x_2")


@pytest.mark.parametrize(
    ("fields", "ours"), [({"currency": "?"}, False), ({"metadata": {"order": "?"}}, True)], ids=str
)
def test_text_that_is_none(fields: Object, ours: bool) -> None:
    """B2: bytes that are no text within one object take none of those beside it along."""
    data = [made(CHARGES, 1, **fields), made(CHARGES, 2)]
    body = msgspec.json.encode({"object": "list", "url": CHARGES, "has_more": False, "data": data})
    found = API.read_page(CHARGES, Reply(200, {}, body.replace(b'"?"', b'"\xff"'), 1))
    assert isinstance(found, Page)
    assert (len(found.items), [one.may_be_of(OURS) for one in found.unreadable]) == (1, [ours])


@pytest.mark.parametrize("last", [None, {"id": None}, {"id": "\x1b[31m"}, {"id": "x" * 256}], ids=str)
def test_nothing_to_go_on_after(last: Object | None) -> None:
    """B2: a page that goes on after an object without a usable id is no answer; as a last page it is one."""
    item = None if last is None else made(CHARGES, 2, **last)
    found = read(CHARGES, made(CHARGES, 1), item, has_more=True)
    assert isinstance(found, CouldNotAsk)
    assert "nothing can be asked for after it" in found.reason
    assert len(page(CHARGES, made(CHARGES, 1), item).unreadable) == 1


def test_going_on_after_an_unreadable_one() -> None:
    """B2: the id of the last object is the cursor, whether the rest of it can be read or not."""
    found = page(CHARGES, made(CHARGES, 1), made(CHARGES, 2, status=None), has_more=True)
    assert found.last_id == "x_2"


def test_a_page_of_another_shape() -> None:
    """B2: what is no page of this list is no answer still, however little of it can be read."""
    broken = made(CHARGES, 1, status=None)
    for wrong in ({"url": INTENTS}, {"object": "search_result"}, {"has_more": None}, {"data": broken}, {"data": None}):
        body = {"object": "list", "url": CHARGES, "has_more": False, "data": [broken], **wrong}
        reply = Reply(200, {}, msgspec.json.encode(body), 1)
        assert isinstance(API.read_page(CHARGES, reply), CouldNotAsk), wrong
    assert isinstance(read(CHARGES, {**broken, "object": "payment_intent"}), CouldNotAsk)
    assert isinstance(read(CHARGES, *[broken] * 101), CouldNotAsk)


def test_what_is_new() -> None:
    """Unknown states and fields are no errors: the object is read."""
    found = page(CHARGES, made(CHARGES, 1, status="of_the_future", another={"deep": [1]}))
    assert (len(found.items), found.unreadable) == (1, ())


# Look-ups ------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=KINDS)
def either(request: pytest.FixtureRequest) -> Iterator[World]:
    with World(request.param) as world:
        yield world


def break_all(world: World, path: str = CHARGES, **fields: Any) -> None:
    """Break the objects of one list on the way, each beside what it was."""

    def hook(request: httpx.Request) -> httpx.Response | None:
        if (request.method, request.url.path) != ("GET", path):
            return None
        made = world.sandbox.charges if path == CHARGES else world.sandbox.payment_intents
        data = [{**one, **fields} for one in made]
        return httpx.Response(200, json={"object": "list", "url": path, "has_more": False, "data": data})

    world.hooks.append(hook)


def test_a_stranger_is_no_reason_to_doubt(either: World) -> None:
    """B2: absence is concluded beside a stranger's object that cannot be read, as beside any other."""
    either.lose()
    either.stranger_pays(500)
    either.close_and_wait()
    break_all(either, amount="500", metadata={})
    (charge,) = either.open_client(retry=ONE_SEND).resume()
    assert charge.state is State.ABSENT


@pytest.mark.parametrize("metadata", ["ours", "some name of ours", "none that can be read"])
def test_no_absence_beside_one_that_may_be_ours(either: World, metadata: str) -> None:
    """B2: an unreadable object that may be of an attempt keeps it from being called absent, and the reason names it."""
    either.lose()
    either.stranger_pays(500)
    either.close_and_wait()
    binding = either.binding
    carried = {"ours": claims(ORDER.intent_id, binding), "some name of ours": {"paycli_intent": 7}}.get(metadata)
    break_all(either, status=None, metadata=carried)
    (charge,) = either.open_client(retry=ONE_SEND).resume()
    (made,) = either.sandbox.charges
    assert charge.state is State.UNKNOWN
    assert f"{made['id']}, which cannot be read and may be of this attempt" in (charge.reason or "")


def test_one_of_another_attempt_of_ours(either: World) -> None:
    """B2: an unreadable object whose names say in full that it is of another attempt is no reason to doubt this one."""
    either.lose()
    either.stranger_pays(500)
    either.close_and_wait()
    break_all(either, status=None, metadata=claims("order_99", either.binding))
    (charge,) = either.open_client(retry=ONE_SEND).resume()
    assert charge.state is State.ABSENT


def test_our_names_and_amount_are_no_match(either: World) -> None:
    """B2: an object with our names, our amount and one field that cannot be read proves no success."""
    break_all(either, INTENTS, livemode="false")
    break_all(either, CHARGES, livemode="false")
    either.lose("lost_reply")
    either.close_and_wait()
    (charge,) = either.open_client(retry=ONE_SEND).resume()
    assert (charge.state, charge.provider_charge_id) == (State.UNKNOWN, None)
    assert "cannot be read and may be of this attempt" in (charge.reason or "")


@pytest.mark.parametrize("who", ["resume", "worker"])
def test_what_names_it_without_its_key(who: str) -> None:
    """B2: nor is it sent beside one that can be read, and names it under another key; the reason is told."""
    with World() as world:
        world.open_client().prepare(ORDER)
        world.stranger_pays(500)
        world.clock.advance(minutes=5)
        names = claims(ORDER.intent_id, world.binding, key="pc1_other")
        for path in (INTENTS, CHARGES):
            break_all(world, path, metadata=names)
        client, sends = world.open_client(retry=ONE_SEND), len(world.sends)
        if who == "resume":
            client.resume()
        else:
            Worker(cast("Client", client)).run(until_idle=True)
        assert (len(world.sends), world.state()) == (sends, State.PREPARED)
        assert "an object that names this attempt" in world.row()["reason"]


@pytest.mark.parametrize("who", ["resume", "worker"])
def test_what_is_looked_up_before_it_is_sent(who: str) -> None:
    """B2: what an older process has prepared is not sent beside an object that may be of it; the reason is told."""
    with World() as world:
        world.open_client().prepare(ORDER)
        world.stranger_pays(500)
        world.clock.advance(minutes=5)
        break_all(world, status=None, metadata=None)
        client = world.open_client(retry=ONE_SEND)
        sends = len(world.sends)
        if who == "resume":
            client.resume()
        else:
            Worker(cast("Client", client)).run(until_idle=True)
        (made,) = world.sandbox.charges
        assert (len(world.sends), world.state()) == (sends, State.PREPARED)
        assert made["id"] in world.row()["reason"]
        world.hooks.clear()
        world.clock.advance(minutes=30)
        world.open_client().resume()
        assert (world.state(), world.paid()) == (State.SUCCEEDED, 1)


@pytest.mark.parametrize("ours", [True, False])
def test_the_next_attempt(either: World, ours: bool) -> None:
    """B2: no attempt follows while an unreadable object may be of the one before it; beside a stranger's one does."""
    either.answer(400, {"error": {"type": "invalid_request_error", "param": "amount"}}, echo=True)
    either.open_client().charge(ORDER)
    assert either.state() is State.REJECTED
    either.stranger_pays(500)
    break_all(either, amount="500", metadata={"paycli_intent": ORDER.intent_id} if ours else {})
    client = either.open_client()
    if not ours:
        assert client.charge(ORDER, attempt=2).state is State.SUCCEEDED
        return
    with pytest.raises(NeedsPerson, match="cannot be read and may be of this attempt"):
        client.charge(ORDER, attempt=2)
    assert either.paid() == 0
    either.hooks.clear()
    assert client.charge(ORDER, attempt=2).state is State.SUCCEEDED


@pytest.mark.parametrize("fields", [{"status": None}, {"amount": "2000"}, {"metadata": []}, {"livemode": 1}], ids=str)
def test_one_object_that_was_asked_for(fields: Object) -> None:
    """B2: an intent or a charge that was asked for by its id, and cannot be read, was not told of."""
    with World() as world:
        world.open_client().charge(ORDER)
        charge = world.open_client().find(ORDER.intent_id)
        assert charge is not None
        for path in (INTENTS, CHARGES):
            whole = {**made(path, 1, metadata=claims(ORDER.intent_id, world.binding)), **fields}
            whole["id"] = charge.provider_intent_id if path == INTENTS else charge.provider_charge_id
            reply = Reply(200, {}, msgspec.json.encode(whole), 1)
            answer = (
                API.read_intent(reply, Expected.of(charge, live=False)) if path == INTENTS else API.read_item(reply)
            )
            assert isinstance(answer, CouldNotAsk)
