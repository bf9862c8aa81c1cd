"""The nightly run against a provider that fails: a few times, and it is complete; for ever, and it is gone on with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

import httpx
import pytest

import reconcile
from gateway_client import Client, ConfigurationError, State
from tests.kit import Killed
from tests.nightly import DATABASES, Night, codes, night
from tests.nightly_lists import (
    ALL,
    CHARGES,
    DAY,
    GONE,
    INTENTS,
    LISTS,
    READ,
    Object,
    a_day,
    circle,
    listed,
    times,
)
from tests.nightly_trouble import (
    ERROR_500,
    FEW,
    HTML,
    ONE_OR_THE_OTHER,
    RATE_LIMIT,
    TROUBLES,
    answer,
)


@pytest.fixture(params=DATABASES)
def world(request: pytest.FixtureRequest) -> Iterator[Night]:
    with night(request.param) as made:
        yield made


# A list --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "path"), [(kind, LISTS[number % 2]) for number, kind in enumerate(FEW)])
def test_trouble_that_passes(world: Night, kind: str, path: str) -> None:
    """A provider that fails a few times in the middle of a list is asked again, and the run is complete (F122)."""
    lists = a_day(world)
    lists.troubles.append((path, 2, times(5, TROUBLES[kind][0](lists))))
    result = world.run(DAY)
    assert (result.complete, result.why_incomplete, codes(result)) == (True, None, ALL)


@pytest.mark.parametrize(("kind", "path"), ONE_OR_THE_OTHER)
def test_trouble_that_stays(world: Night, kind: str, path: str) -> None:
    """A list that fails for ever makes the run incomplete; what was read is repaired, and absence waits (F122, S16).

    When the provider is well again the same run goes on from its cursor, with its bounds, and reads no page twice.
    """
    lists = a_day(world)
    lists.troubles.append((path, 3, TROUBLES[kind][0](lists)))
    result = world.run(DAY)
    assert (result.complete, result.why_incomplete) == (False, f"{path}: {TROUBLES[kind][1]}")
    assert (codes(result), world.state("lost"), world.state("gone")) == (READ, State.UNKNOWN, State.SUCCEEDED)
    assert lists.asked_back == []
    stopped_at = lists.cursors(path)[-1]
    lists.troubles.clear()
    lists.asked.clear()
    world.clock.advance(minutes=20)
    again = world.run(DAY)
    assert (again.run_id, again.complete, again.why_incomplete, codes(again)) == (result.run_id, True, None, ALL)
    assert lists.asked[0] == (path, stopped_at)
    assert lists.cursors(path) == [stopped_at], "only its last page was left"
    assert len(lists.bounds) == 1
    assert world.state("lost") is State.ABSENT


def test_trouble_at_the_first_question(world: Night) -> None:
    """Without any page nothing is known and nothing said: neither an empty day nor a missing charge (S8)."""
    lists = a_day(world)
    for path in LISTS:
        lists.troubles.append((path, 1, answer(500, ERROR_500)(lists)))
    result = world.run(DAY)
    assert (result.complete, codes(result), result.provider_charges) == (False, set(), 0)
    assert {cursor for _, cursor in lists.asked} == {""}


def test_retry_after_is_waited_for(world: Night) -> None:
    """What a 429 asks for is waited at least; more than is sensible ends the call instead (F42)."""
    lists = a_day(world)
    lists.troubles.append((CHARGES, 2, times(1, answer(429, RATE_LIMIT, **{"Retry-After": "17"})(lists))))
    world.clock.slept_s.clear()
    assert world.run(DAY).complete
    assert [17 <= slept < 20 for slept in world.clock.slept_s] == [True]


def test_retry_after_of_hours(world: Night) -> None:
    """A provider that wants hours of peace is left alone: the run is incomplete at once, and waits for nobody (F42)."""
    lists = a_day(world)
    lists.troubles.append((CHARGES, 2, answer(429, RATE_LIMIT, **{"Retry-After": "7200"})(lists)))
    world.clock.slept_s.clear()
    result = world.run(DAY)
    assert (result.complete, len(lists.cursors(CHARGES)), world.clock.slept_s) == (False, 2, [])


@pytest.mark.parametrize("path", LISTS)
def test_refused_key_in_the_middle(world: Night, path: str) -> None:
    """A key that is refused in the middle is a matter of settings; with a good one the same run goes on (F46)."""
    lists = a_day(world)
    lists.troubles.append((path, 3, answer(401, {"error": {"type": "invalid_request_error"}})(lists)))
    before = world.dump()["pending_charges"]
    with pytest.raises(ConfigurationError, match="STRIPE_API_KEY"):
        world.run(DAY)
    assert world.dump()["pending_charges"] == before
    stopped_at = lists.cursors(path)[-1]
    lists.troubles.clear()
    lists.asked.clear()
    result = world.run(DAY)
    assert (result.complete, codes(result), lists.asked[0]) == (True, ALL, (path, stopped_at))
    assert world.sql("SELECT count(*) FROM paycli_runs") == [(1,)]


@pytest.mark.parametrize(
    ("number", "object_id"),
    list(enumerate(["", "ch 1", " ch_1", "ch_\n1", "ch_\x1b[31m1", "c" * 256])),
)
def test_unusable_id(world: Night, number: int, object_id: str) -> None:
    """A stranger's object whose id could not be asked for or shown is counted as unreadable, and stops nothing (B2)."""
    lists, path = a_day(world), LISTS[number % 2]

    def change(one: Object) -> None:
        if (one["amount"], f"/v1/{one['object']}s") == (500, path):
            one["id"] = object_id

    lists.change = change
    result = world.run(DAY)
    assert (result.complete, result.unreadable, codes(result)) == (True, 1, ALL)
    assert [one for one in result.unreadable_ids if not one.startswith("no_id_1")] == []


# The reading further back, for what waits for proof ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "path"), [("500", INTENTS), ("a cut body", CHARGES), ("HTML", INTENTS), ("429", CHARGES)]
)
def test_trouble_while_proof_is_looked_for(world: Night, kind: str, path: str) -> None:
    """A list that breaks off while the absence of a charge is looked for proves nothing, and the run says so (S16)."""
    lists = a_day(world)
    lists.troubles_back.append((path, 2, TROUBLES[kind][0](lists)))
    result = world.run(DAY)
    assert (result.complete, result.why_incomplete) == (False, f"{path}: {TROUBLES[kind][1]}")
    assert (codes(result) - {GONE}, world.state("lost")) == (READ, State.UNKNOWN)
    lists.troubles_back.clear()
    again = world.run(DAY)
    assert (again.run_id, again.complete, codes(again)) == (result.run_id, True, ALL)


@pytest.mark.parametrize("path", LISTS)
def test_circle_while_proof_is_looked_for(world: Night, path: str) -> None:
    """A list whose end leads back to its beginning is given up there as well: every run ends (F121, L4)."""
    lists = a_day(world)
    lists.troubles_back.append((path, 1, circle(lists)))
    result = world.run(DAY)
    assert (result.complete, result.why_incomplete) == (False, f"{path}: the provider's list does not advance")
    assert (codes(result) - {GONE}, world.state("lost")) == (READ, State.UNKNOWN)


# One object ----------------------------------------------------------------------------------------------------------


def on_get(world: Night, path: str, trouble: Callable[[], httpx.Response]) -> list[str]:
    """Every question after this object is answered so; the questions."""
    asked: list[str] = []

    def hook(request: httpx.Request) -> httpx.Response | None:
        if (request.method, request.url.path) != ("GET", path):
            return None
        asked.append(request.url.path)
        return trouble()

    world.hooks.append(hook)
    return asked


def timed_out() -> httpx.Response:
    raise httpx.ReadTimeout("it failed")


MISSING = {"type": "invalid_request_error", "code": "resource_missing"}
NOT_TOLD: dict[str, Callable[[], httpx.Response]] = {
    "500": lambda: httpx.Response(500, json=ERROR_500),
    "403": lambda: httpx.Response(403, json={"error": {"type": "invalid_request_error"}}),
    "403 that says missing": lambda: httpx.Response(403, json={"error": MISSING}),
    "404 without a code": lambda: httpx.Response(404, json={"error": {"type": "invalid_request_error"}}),
    "404 of another code": lambda: httpx.Response(404, json={"error": {**MISSING, "code": "account_invalid"}}),
    "404 of a proxy": lambda: httpx.Response(404, content=HTML),
    "429": lambda: httpx.Response(429, json=RATE_LIMIT),
    "a timeout": timed_out,
    "200 of a proxy": lambda: httpx.Response(200, content=HTML),
    "200 and an error": lambda: httpx.Response(200, json={"error": MISSING}),
    "200 and a list": lambda: httpx.Response(200, json=listed(CHARGES, [], has_more=False)),
    "200 and another charge": lambda: httpx.Response(200, json={"id": "ch_other", "status": "succeeded"}),
}


@pytest.mark.parametrize("kind", NOT_TOLD)
def test_a_charge_that_is_not_told(world: Night, kind: str) -> None:
    """Only the provider's own word that there is no such charge makes it missing: anything else is incomplete (S8)."""
    lists = a_day(world)
    charge_id = world.row("gone")["provider_charge_id"]
    asked = on_get(world, f"{CHARGES}/{charge_id}", NOT_TOLD[kind])
    result = world.run(DAY)
    assert (result.complete, codes(result)) == (False, ALL - {GONE})
    assert (result.why_incomplete or "").startswith(f"charge {charge_id}: ")
    assert 1 <= len(asked) <= 6
    world.hooks.pop()
    lists.asked.clear()
    again = world.run(DAY)
    assert (again.run_id, again.complete, codes(again), lists.asked) == (result.run_id, True, ALL, [])


def test_a_charge_that_is_not_told_hides_no_other(world: Night) -> None:
    """A charge that the provider fails on every night makes the run incomplete, and hides no missing one (F147)."""
    a_day(world)
    on_get(world, f"{CHARGES}/{world.row('fine')['provider_charge_id']}", NOT_TOLD["500"])
    world.sandbox.remove(world.row("fine")["provider_charge_id"])
    result = world.run(DAY)
    assert (result.complete, codes(result)) == (False, ALL)


def test_refused_key_at_a_charge(world: Night) -> None:
    """A key that is refused when a charge is asked for says nothing about the charge (F46)."""
    a_day(world)
    charge_id = world.row("gone")["provider_charge_id"]
    on_get(world, f"{CHARGES}/{charge_id}", lambda: httpx.Response(401, json={"error": MISSING}))
    with pytest.raises(ConfigurationError):
        world.run(DAY)
    assert world.sql("SELECT count(*) FROM paycli_findings WHERE code = 'missing_at_provider'") == [(0,)]
    world.hooks.pop()
    assert codes(world.run(DAY)) == ALL


@pytest.mark.parametrize(
    "kind", ["500", "403", "404 of a proxy", "a timeout", "200 of a proxy", "200 and another charge"]
)
def test_a_pending_intent_that_is_not_told(world: Night, kind: str) -> None:
    """A pending charge whose intent could not be asked for stays as it is, and the run is incomplete."""
    world.pay("debit", "pm_usBankAccount_processing")
    intent = world.row("debit")["provider_intent_id"]
    on_get(world, f"{INTENTS}/{intent}", NOT_TOLD[kind])
    result = world.run()
    assert (result.complete, codes(result), world.state("debit")) == (False, set(), State.PROCESSING)
    assert (result.why_incomplete or "").startswith(f"intent {intent}: ")
    world.hooks.pop()
    again = world.run()
    assert (again.run_id, again.complete, codes(again)) == (result.run_id, True, set())


def test_a_pending_intent_that_the_provider_denies(world: Night) -> None:
    """A pending charge whose intent the provider does not have stays pending until a person looks, and stops nobody."""
    for intent_id in ("debit_1", "debit_2"):
        world.pay(intent_id, "pm_usBankAccount_processing")
    world.doubt("doubt")
    for intent in (world.row("debit_1")["provider_intent_id"], world.row("debit_1")["provider_charge_id"]):
        world.sandbox.remove(intent)
    world.clock.advance(hours=7 * 24, seconds=1)
    result = world.run(DAY)
    assert result.complete
    assert codes(result) == {("outcome_recovered", "doubt"), *(("stale_pending", f"debit_{one}") for one in (1, 2))}
    assert world.state("debit_1") is State.PROCESSING


@pytest.mark.parametrize(("windows", "bounds"), [(1, 1), (2, 9)])
def test_killed_at_each_question(world: Night, windows: int, bounds: int) -> None:
    """A run that is killed at each of its questions in turn goes on every time, and ends with the same (F08, F122).

    Also when it reads two parts at once, of the day and then of its eighths.
    """
    lists = a_day(world)
    client = cast("Client", world.open_client())
    killed: list[str] = []

    def hook(request: httpx.Request) -> None:
        question = str(request.url)
        if question not in killed:
            killed.append(question)
            raise Killed

    world.hooks.insert(0, hook)
    result = None
    for _ in range(80):
        try:
            result = reconcile.run(client, DAY, windows=windows)
            break
        except Killed:
            world.end_leases()
    assert result is not None
    assert (result.complete, codes(result), len(lists.bounds)) == (True, ALL, bounds)
    assert world.sql("SELECT count(*) FROM paycli_runs") == [(1,)]
    assert len(killed) > 10
