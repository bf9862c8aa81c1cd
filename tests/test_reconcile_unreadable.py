"""A night beside objects that cannot be read: all are counted, some named; incomplete where one may be ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gateway_client.finding import Code
from reconcile import RunResult
from tests.nightly import DATABASES, Night, codes, night
from tests.nightly_lists import CHARGES, INTENTS, Lists, Object
from tests.nightly_shell import NightShell, night_shell


@pytest.fixture(params=DATABASES)
def world(request: pytest.FixtureRequest) -> Iterator[Night]:
    with night(request.param) as made:
        yield made


@pytest.fixture(params=DATABASES)
def shell(request: pytest.FixtureRequest) -> Iterator[NightShell]:
    with night_shell(request.param) as made:
        yield made


def charge_ids(world: Night) -> list[str]:
    """The provider's charges, oldest first."""
    return [made["id"] for made in reversed(world.sandbox.charges)]


def strangers(world: Night, count: int, amount: int = 500) -> list[str]:
    """Charges of strangers, a second apart; their ids."""
    before = set(charge_ids(world))
    for _ in range(count):
        world.stranger_pays(amount)
        world.clock.advance(seconds=1)
    return [one for one in charge_ids(world) if one not in before]


def break_ids(lists: Lists, ids: list[str], **fields: Any) -> None:
    """Break these objects on the way, so that they cannot be read."""

    def change(one: Object) -> None:
        if one["id"] in ids:
            one.update(fields or {"status": None})

    lists.change = change


def figures(result: RunResult) -> tuple[int, int, int, tuple[str, ...]]:
    return result.provider_charges, result.foreign, result.unreadable, result.unreadable_ids


@pytest.mark.parametrize("fields", [{"status": None}, {"amount": "500"}, {"created": 1.5}, {"livemode": "no"}], ids=str)
@pytest.mark.parametrize("rows", [1, 2, 100])
def test_of_a_stranger(world: Night, fields: Object, rows: int) -> None:
    """B2: a stranger's object that cannot be read is counted and named, and does not stop the rest of the night."""
    world.pay("order_1")
    world.doubt("doubt")
    world.pay_behind_our_back("behind")
    (broken,) = strangers(world, 1)
    strangers(world, 1)
    break_ids(Lists(world, rows), [broken], **fields)
    result = world.run()
    assert (result.complete, result.why_incomplete) == (True, None)
    assert codes(result) == {(Code.OUTCOME_RECOVERED, "doubt"), (Code.MISSING_LOCALLY, "behind")}
    assert figures(result) == (4, 1, 1, (broken,))
    assert (result.as_json()["unreadable"], result.as_json()["unreadable_ids"]) == (1, [broken])


@pytest.mark.parametrize("path", [INTENTS, CHARGES])
@pytest.mark.parametrize("metadata", ["ours", "some name of ours", "none that can be read"])
def test_of_one_that_may_be_ours(world: Night, path: str, metadata: str) -> None:
    """B2: an object that may be ours makes the night incomplete, which names it; everything else is done."""
    world.doubt("doubt")
    world.pay_behind_our_back("behind")
    (charge,) = strangers(world, 1)
    intent = next(made["payment_intent"] for made in world.sandbox.charges if made["id"] == charge)
    broken = intent if path == INTENTS else charge
    carried = {"ours": world.claims("order_9"), "some name of ours": {"paycli_key": 7}}.get(metadata)
    lists = Lists(world)
    break_ids(lists, [broken], metadata=carried, status=None)
    result = world.run()
    assert not result.complete
    assert result.why_incomplete == (
        f"the provider lists 1 object that cannot be read and may be ours ({broken}): look at it there"
    )
    assert codes(result) == {(Code.OUTCOME_RECOVERED, "doubt"), (Code.MISSING_LOCALLY, "behind")}
    assert world.sql("SELECT count(*) FROM pending_charges WHERE intent_id = 'order_9'") == [(0,)]
    lists.change = lambda one: None
    mended = world.run()
    assert (mended.complete, mended.unreadable, mended.run_id) == (True, 0, result.run_id)
    assert world.sql("SELECT count(*) FROM paycli_runs") == [(1,)]


def test_our_names_and_amount(world: Night) -> None:
    """B2: an object with our names and our amount that cannot be read is no match, and settles nothing."""
    world.doubt("doubt")
    world.pay_behind_our_back("behind")
    lists = Lists(world)
    lists.change = lambda one: one.update(livemode="false")
    result = world.run()
    assert (result.complete, codes(result), result.unreadable, world.state("doubt")) == (False, set(), 4, "unknown")
    assert result.matched == 0
    lists.change = lambda one: None
    assert codes(world.run()) == {(Code.OUTCOME_RECOVERED, "doubt"), (Code.MISSING_LOCALLY, "behind")}


def test_a_success_of_ours(world: Night) -> None:
    """B2: a success of ours whose listed charge cannot be read is asked for by its id; it is not called missing."""
    world.pay("order_1")
    charge = world.row("order_1")["provider_charge_id"]
    lists = Lists(world)
    break_ids(lists, [charge], metadata={}, status=None)
    asked = len(world.asked)
    result = world.run()
    assert f"GET {CHARGES}/{charge}" in world.asked[asked:]
    assert (result.complete, codes(result), result.unreadable_ids) == (True, set(), (charge,))


def test_more_than_are_named(world: Night) -> None:
    """B2: however many there are, all are counted and ten are named, those first that may be ours."""
    ids = strangers(world, 25)
    lists = Lists(world, rows=4)
    ours = ids[17]

    def change(one: Object) -> None:
        if one["object"] == "charge":
            one.update(status=None, metadata=[] if one["id"] == ours else {})

    lists.change = change
    result = world.run()
    assert (result.complete, result.unreadable) == (False, 25)
    assert result.unreadable_ids == (ours, *sorted(set(ids) - {ours})[:9])
    assert ours in (result.why_incomplete or "")


def test_many_that_may_be_ours(world: Night) -> None:
    """B2: the reason counts all that may be ours, and names ten."""
    ids = strangers(world, 12)
    lists = Lists(world, rows=4)
    lists.change = lambda one: one.update(metadata=7) if one["object"] == "charge" else None
    result = world.run()
    assert result.why_incomplete == (
        f"the provider lists 12 objects that cannot be read and may be ours ({', '.join(sorted(ids)[:10])} and 2 "
        "more): look at them there"
    )


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("kept_until", [1, 2, 3, 4, 5])
def test_killed_in_between(world: Night, ours: bool, kept_until: int) -> None:
    """B2: a night that goes on after a kill has not forgotten what could not be read before it."""
    (broken,) = strangers(world, 1)
    strangers(world, 5)
    world.clock.advance(seconds=1)
    newest = strangers(world, 1)[0] if ours else broken
    lists = Lists(world, rows=2)
    break_ids(lists, [newest], status=None, metadata=7 if ours else {})
    pages = [0]

    def killed(request: httpx.Request) -> None:
        if request.url.path in (INTENTS, CHARGES):
            pages[0] += 1
            if pages[0] == kept_until + 1:
                raise KeyboardInterrupt

    world.hooks.insert(0, killed)
    with pytest.raises(KeyboardInterrupt):
        world.run()
    result = world.run()
    assert (result.complete, result.unreadable_ids) == (not ours, (newest,))
    assert (newest in (result.why_incomplete or "")) is ours


def test_repeats(world: Night) -> None:
    """B2: an object that is listed twice is counted once, and one that can be read the second time is read."""
    ids = strangers(world, 3)
    lists = Lists(world, rows=2)
    lists.repeated, lists.overlap = 2, 1
    break_ids(lists, ids[:2])
    assert figures(world.run()) == (1, 1, 2, tuple(sorted(ids[:2])))


def test_without_ids(world: Night) -> None:
    """B2: what has no usable id is named by where it stands, and nothing of what it says is kept or shown."""
    strangers(world, 3)
    lists = Lists(world)
    lists.change = lambda one: one.update(id="\x1b[31mred") if one["object"] == "charge" else None
    lists.rows = 100
    result = world.run()
    names = tuple(f"no_id_{number}_of_charges" for number in (1, 2, 3))
    assert (result.complete, result.unreadable_ids) == (True, names)
    assert "\\x1b" not in repr(world.dump()) + repr(result)


@pytest.mark.parametrize("pages", [False, True], ids=["of both lists", "of two pages of one"])
def test_one_in_the_same_place(world: Night, pages: bool) -> None:
    """B2: one without an id that may be ours is not forgotten for a stranger's that stands where it stood."""
    ids = strangers(world, 4 if pages else 1)
    lists = Lists(world, rows=2 if pages else 1)

    def change(one: Object) -> None:
        first = one["id"] == ids[-1] if pages else one["object"] == "payment_intent"
        if first or (one["id"] == ids[1] if pages else one["object"] == "charge"):
            one.update(id=None, metadata=7 if first else {})

    lists.change = change
    result = world.run()
    assert (result.complete, result.unreadable) == (False, 2)


def test_one_id_twice(world: Night) -> None:
    """B2: of several unreadable objects with one id on a page, one that may be ours is enough."""
    (broken,) = strangers(world, 1)
    lists = Lists(world)
    lists.repeated = 2
    carried: Iterator[object] = iter([7, {}])
    lists.change = lambda one: one.update(status=None, metadata=next(carried)) if one["id"] == broken else None
    result = world.run()
    assert (result.complete, result.unreadable_ids) == (False, (broken,))


@pytest.mark.parametrize("fields", [{"id": None, "metadata": 7}, {"status": None, "metadata": 7}], ids=str)
def test_one_that_is_there_no_more(world: Night, fields: Object) -> None:
    """B2: what could not be read, and is gone or can be read by the next call, keeps no night incomplete."""
    (broken,) = strangers(world, 1)
    lists = Lists(world)
    break_ids(lists, [broken], **fields)
    assert not world.run().complete
    lists.change = lambda one: None
    if "status" in fields:
        world.sandbox.remove(broken)
    result = world.run()
    assert (result.complete, result.unreadable) == (True, 0)


def test_of_another_time(world: Night) -> None:
    """B2: a page with an unreadable object of another time than was asked for is no answer, as with a readable one."""
    (broken,) = strangers(world, 1)
    break_ids(Lists(world), [broken], status=None, created=7)
    result = world.run()
    assert (result.complete, result.unreadable) == (False, 0)


def test_a_dry_run(world: Night) -> None:
    """B2: a dry run says the same, and keeps nothing."""
    (broken,) = strangers(world, 1)
    break_ids(Lists(world), [broken], status=None, metadata=7)
    before = world.dump()
    result = world.run(dry_run=True)
    assert (result.complete, result.unreadable_ids, world.dump()) == (False, (broken,), before)


def test_for_people(shell: NightShell) -> None:
    """B2: the summary counts and names what could not be read; an incomplete night exits 3 and names it, too."""
    shell.pay("order_1")
    shell.stranger_pays(500)
    stranger = next(made["id"] for made in shell.sandbox.charges if made["amount"] == 500)
    shell.sandbox.change(stranger, status=None)
    run = shell.reconcile()
    assert (run.code, run.err) == (0, "")
    assert f"  unreadable 1 object of the provider's: {stranger}" in run.out.splitlines()
    shell.sandbox.change(stranger, metadata={"paycli_intent": 7})
    shell.clock.advance(hours=24)
    run = shell.reconcile("--date", "2026-11-20")
    assert run.code == 3
    assert stranger in run.err
