"""How much of a provider's lists is read: a page of what was asked for, and an end to a list that has none."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from gateway_client import Stripe
from gateway_client.flow import lookup
from gateway_client.gateways.base import Page, Reply
from gateway_client.outcome import CouldNotAsk
from reconcile import reading
from tests.nightly import DATABASES, Night, night

PATH = "/v1/charges"


@pytest.fixture(params=DATABASES)
def world(request: pytest.FixtureRequest) -> Iterator[Night]:
    with night(request.param) as made:
        yield made


def page(rows: int) -> Reply:
    """A page of a list as Stripe sends it."""
    charges = [{"id": f"ch_{number}", "object": "charge", "status": "succeeded"} for number in range(rows)]
    body = {"object": "list", "url": PATH, "has_more": True, "data": charges}
    return Reply(200, {"request-id": "req_1"}, msgspec.json.encode(body), 1)


@pytest.mark.parametrize("rows", [101, 300_000])
def test_more_than_was_asked_for_is_no_answer(rows: int) -> None:
    """E10: a page of more objects than were asked for is no answer to our question; one of as many is."""
    gateway = Stripe("sk_test_1")
    read = gateway.read_page(PATH, page(rows))
    assert isinstance(read, CouldNotAsk)
    assert read.reason == "the page holds more than the 100 objects that were asked for"
    whole = gateway.read_page(PATH, page(100))
    assert isinstance(whole, Page)
    assert (len(whole.items), whole.size) == (100, len(page(100).body))


@pytest.mark.parametrize(("bound", "value"), [("PAGES_MAX", 1), ("BYTES_MAX", 1000)])
def test_a_list_without_an_end(world: Night, monkeypatch: pytest.MonkeyPatch, bound: str, value: int) -> None:
    """E10: one call reads so many pages or bytes and says so; the next goes on where it stopped, to the end."""
    for _ in range(250):
        world.stranger_pays()
    monkeypatch.setattr(reading, bound, value)
    world.windows = 1
    reasons = []
    for _ in range(4):
        result = world.run()
        assert not result.complete
        reasons.append(result.why_incomplete or "")
    assert [reason.partition(" of ")[0] for reason in reasons] == [
        *["/v1/payment_intents: this call has read 1 pages"] * 2,
        *["/v1/charges: this call has read 1 pages"] * 2,
    ]
    done = world.run()
    assert (done.complete, done.provider_charges) == (True, 250)
    assert world.sql("SELECT count(*) FROM paycli_runs") == [(1,)]


def test_a_look_up_without_an_end(world: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    """E10: a look-up that reads to the end stops at a list that has none, and concludes nothing from it."""
    monkeypatch.setattr(lookup, "PAGES_MAX", 1)
    world.doubt("order_1", "lost_request")
    for _ in range(150):
        world.stranger_pays(777)
    world.clock.advance(hours=20 * 24)
    world.run()
    result = world.run()
    assert (result.complete, world.state("order_1")) == (False, "unknown")
    assert result.why_incomplete == "/v1/payment_intents: more than 1 pages"
