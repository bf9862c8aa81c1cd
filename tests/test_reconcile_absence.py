"""Absence by a run: proven by the four conditions, at the same moments as by `resume`, and what may follow it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import httpx
import pytest

from gateway_client import AttemptRefused, Sandbox, State
from gateway_client.gateways.base import Binding
from tests.kit import ONE_SEND, START
from tests.nightly import BOUNDS, DATABASES, SECOND, Night, night
from tests.nightly_rows import (
    ACCOUNT,
    CHARGES,
    CLEAN,
    DEBIT,
    DECLINED,
    INTENTS,
    ORDER,
    came_to,
    recovered,
    run,
    stale,
    yesterday,
)

ABSENT = State.ABSENT
OVER = BOUNDS.key_life + BOUNDS.quiet_unproven


@pytest.fixture(params=DATABASES)
def world(request: pytest.FixtureRequest) -> Iterator[Night]:
    with night(request.param) as made:
        yield made


@pytest.mark.parametrize(
    ("fault", "length", "state"),
    [
        ("lost_request", OVER - SECOND, State.UNKNOWN),
        ("lost_request", OVER, ABSENT),
        ("unavailable_503", OVER - SECOND, State.UNKNOWN),
        ("unavailable_503", OVER, ABSENT),
        ("error_500", OVER - SECOND, State.UNKNOWN),
        ("error_500", OVER, ABSENT),
    ],
)
def test_absence_takes_its_time(world: Night, fault: str, length: timedelta, state: State) -> None:
    """What was never executed is closed when its key's life is over, and absent a quiet time after that (S16, F37).

    After any 5xx it is not absent before what that may have left behind would be listed.
    """
    world.doubt("order_1", fault)
    for passed, closed in ((BOUNDS.key_life - SECOND, False), (SECOND, True)):
        world.later(passed)
        assert (came_to(run(world)), world.state("order_1")) == (CLEAN, State.UNKNOWN)
        assert (world.row("order_1")["closed_at"] is not None) is closed
    world.later(length - BOUNDS.key_life)
    result = run(world)
    expected = recovered("order_1") if state is ABSENT else stale("order_1")
    assert (came_to(result), world.state("order_1"), world.paid("order_1")) == (expected, state, 0)
    world.clock.advance(hours=100)
    assert (came_to(run(world)), world.state("order_1")) == (
        CLEAN if state is ABSENT else recovered("order_1"),
        ABSENT,
    )


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize(
    ("length", "state"), [(BOUNDS.quiet_unproven - SECOND, State.UNKNOWN), (BOUNDS.quiet_unproven, ABSENT)]
)
def test_given_up_by_a_person(world: Night, length: timedelta, state: State, *, asked: bool) -> None:
    """A charge that was given up is absent a quiet time after that, not before (S16).

    If the provider could not be asked for its time then, the time counts from the first run that asked it.
    """
    world.doubt("order_1", "lost_request")
    if asked:
        world.give_up("order_1")
    else:
        world.answer(503, on=("GET", ACCOUNT))
        world.open_client().cancel("order_1", because="the customer left")
        assert world.row("order_1")["quiet_from"] is None
        world.later(BOUNDS.quiet_unproven)
        assert (run(world).complete, world.state("order_1")) == (True, State.UNKNOWN)
    world.later(length)
    assert (run(world).complete, world.state("order_1")) == (True, state)


OTHERS = {
    "paycli_namespace": "other",
    "paycli_intent": "order_1",
    "paycli_attempt": "1",
    "paycli_key": Binding("stripe", "test", Sandbox().account, "other").key("charge", "order_1", 1),
}
"""What the service of another namespace writes on its own charge, of an intent of the same name."""


@pytest.mark.parametrize(
    ("amount", "currency", "metadata", "absent"),
    [
        (2000, "usd", {}, False),
        (2001, "usd", {}, True),
        (2000, "eur", {}, True),
        (2000, "usd", {"paycli_namespace": "other"}, False),
        (2000, "usd", OTHERS, True),
        (2000, "usd", OTHERS | {"paycli_key": "pc1_of_nobody"}, False),
    ],
)
def test_success_of_a_stranger(
    world: Night, amount: int, currency: str, metadata: dict[str, str], *, absent: bool
) -> None:
    """A success of that amount without names of ours may be it: not absent, a person looks (F136, S8).

    It is another service's only when its key is the one that its namespace computes: names are edited by hand.
    """
    world.doubt("order_1", "lost_request")
    world.give_up("order_1")
    world.stranger_pays(amount, currency, metadata)
    world.clock.advance(hours=100)
    result = yesterday(world)
    assert came_to(result) == (recovered("order_1") if absent else stale("order_1"))
    assert world.state("order_1") is (ABSENT if absent else State.UNKNOWN)
    assert ("a person looks" in result.findings[0].detail) is not absent


@pytest.mark.parametrize("path", [INTENTS, CHARGES])
def test_incomplete_list(world: Night, path: str) -> None:
    """While a list cannot be read to its end nothing is absent, however old (F122, S16)."""
    world.doubt("order_1", "lost_request")
    world.give_up("order_1")
    world.clock.advance(hours=100)

    def hook(request: httpx.Request) -> httpx.Response | None:
        of_the_window = int(request.url.params.get("created[gte]", 0)) % (24 * 3600) == 0
        return httpx.Response(500) if request.url.path == path and not of_the_window else None

    world.hooks.append(hook)
    result = yesterday(world)
    assert (came_to(result), world.state("order_1")) == ((False, stale("order_1")[1]), State.UNKNOWN)
    assert "could not be read to the end" in world.row("order_1")["reason"]
    world.hooks.clear()
    again = yesterday(world)
    assert (again.complete, again.run_id, world.state("order_1")) == (True, result.run_id, ABSENT)
    assert (again.flagged, again.open_findings) == (0, 0), "what was stale is no finding any more"


@pytest.mark.parametrize("by", ["run", "resume"])
@pytest.mark.parametrize("fault", ["lost_request", "error_500"])
def test_attempt_2_after_proof(world: Night, by: str, fault: str) -> None:
    """After absence is proven by a run, attempt 2 may follow exactly when it may after `resume` (S6)."""
    world.doubt("order_1", fault)
    client = world.open_client()
    for length in (BOUNDS.key_life, BOUNDS.key_life + BOUNDS.quiet, OVER - SECOND):
        world.later(START + length - world.clock.now)
        run(world) if by == "run" else client.resume()
        assert world.state("order_1") is State.UNKNOWN
        with pytest.raises(AttemptRefused):
            client.charge(ORDER, attempt=2)
    world.later(SECOND)
    run(world) if by == "run" else client.resume()
    assert world.state("order_1") is ABSENT
    assert client.charge(ORDER, attempt=2).state is State.SUCCEEDED
    assert world.paid("order_1") == 1


BEGINNINGS: dict[str, Callable[[Night], object]] = {
    "charged": lambda world: world.doubt("order_1"),
    "declined": lambda world: world.doubt("order_1", "lost_reply", DECLINED),
    "never executed": lambda world: world.doubt("order_1", "lost_request"),
    "saved 500": lambda world: world.doubt("order_1", "error_500"),
    "saved 500, charged later": lambda world: world.doubt("order_1", "error_500_later"),
    "debit that arrives": lambda world: world.pay("order_1", "pm_usBankAccount_success"),
    "debit that comes back": lambda world: world.pay("order_1", "pm_usBankAccount_noAccount"),
    "debit on its way": lambda world: world.pay("order_1", DEBIT),
}


@pytest.mark.parametrize(
    ("kind", "hours"), [*((kind, 100) for kind in BEGINNINGS), ("never executed", 25), ("saved 500", 25)]
)
def test_run_and_resume_agree(kind: str, hours: float) -> None:
    """A run and `resume` conclude the same from the same evidence; whoever is second finds nothing to do (F113)."""
    concluded = []
    for run_first in (True, False):
        with night() as world:
            BEGINNINGS[kind](world)
            world.clock.advance(hours=hours)
            resume = world.open_client(retry=ONE_SEND).resume
            for _ in range(2):  # the first may close what the second proves
                yesterday(world) if run_first else resume()
                row = world.row("order_1")
                resume() if run_first else yesterday(world)
                assert world.row("order_1") == row
                concluded.append((row["state"], row["reason"], row["provider_charge_id"], world.paid("order_1")))
                world.later(BOUNDS.quiet_unproven)
    assert concluded[:2] == concluded[2:]
    proven = kind in ("never executed", "saved 500")
    assert (concluded[1][0] == "absent") is proven
