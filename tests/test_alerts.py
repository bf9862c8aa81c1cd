"""When somebody is woken: each cause at its threshold, to the second. How it is told: `test_cli_alerts.py`."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select

import reconcile.alerts
from gateway_client import State, columns
from gateway_client.finding import Code
from gateway_client.state import PENDING
from gateway_client.transaction import Transaction
from reconcile.ages import AGES, every
from reconcile.alerts import Alert, Facts, Group, Limits, alerts
from tests.kit import START, Killed
from tests.nightly import DATABASES, Night, night
from tests.nightly_facts import (
    HOUR,
    KEY_LIFE,
    LIMITS,
    NEVER,
    SECOND,
    causes,
    facts_of,
    fired,
    plant,
    plant_finding,
)

FINAL = tuple(state for state in State if not state.pending)


@pytest.fixture(params=DATABASES)
def world(request: pytest.FixtureRequest) -> Iterator[Night]:
    with night(request.param) as made:
        yield made


def test_an_empty_store_was_never_reconciled(world: Night) -> None:
    """A store with nothing in it fires exactly one alert: that nobody has ever reconciled it."""
    assert tuple(fired(world).values()) == (NEVER,)


def test_a_rule_that_never_fires_changes_nothing(world: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adding a rule adds its alerts and touches no other."""
    plant(world, "order_1", State.UNKNOWN, START - 48 * HOUR)
    facts, _ = facts_of(world)
    before = alerts(facts, LIMITS)
    monkeypatch.setattr(reconcile.alerts, "RULES", (lambda facts, limits: iter(()), *reconcile.alerts.RULES))
    assert alerts(facts, LIMITS) == before
    assert len(before) == 2


def test_json_fields_in_their_order() -> None:
    """An alert is one object with six fields, in this order; a time is ISO 8601 in UTC, or null."""
    alert = Alert("pending_unknown", 2, START, "order_1", "in words")
    assert list(alert.as_json().items()) == [
        ("cause", "pending_unknown"),
        ("severity", "warning"),
        ("count", 2),
        ("since", "2026-11-20T12:00:00.000Z"),
        ("intent_id", "order_1"),
        ("message", "in words"),
    ]
    assert list(NEVER.as_json().values())[:4] == ["not_reconciled", "warning", 1, None]


@pytest.mark.parametrize("state", PENDING)
@pytest.mark.parametrize(("over", "fires"), [(timedelta(0), False), (SECOND, True)])
def test_pending_too_long(world: Night, state: State, over: timedelta, fires: bool) -> None:
    """C3: every pending state fires once its row is older than that state may be, to the second (L3, F57)."""
    age = 7 * 24 * HOUR if state is State.PROCESSING else 24 * HOUR
    plant(world, "order_1", state, START)
    assert causes(world, START + age + over) == ({f"pending_{state}"} if fires else set())
    assert set(AGES) == set(PENDING)


@pytest.mark.parametrize("state", FINAL)
def test_what_is_final_is_never_pending(world: Night, state: State) -> None:
    """A final charge wakes nobody, however old."""
    plant(world, "order_1", state, START - 9999 * HOUR, first_sent_at=START - 22 * HOUR)
    assert causes(world) == set()


def test_one_line_for_each_state(world: Night) -> None:
    """Charges of one state are one line: how many, and the oldest of them by name, the first one of a tie."""
    rows = [(State.UNKNOWN, 30), (State.UNKNOWN, 50), (State.UNKNOWN, 50), (State.UNKNOWN, 23), (State.CONFLICT, 25)]
    for number, (state, hours) in enumerate(rows):
        plant(world, f"order_{number}", state, START - hours * HOUR)
    conflict = "1 charge conflict for more than 1d 0h, the oldest order_4 for 1d 1h: see `paycli pending`"
    unknown = "3 charges unknown for more than 1d 0h, the oldest order_1 for 2d 2h: see `paycli pending`"
    assert list(fired(world).values()) == [
        Alert("pending_conflict", 1, START - 25 * HOUR, "order_4", conflict),
        Alert("pending_unknown", 3, START - 50 * HOUR, "order_1", unknown),
        NEVER,
    ]


def test_it_clears_by_itself(world: Night) -> None:
    """An alert about a pending charge is gone as soon as `resume` or the nightly run has finished it."""
    world.doubt("order_1")
    world.clock.advance(hours=24, seconds=1)
    assert causes(world) == {"pending_unknown"}
    assert world.run(START.date()).repaired == 1
    assert fired(world) == {}


@pytest.mark.parametrize(
    ("after_first_send", "left"),
    [
        (timedelta(0), None),
        (KEY_LIFE - 2 * HOUR - SECOND, None),
        (KEY_LIFE - 2 * HOUR, "2h 0m"),
        (KEY_LIFE - HOUR + 15 * SECOND, "59m 45s"),
        (KEY_LIFE - SECOND, "1s"),
        (KEY_LIFE, None),
        (30 * HOUR, None),
    ],
)
def test_key_ends_soon(world: Night, after_first_send: timedelta, left: str | None) -> None:
    """In the last two hours of its key's life a charge in doubt is named, with the time left; not before, not after."""
    world.doubt("order_1", "lost_request")
    found = fired(world, START + after_first_send, Limits(pending=every(99 * HOUR), reconciled=99 * HOUR))
    message = (
        f"1 charge in doubt whose key's life ends soon, the first order_1 in {left}: run `paycli resume` before then"
    )
    expected = Alert("key_ends_soon", 1, START + KEY_LIFE, "order_1", message)
    assert found == {"not_reconciled": NEVER} | ({} if left is None else {"key_ends_soon": expected})


@pytest.mark.parametrize(
    "change",
    [
        "closed_at = first_sent_at",
        "provider_intent_id = 'pi_1'",
        *(f"state = '{state}'" for state in (*FINAL, State.PROCESSING, State.REQUIRES_ACTION, State.CONFLICT)),
        "state = 'prepared', first_sent_at = NULL",
    ],
)
def test_keys_that_nothing_waits_for(world: Night, change: str) -> None:
    """What is closed, known to the provider, final, never sent, or never sent again has no key to hurry for."""
    world.doubt("order_1", "lost_request")
    world.clock.advance(hours=22)
    assert causes(world) == {"key_ends_soon"}
    world.sql(f"UPDATE pending_charges SET {change}")
    assert causes(world) == set()


@pytest.mark.parametrize(
    ("passed", "said"),
    [(26 * HOUR - SECOND, None), (26 * HOUR, None), (26 * HOUR + SECOND, "1d 2h"), (99 * HOUR, "4d 3h")],
)
def test_last_reconciliation_too_old(world: Night, passed: timedelta, said: str | None) -> None:
    """Once the last complete run is older than the limit it is told, to the second: a dead job cannot (F128, F149)."""
    assert world.run().complete
    message = (
        f"the last complete reconciliation ended {said} ago, more than 1d 2h: run `paycli reconcile`, "
        "and see why it did not run"
    )
    expected = Alert("not_reconciled", 1, START, None, message)
    found = fired(world, START + passed)
    found.pop("days_missed", None)
    assert found == ({} if said is None else {"not_reconciled": expected})


@pytest.mark.parametrize("attempted", ["incomplete", "killed", "given up", "dry"])
def test_only_a_complete_run_counts(world: Night, attempted: str) -> None:
    """A run that could not read everything, was killed or given up, and a dry run, do not quiet it (F122)."""
    world.pay("order_1")
    if attempted == "killed":
        world.kill_at("GET", "/v1/charges")
        with pytest.raises(Killed):
            world.run()
    elif attempted == "dry":
        assert world.run(dry_run=True).complete
    else:
        world.answer(503, on=("GET", "/v1/charges"), times=99)
        assert not world.run().complete
    if attempted == "given up":
        world.clock.advance(hours=24)
        assert not world.run(START.date()).complete
        assert world.sql("SELECT complete, ended_at IS NULL FROM paycli_runs ORDER BY started_at") == [(0, 0), (0, 1)]
    assert fired(world) == {"not_reconciled": NEVER}
    world.hooks.clear()
    world.end_leases()
    assert world.run().complete
    assert fired(world) == {}


def test_a_day_that_was_never_finished(world: Night) -> None:
    """A day begun and left incomplete is named until it is completed: the next night reconciles another one (F128)."""
    world.pay("order_1")
    world.answer(503, on=("GET", "/v1/charges"), times=6)
    assert not world.run(START.date()).complete
    ended = START + SECOND  # the day was not over: its window ends where the run began
    world.clock.advance(hours=24)
    assert world.run(START.date() + timedelta(days=1)).complete
    limits = Limits(pending=every(99 * HOUR), reconciled=26 * HOUR)
    message = "1 begun and never completed, the oldest first: run `paycli reconcile --date 2026-11-20 --tz UTC`"
    expected = {"reconciliation_unfinished": Alert("reconciliation_unfinished", 1, ended, None, message)}
    assert fired(world, ended + 26 * HOUR, limits) == {}
    assert fired(world, ended + 26 * HOUR + SECOND, limits) == expected
    assert world.run(START.date()).complete
    assert fired(world, ended + 26 * HOUR + SECOND, limits) == {}


def test_ten_thousand_rows_cost_as_many_statements_as_one(world: Night) -> None:
    """However many charges are pending, the same few statements are asked, and the figures are right (L3)."""
    plant(world, "order_00001", State.UNKNOWN, START - 30 * HOUR, first_sent_at=START - 22 * HOUR)
    _, few = facts_of(world)

    def copy(tx: Transaction) -> None:
        row = tx.execute(select(columns.charges)).mappings().one()
        numbers = range(2, 10_001)
        copies = [{**row, "intent_id": f"order_{number:05}", "idempotency_key": f"key_{number}"} for number in numbers]
        tx.execute(insert(columns.charges), copies)

    world.transact(copy)
    facts, many = facts_of(world)
    assert (many, many < 20) == (few, True)
    assert facts.pending_too_long == (Group("unknown", 10_000, START - 30 * HOUR, "order_00001"),)
    assert facts.keys_ending is not None
    assert (facts.keys_ending.count, facts.keys_ending.since) == (10_000, START + KEY_LIFE - 22 * HOUR)


@pytest.mark.parametrize("seed", range(2))
def test_the_figures_are_those_of_every_row(world: Night, seed: int) -> None:
    """Of hundreds of random rows, what fires is what reading them one by one says."""
    chance = random.Random(seed)
    old: list[tuple[State, datetime, str]] = []
    ending: list[tuple[datetime, str]] = []
    for number in range(150):
        state, created = chance.choice(list(State)), START - chance.randrange(60 * 3600) * SECOND
        sent = None if chance.random() < 0.2 or state is State.PREPARED else created + chance.randrange(3600) * SECOND
        closed, intent = sent if chance.random() < 0.2 else None, chance.choice([None, None, None, "pi_1"])
        name = f"order_{number}"
        plant(world, name, state, created, first_sent_at=sent, closed_at=closed, provider_intent_id=intent)
        if state in PENDING and START - created > LIMITS.pending[state]:
            old.append((state, created, name))
        in_doubt = state in (State.SENDING, State.UNKNOWN) and not closed and not intent
        if sent is not None and in_doubt and timedelta(0) < sent + KEY_LIFE - START <= 2 * HOUR:
            ending.append((sent + KEY_LIFE, name))
    found, _ = facts_of(world)
    by_state = Counter(state for state, _, _ in old)
    firsts = {state: min((at, name) for each, at, name in old if each is state) for state in by_state}
    assert found.pending_too_long == tuple(
        Group(state, by_state[state], *firsts[state]) for state in sorted(by_state, key=str)
    )
    assert found.keys_ending == (Group("in doubt", len(ending), *min(ending)) if ending else None)


def test_our_clock_is_behind(world: Night) -> None:
    """Times that lie ahead of our clock neither crash it nor show a negative age (F150)."""
    world.doubt("order_1", "lost_request")
    world.run()
    plant_finding(world, Code.DUPLICATE_CHARGE, "order_2", START)
    for back in (SECOND, HOUR, 9999 * HOUR):
        found = fired(world, START - back)
        assert {cause: (alert.count, alert.since) for cause, alert in found.items()} == {"duplicate_charge": (1, START)}
    group = Group("unknown", 1, START + HOUR, "order_1")
    ahead = Facts(START, (group,), Group("in doubt", 1, START - HOUR, "order_1"), START + HOUR, group, (group,))
    messages = [alert.message for alert in alerts(ahead, Limits(pending=every(-9 * HOUR), reconciled=timedelta(0)))]
    assert ["-" in message.replace("--date", "") for message in messages] == [False, False, False, False]


@pytest.mark.parametrize("days", [1_000_000, 999_999_999])
def test_a_limit_beyond_the_calendar(world: Night, days: int) -> None:
    """A limit that reaches back before the first year fires for nothing that is pending or found."""
    never = timedelta(days=days)
    plant(world, "order_1", State.UNKNOWN, START - 48 * HOUR)
    plant_finding(world, Code.STALE_PENDING, "order_1", START - 48 * HOUR)
    assert causes(world, limits=Limits(pending=every(never), findings=never, reconciled=never)) == set()


def test_a_charge_that_is_settled_meanwhile(world: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another process settles between two statements crashes nothing: the figures are of one moment (F140)."""
    plant(world, "order_1", State.UNKNOWN, START - 48 * HOUR, first_sent_at=START - 22 * HOUR)
    plant_finding(world, Code.DUPLICATE_CHARGE, "order_1", START)
    everything = {"pending_unknown", "key_ends_soon", "duplicate_charge"}
    assert causes(world) == everything
    ask = Transaction.execute

    def interrupted(*arguments: Any) -> Any:
        result = ask(*arguments)
        world.sql("UPDATE pending_charges SET state = 'succeeded'")
        world.sql("UPDATE paycli_findings SET closed_at = found_at")
        return result

    monkeypatch.setattr(Transaction, "execute", interrupted)
    assert causes(world) in (everything, set())
