"""A busy account: what strangers do beside us delays no charge of ours, refuses none, and fills no memory (B1)."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest

from gateway_client import ProviderUnavailable, RetryPolicy, State, Stripe
from gateway_client.absence import Scan, Stranger
from gateway_client.charge import Charge
from gateway_client.flow.asking import Setup
from gateway_client.flow.effects import Ask, MeetProvider
from gateway_client.flow.lookup import PAGES_WITHOUT_PROGRESS_MAX, read_lists
from gateway_client.gateways.base import Account, Binding, Reply
from tests.kit import DECLINED, KINDS, ONE_SEND, ORDER, START, World

INTENTS, CHARGES = "/v1/payment_intents", "/v1/charges"
MANY = 20_000
PAGE = 100


def stranger(number: int, created: int) -> dict[str, object]:
    """Somebody's success, of an amount that nobody else has."""
    return {
        "id": f"x_{number}",
        "status": "succeeded",
        "amount": 100_000 + number,
        "currency": "usd",
        "created": created,
        "customer": f"cus_{number}",
        "metadata": {},
    }


def page_of(path: str, data: list[dict[str, object]], *, has_more: bool = True) -> bytes:
    return msgspec.json.encode({"object": "list", "url": path, "data": data, "has_more": has_more})


class Crowd:
    """Before the provider: each of its lists begins with this many objects of strangers, just made."""

    def __init__(self, world: World, strangers: int = MANY) -> None:
        self._world, self._pages = world, strangers // PAGE
        self._encoded: dict[tuple[str, int, int], bytes] = {}
        self.pages_read = 0
        world.hooks.append(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response | None:
        if request.method != "GET" or request.url.path not in (INTENTS, CHARGES):
            return None
        after = request.url.params.get("starting_after", "x_0")
        if not after.startswith("x_"):
            return None
        number = int(after[2:])
        self.pages_read += 1
        if number == self._pages * PAGE:
            rest = request.url.copy_remove_param("starting_after")
            asked = httpx.Request("GET", rest, headers=request.headers)
            return self._world.sandbox.transport().handle_request(asked)
        path, now = request.url.path, int(self._world.clock.now.timestamp())
        key = (path, number, now)
        if key not in self._encoded:
            self._encoded[key] = page_of(path, [stranger(number + 1 + one, now) for one in range(PAGE)])
        return httpx.Response(200, content=self._encoded[key])


@pytest.fixture(params=KINDS)
def either(request: pytest.FixtureRequest) -> Iterator[World]:
    with World(request.param) as world:
        yield world


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


def test_prepared_by_a_dead_process(either: World) -> None:
    """B1: a charge that a dead process has prepared is sent by `resume`, however many objects strangers made since."""
    either.open_client().prepare(ORDER)
    either.clock.advance(minutes=5)
    crowd = Crowd(either)
    (charge,) = either.open_client().resume()
    assert (charge.state, either.paid(), crowd.pages_read) == (State.SUCCEEDED, 1, 2 * MANY // PAGE + 2)


def test_found_behind_strangers(world: World) -> None:
    """B1: a charge whose reply was lost is found by `charge` and by `resume`, behind any number of strangers'."""
    world.lose("error_500_charged", times=2)
    Crowd(world)
    assert world.open_client().charge(ORDER).state is State.SUCCEEDED


def test_absent_and_anew(world: World) -> None:
    """B1: absence is proven by `resume`, and the next attempt is made, on an account that is never idle."""
    world.lose()
    world.clock.advance(hours=23)
    Crowd(world)
    world.open_client(retry=ONE_SEND).resume()
    world.clock.advance(hours=76)
    (charge,) = world.open_client().resume()
    assert charge.state is State.ABSENT
    assert world.open_client().charge(ORDER, attempt=2).state is State.SUCCEEDED


def test_anew_after_a_nameless_decline(world: World) -> None:
    """B1: the attempt after a decline that named no intent is made once a reading shows nothing, however long it is."""
    error = {"error": {"type": "card_error", "code": "card_declined", "message": "declined"}}
    world.answer(402, error, echo=True)
    assert world.open_client().charge(DECLINED).state is State.DECLINED
    world.clock.advance(hours=4)
    Crowd(world)
    assert world.open_client().charge(ORDER, attempt=2).state is State.SUCCEEDED
    assert world.paid() == 1


def test_a_list_without_an_end(either: World) -> None:
    """B1: a list that goes on for ever without going back in time is given up, and the row says why it waits."""
    either.open_client().prepare(ORDER)
    either.clock.advance(minutes=5)
    asked: list[str] = []

    def endless(request: httpx.Request) -> httpx.Response | None:
        if (request.method, request.url.path) != ("GET", CHARGES):
            return None
        asked.append(request.url.params.get("starting_after", ""))
        one = stranger(len(asked), int(either.clock.now.timestamp()))
        return httpx.Response(200, content=page_of(CHARGES, [one]))

    either.hooks.append(endless)
    with pytest.raises(ProviderUnavailable, match="does not advance"):
        either.open_client().resume()
    row = either.row()
    expected = (
        "not proven: the provider's lists could not be read to the end (/v1/charges: the provider's list does not"
    )
    assert (row["state"], either.paid(), len(asked)) == (State.PREPARED, 0, PAGES_WITHOUT_PROGRESS_MAX + 1)
    assert row["reason"].startswith(expected)
    either.hooks.clear()
    (charge,) = either.open_client().resume()
    assert (charge.state, charge.reason) == (State.SUCCEEDED, None)


def test_left_for_a_day(world: World) -> None:
    """B1: a charge that was prepared a day ago and never sent waits for a person, and says so."""
    world.open_client().prepare(ORDER)
    world.clock.advance(hours=24)
    (charge,) = world.open_client().resume()
    assert charge.state is State.PREPARED
    assert charge.reason == "never sent, and prepared 24:00:00 ago or earlier: charge it again, or cancel it"


def kept(strangers: int, same: int | None = None) -> tuple[Scan, int]:
    """What one reading amid so many strangers keeps, and the most memory that it held, in bytes."""
    gateway, now = Stripe("sk_test_x"), START + timedelta(hours=1)
    setup = Setup(gateway, "default", RetryPolicy(), now)
    ids = {"provider_intent_id": None, "provider_charge_id": None}
    times = {"created_at": START, "first_sent_at": START, "settled_at": None}
    charge = Charge("order_42", 1, State.UNKNOWN, "pc1_x", 2000, "usd", **ids, sends=1, **times, reason=None)  # type: ignore[arg-type]
    flow = read_lists(setup, Binding("stripe", "test", "acct_1", "default"), [charge])
    result: Any = None
    tracemalloc.start()
    try:
        while True:
            effect = flow.send(result)
            if isinstance(effect, Ask):
                result = Reply(200, {}, reply_to(effect.request.path, strangers, now, same), 1)
            else:
                result = Account("acct_1") if isinstance(effect, MeetProvider) else now
    except StopIteration as end:
        return end.value, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def reply_to(asked: str, strangers: int, now: datetime, same: int | None) -> bytes:
    url = httpx.URL(asked)
    number = int(url.params.get("starting_after", "x_0")[2:])
    data = [stranger(number + 1 + one, int(now.astimezone(UTC).timestamp())) for one in range(PAGE)]
    for one in data if same else ():
        one["amount"] = same  # else no two of them have paid the same
    return page_of(url.path, data, has_more=number + PAGE < strangers)


def test_memory() -> None:
    """B1: what a reading keeps grows with what is looked for, not with what strangers paid, nor how differently."""
    few, a_little = kept(1_000)
    many, as_little = kept(MANY)
    assert (few.why_incomplete, many.why_incomplete) == (None, None)
    assert (few.strangers, many.strangers) == (frozenset(), frozenset())
    assert as_little < 1.2 * a_little


def test_memory_of_the_sum_that_is_looked_for() -> None:
    """B1: nor does it grow with who paid the very sum that is looked for, of whom each has another name."""
    scan, _ = kept(MANY, same=2000)
    assert (scan.why_incomplete, scan.strangers) == (None, frozenset({Stranger(2000, "usd")}))
