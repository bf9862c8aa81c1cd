"""The latest moment at which a charge may first be sent: after it nothing is sent, whoever looks at it (A6)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from gateway_client import InvalidInput, PaymentIntent, Sandbox, State, Stripe
from gateway_client.flow.effects import BeginSend, Begun, Held, Next, Settle
from gateway_client.gateways.stripe_api import PROFILE
from gateway_client.outcome import Answer, Cause, NotExecuted
from tests import cli_world, postgres
from tests.cli_world import DATABASES as CLI_DATABASES
from tests.kit import BOUNDS, KINDS, ONE_SEND, ORDER, USD_20, World
from tests.nightly import DATABASES, Night, night
from tests.worker_kit import TimedWorld, work

BEGIN = datetime(2099, 1, 1, 12, tzinfo=UTC)  # of the provider's time; the database's own clock is far behind it
LATEST = BEGIN + timedelta(minutes=30)
SECOND = timedelta(seconds=1)
INTENT = replace(ORDER, not_after=LATEST)
WHY = "never sent, and not to be sent after 2099-01-01T12:30:00.000Z"


@pytest.fixture(params=KINDS)
def either(request: pytest.FixtureRequest) -> Iterator[World]:
    with World(request.param) as world:
        go_to(world, BEGIN)
        yield world


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        go_to(world, BEGIN)
        yield world


def go_to(world: World, at: datetime) -> None:
    world.clock.advance(at - world.clock.now)


def begin(world: World) -> Begun | Held:
    credential = Stripe(Sandbox.api_key).credential_id
    return world.perform(
        BeginSend(ORDER.intent_id, 1, world.binding, PROFILE, credential, world.altered, time_asked=True)
    )


# The intent


@pytest.mark.parametrize(
    "bad",
    [
        *(BEGIN.replace(tzinfo=None), "2099-01-01T12:00:00Z", 1_800_000_000, BEGIN.date(), True),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))),
    ],
)
def test_an_unusable_time_is_named(bad: Any) -> None:
    """A6: anything but an aware datetime is refused before anything is written, and the field is named."""
    with pytest.raises(InvalidInput) as caught:
        PaymentIntent("order_42", USD_20, "pm_card_visa", not_after=bad)
    assert caught.value.field == "not_after"


def test_a_time_of_any_zone() -> None:
    """A6: one moment is one moment, whatever zone it is told in."""
    in_tokyo = LATEST.astimezone(timezone(timedelta(hours=9)))
    assert replace(ORDER, not_after=in_tokyo) == INTENT
    assert replace(ORDER, not_after=in_tokyo).not_after.tzinfo is UTC  # type: ignore[union-attr]


# The gate


@pytest.mark.parametrize(("late", "state", "paid"), [(SECOND * 0, State.SUCCEEDED, 1), (SECOND, State.CANCELED, 0)])
def test_first_send(either: World, late: timedelta, state: State, paid: int) -> None:
    """A6: a first send may leave until that moment; after it the row ends `canceled`, says why, and asks nothing."""
    client = either.open_client()
    assert client.prepare(INTENT).not_after == LATEST
    go_to(either, LATEST + late)
    charge = client.charge(ORDER)
    assert (charge.state, either.paid(), len(either.sends)) == (state, paid, paid)
    assert charge.reason == (None if paid else WHY)
    assert charge.not_after == LATEST
    if not paid:
        events = either.sql("SELECT event, state_before, state_after, reason FROM paycli_events ORDER BY event_no")
        assert events[-1] == ("canceled", "prepared", "canceled", WHY)
        again = client.charge(replace(ORDER, not_after=LATEST + timedelta(hours=1)), attempt=2)
        assert (again.state, again.not_after) == (State.SUCCEEDED, LATEST + timedelta(hours=1))
        assert either.paid() == 1


def test_never_left_is_never_sent(world: World) -> None:
    """A6: a charge whose sends never left is ended, too."""
    world.sandbox.fault("refused")
    assert world.open_client(retry=ONE_SEND).charge(INTENT).state is State.PREPARED
    go_to(world, LATEST + SECOND)
    assert (world.open_client().charge(INTENT).state, world.paid()) == (State.CANCELED, 0)


def test_what_has_left_is_looked_up(either: World) -> None:
    """A6: what has left by then is never sent again: it is found, or proven absent a quiet time later."""
    either.lose("lost_reply", intent=INTENT)
    either.lose("lost_request", intent=replace(INTENT, intent_id="order_43"))
    go_to(either, LATEST + SECOND)
    client = either.open_client()
    client.resume()
    assert (either.state(), either.state("order_43"), len(either.sends)) == (State.SUCCEEDED, State.UNKNOWN, 2)
    assert either.row("order_43")["closed_at"] is not None
    either.clock.advance(BOUNDS.quiet_unproven)
    client.resume()
    assert (either.state("order_43"), len(either.sends)) == (State.ABSENT, 2)


def test_a_send_that_turns_out_not_to_have_left(world: World) -> None:
    """A6: an open send of a dead process closes the row; when it never left, the row is canceled."""
    world.open_client().prepare(INTENT)
    assert isinstance(begin(world), Begun)
    go_to(world, LATEST + SECOND)
    held = begin(world)
    assert isinstance(held, Held)
    assert (held.next, held.charge.closed_at) == (Next.LOOK_UP, world.clock.now)
    not_sent = Answer(NotExecuted(Cause.NOT_SENT, "refused"))
    charge = world.perform(Settle(ORDER.intent_id, 1, not_sent, saves_declines=True, send_no=1))
    assert (charge.state, world.sends) == (State.CANCELED, [])


def test_the_frozen_moment_counts(world: World) -> None:
    """A6: another moment for the same attempt is no other payment; what was frozen with the attempt counts."""
    client = world.open_client()
    client.prepare(INTENT)
    go_to(world, LATEST + SECOND)
    charge = client.charge(replace(INTENT, not_after=None))
    assert (charge.state, charge.not_after) == (State.CANCELED, LATEST)


def test_the_databases_clock_is_enough() -> None:
    """A6: on PostgreSQL the database's clock ends it, too, when this machine's time is behind."""
    with World("sync, postgresql") as world:
        late = datetime.now(UTC) - SECOND
        go_to(world, late - timedelta(days=2))
        charge = world.open_client().charge(replace(ORDER, not_after=late))
        assert (charge.state, world.paid()) == (State.CANCELED, 0)


# Whoever looks at it


@pytest.mark.parametrize("late", [SECOND, timedelta(days=3)])
def test_resume_ends_it(either: World, late: timedelta) -> None:
    """A6: `resume` ends what was prepared and is too late, of an older process and of any age, without a send."""
    either.open_client().prepare(INTENT)
    go_to(either, LATEST + late)
    (charge,) = either.open_client().resume()
    assert (charge.state, charge.reason, either.sends) == (State.CANCELED, WHY, [])
    assert [what for what in either.asked if "?" in what or what == "GET /v1/charges"] == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_worker_ends_it(kind: str) -> None:
    """A6: so does a worker."""
    with TimedWorld(kind) as world:
        go_to(world, BEGIN)
        world.open_client().prepare(INTENT)
        go_to(world, LATEST + timedelta(days=2))
        work(world.open_client())
        assert (world.state(), world.row()["reason"], world.sends) == (State.CANCELED, WHY, [])


@pytest.mark.parametrize("kind", DATABASES)
def test_the_night_ends_it(kind: str) -> None:
    """A6: so does the nightly run, and it closes what has left; what is not too late stays as it is."""
    with night(kind) as world:
        ended_by_a_night(world)


def ended_by_a_night(world: Night) -> None:
    go_to(world, BEGIN)
    world.lose("lost_request", intent=replace(INTENT, intent_id="left"))
    for name, at in (("late", LATEST), ("young", LATEST + timedelta(hours=9)), ("any", None)):
        world.open_client().prepare(replace(ORDER, intent_id=name, not_after=at))
    go_to(world, LATEST + timedelta(hours=1))
    assert world.run().complete
    expected = [State.CANCELED, State.PREPARED, State.PREPARED, State.UNKNOWN]
    assert [world.state(name) for name in ("late", "young", "any", "left")] == expected
    assert [world.row(name)["closed_at"] is None for name in ("young", "any", "left")] == [True, True, False]
    assert (world.row("late")["reason"], len(world.sends)) == (WHY, 1)


def test_a_clock_that_is_ahead_ends_nothing(world: World) -> None:
    """A6: that it is too late is judged by the provider's time, as the life of a key is: never by our clock alone."""
    world.open_client().prepare(INTENT)
    world.clock.wrong_s = 4 * 60
    go_to(world, LATEST - timedelta(minutes=1))
    (charge,) = world.open_client().resume()
    assert (charge.state, world.paid()) == (State.SUCCEEDED, 1)


# From the shell


@pytest.fixture(params=CLI_DATABASES)
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[cli_world.World]:
    url = None if request.param == "sqlite" else postgres.shown(postgres.fresh_database(empty=True))
    with cli_world.world(tmp_path, url) as made:
        yield made


def test_from_the_shell(shell: cli_world.World) -> None:
    """A6: `paycli charge --not-after` takes ISO 8601 with an offset; `show`, `pending` and their JSON tell it."""
    order = ("--amount", "2000", "--currency", "usd", "--payment-method", "pm_card_visa", "--not-after")
    shell.paycli("init")
    for bad in ("tomorrow", "2026-11-20", "2026-11-20T12:00:00"):
        ended = shell.paycli("charge", "order_1", *order, bad)
        assert (ended.code, ended.out) == (2, "")
        assert "not_after: " in ended.err
    assert shell.paycli("pending").out == ""
    nobody = {"PAYCLI_STRIPE_API_BASE": "http://127.0.0.1:9"}
    ended = shell.paycli("charge", "order_1", *order, "2099-01-01T01:00:00+01:00", "--json", **nobody)
    assert (ended.code, json.loads(ended.out)["not_after"]) == (3, "2099-01-01T00:00:00.000Z")
    assert "not after 2099-01-01T00:00:00.000Z" in " ".join(shell.paycli("show", "order_1").out.split())
    assert json.loads(shell.paycli("pending", "--json").out)["not_after"] == "2099-01-01T00:00:00.000Z"
    assert "2099-01-01T00:00:00.000Z" in shell.paycli("pending").out
    ended = shell.paycli("charge", "order_2", *order, "2020-01-01T00:00:00Z")
    assert (ended.code, ended.out.splitlines()[0]) == (1, "order_2, attempt 1: canceled")
