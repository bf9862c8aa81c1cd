"""The benchmark's own arithmetic, tables and counting of errors; nothing is measured or compiled here."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import picture, places, provider, publish
from benchmarks.arithmetic import Measure, measure, percentile, ratios
from benchmarks.charging import _values_of
from benchmarks.inside import Fact, key_of, plant
from benchmarks.load import NotCharged, drive, drive_async, names_of, told
from benchmarks.modes import BASE, BY_NAME, MODES, Mode
from benchmarks.ours import intent_of
from benchmarks.planting import amount_of, backlog, plan_night
from benchmarks.report import errors_of, markdown, stored, tables_of, targets_of
from benchmarks.sections import Section, Table, shown
from benchmarks.targets import TARGETS, Side, judge
from benchmarks.usage import is_control, peak_bytes, verb
from gateway_client import Client, Sandbox, State, Stripe
from tests import postgres


def test_a_measure_is_the_median_with_its_ends() -> None:
    """Rounds are told by their median, the lowest and the highest of them; without a round there is no figure."""
    assert measure([3.0, 1.0, 2.0]) == Measure(2.0, 1.0, 3.0, 3)
    assert measure([]) is None
    assert shown(measure([3.0, 1.0, 2.0]), 1) == "2.0 (1.0 to 3.0)"
    assert (shown(measure([4.0]), 1), shown(None)) == ("4.0", "-")


def test_percentiles_are_of_values_that_were_seen() -> None:
    """A percentile is one of the values, the 99th of a hundred the second highest."""
    values = [float(number) for number in range(1, 101)]
    assert (percentile(values, 0.50), percentile(values, 0.99), percentile([7.0], 0.99)) == (50.0, 99.0, 7.0)
    assert percentile([], 0.5) is None


def test_ratios_stay_within_their_round() -> None:
    """A ratio is of two figures of one round; a round that lacks one of them has none."""
    rounds = [{"a": 2.0, "b": 1.0}, {"a": 9.0, "b": 3.0}, {"a": 5.0}, {"b": 1.0}, {"a": 1.0, "b": 0.0}]
    assert ratios(rounds, "a", "b") == [2.0, 3.0]


def test_a_call_that_fails_is_counted() -> None:
    """A failed call is counted by what it says, and its time is not among those of charges."""

    def call(name: str) -> None:
        if name.endswith(("3", "7")):
            raise NotCharged(f"{name} of 10 in /tmp/some/file.db")

    driven = drive(call, names_of("x"), 2, calls=10)
    assert len(driven.latencies_s) == 8
    assert driven.failed == {"NotCharged: x_# of # in <path>": 2}
    assert driven.as_json()["failed"] == driven.failed


def test_a_task_that_fails_is_counted() -> None:
    """What holds for threads holds for tasks."""

    async def call(name: str) -> None:
        if name == "x_0":
            raise ValueError

    driven = asyncio.run(drive_async(call, names_of("x"), 4, calls=6))
    assert (len(driven.latencies_s), driven.failed) == (5, {"ValueError: ": 1})


def test_no_calls_are_no_calls() -> None:
    """A burst of no calls ends at once, and has no times."""
    driven = drive(lambda name: None, names_of("x"), 1, calls=0)
    assert (driven.latencies_s, driven.as_json()["p99_ms"]) == ([], None)


def test_errors_are_short() -> None:
    """What an error says is one short line, the same for calls that differ in numbers only."""
    assert told(ValueError("order_1 in 20 s\nmore")) == told(ValueError("order_2 in 35 s"))
    assert len(told(ValueError("x" * 999))) <= 200


def a_section(*, failing: int = 0) -> Section:
    section = Section("charge")
    section.tables.append(Table("Charges", ("mode", "failed"), [("ours", str(failing))], "a note"))
    section.keep("charge/ours-async-sqlite/64/ratio", [3.5, 5.0, 4.5])
    section.keep("charge/ours-async-postgresql/64/ratio", [3.5, 3.0, 9.0])
    if failing:
        section.failed("ours, 64 in flight", {"StoreUnavailable: busy": failing})
    return section


def verdict_of(section: Section, what: str) -> tuple[float | None, str]:
    found = next(one for one in judge(section.figures) if one.target.what == what)
    return found.measured, found.word


def test_what_must_hold_is_judged_by_the_worst_median() -> None:
    """A bound is set beside the worst median of its figures, and one that lacks a figure is not measured."""
    what = "charge, 64 in flight, async, x bare SDK"
    assert verdict_of(a_section(), what) == (3.5, "reached")
    worse, better, half = a_section(), a_section(), Section("charge")
    worse.keep("charge/ours-async-sqlite/64/ratio", [2.9])
    better.keep("charge/ours-async-postgresql/64/ratio", [4.0])
    half.keep("charge/ours-async-sqlite/64/ratio", [5.0])
    assert verdict_of(worse, what) == (2.9, "NOT REACHED")
    assert verdict_of(better, what) == (4.0, "goal reached")
    assert verdict_of(half, what) == (None, "not measured")


def test_a_failed_call_reaches_no_bound() -> None:
    """One call that fails in one of four modes is a bound that is not reached."""
    what, section = "calls that fail, 256 in flight, four processes", Section("crowd")
    modes = [mode.name for mode in MODES if mode.name.startswith("ours-")]
    for mode in modes:
        section.keep(f"crowd/{mode}/failed", [0.0])
    assert verdict_of(section, what) == (0.0, "goal reached")
    section.keep(f"crowd/{modes[2]}/failed", [1.0])
    assert verdict_of(section, what) == (1.0, "NOT REACHED")


def test_bounds_and_goals_agree() -> None:
    """A goal is at least as strict as its bound."""
    for target in TARGETS:
        goal = target.must if target.goal is None else target.goal
        assert goal >= target.must if target.side is Side.AT_LEAST else goal <= target.must


def test_every_error_is_shown_and_stored() -> None:
    """An error is a row with its number, in the printed tables and in the JSON; a run without any says so."""
    section = a_section(failing=3)
    section.missing["DBOS"] = "dbos is not installed"
    rows = errors_of([section]).rows
    assert ("charge: ours, 64 in flight", "StoreUnavailable: busy", "3") in rows
    assert ("charge: DBOS", "not measured: dbos is not installed", "") in rows
    kept = json.loads(json.dumps(stored([section], {"commit": "abc"})))
    assert kept["sections"]["charge"]["errors"] == [
        {"where": "ours, 64 in flight", "what": "StoreUnavailable: busy", "times": 3}
    ]
    assert kept["sections"]["charge"]["figures"]["charge/ours-async-sqlite/64/ratio"]["median"] == 4.5
    assert errors_of([a_section()]).rows == [("everywhere", "no error", "0")]


def test_a_process_that_fails_is_shown() -> None:
    """A measured process that ends badly has no figures, and is an error."""
    section = Section("charge")
    assert _values_of(BY_NAME[BASE], {"error": "ended with 1: no"}, section) == {}
    assert section.errors == Counter({("official SDK, sync, the process", "ended with 1: no"): 1})


def test_the_values_of_a_round() -> None:
    """A burst's figures carry its mode and its number in flight; where nothing succeeded there is no p99."""
    dead: dict[str, Any] = {"per_s": 0.0, "cpu_ms": None, "p50_ms": None, "p99_ms": None}
    bursts = [
        {"in_flight": 1, "failed": {}, "per_s": 10.0, "cpu_ms": 3.0, "p50_ms": 2.0, "p99_ms": 8.0},
        {"in_flight": 8, "failed": {"no": 4}, **dead},
    ]
    section = Section("charge")
    values = _values_of(BY_NAME[BASE], {"bursts": bursts}, section)
    assert values["sdk-sync/1/tail"] == 4.0
    assert "sdk-sync/8/tail" not in values
    assert section.failures_of("official SDK, sync, 8 in flight") == 4


def test_tables_are_markdown() -> None:
    """Each table is one of Markdown, every row with as many cells as it has columns."""
    tables = tables_of([a_section(failing=1)])
    assert [table.title for table in tables] == ["Charges", "Errors", "What must hold"]
    for table in tables:
        assert {len(row) for row in table.rows} == {len(table.columns)}
    assert "| ours | 1 |" in markdown(tables)
    assert len(targets_of([]).rows) == len(TARGETS)


def test_a_published_run_replaces_the_one_before() -> None:
    """Publishing writes between the page's two marks and nowhere else, as often as it is done."""
    about = dict.fromkeys(("at", "commit", "cores", "python", "sqlite", "postgresql"), "x")
    page = publish.PAGE.read_text(encoding="utf-8")
    once = publish.with_results(page, [a_section()], about, has_picture=True)
    assert once.count(publish.BEGIN) == once.count(publish.END) == 1
    assert publish.with_results(once, [a_section()], about, has_picture=True) == once
    assert once.startswith(page.partition(publish.BEGIN)[0])
    assert "](benchmarks.svg)" in once


def test_a_picture_is_svg(tmp_path: Path) -> None:
    """The picture is a file of SVG that names the modes which were measured."""
    if (why := picture.missing()) is not None:
        pytest.skip(why)
    picture.draw(a_section().figures, tmp_path / "drawn.svg")
    text = (tmp_path / "drawn.svg").read_text(encoding="utf-8")
    assert ElementTree.fromstring(text).tag.endswith("svg")
    assert "ours, async, SQLite" in text


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a C compiler the benchmark says that one is missing, and which it looked for."""
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(provider.CannotBuild, match="no C compiler: none of cc, gcc, clang"):
        provider.build(tmp_path)


def test_a_missing_package_is_named() -> None:
    """A mode whose package is not installed says so."""
    assert Mode("x", "x", "peers.open_dbos", needs="no_such_package_here").missing() is not None
    assert BY_NAME[BASE].missing() is None


@pytest.mark.parametrize("kind", places.KINDS)
def test_planted_rows_are_charges(kind: str, tmp_path: Path) -> None:
    """Planted rows are found as charges that have succeeded, each with its own key, id, amount and time."""
    plan = plan_night(tmp_path, 20)
    url = f"sqlite:///{tmp_path / 'store.db'}" if kind == places.SQLITE else postgres.shown(postgres.fresh_database())
    sandbox = Sandbox(account=provider.ACCOUNT)
    with sandbox.serve() as server:
        plant(url, server.url, plan.facts)
        with Client(Stripe(sandbox.api_key, api_base=server.url), database=url) as client:
            made = client.charge(intent_of("night_more"))
            found = [client.find(fact.name) for fact in plan.facts()]
    assert made.idempotency_key == key_of("night_more")
    assert [
        (one.state, one.idempotency_key, one.provider_charge_id, one.amount, one.created_at)
        for one in found
        if one is not None
    ] == [(State.SUCCEEDED, fact.key, fact.charge_id, fact.amount, fact.created) for fact in plan.facts()]
    assert len(sandbox.charges) == 2  # the one that was copied, and the last one: planting charges nobody


def test_a_planted_backlog_can_be_finished(tmp_path: Path) -> None:
    """Planted prepared charges are sent by `resume` as any others are, and the one they are copies of is not."""
    url, sandbox = f"sqlite:///{tmp_path / 'store.db'}", Sandbox(account=provider.ACCOUNT)
    with sandbox.serve() as server:
        plant(url, server.url, backlog(3), prepared=True)
        with Client(Stripe(sandbox.api_key, api_base=server.url), database=url) as client:
            finished = client.resume()
    assert [(one.intent_id, one.state, one.amount) for one in finished] == [
        (f"backlog_{number:07}", State.SUCCEEDED, amount_of(number)) for number in range(3)
    ]
    assert len(sandbox.charges) == 3


def test_a_night_is_spread_over_its_day(tmp_path: Path) -> None:
    """The charges of a night are oldest first, inside the day, each with the key that its file has in that line."""
    plan = plan_night(tmp_path, 50)
    facts: Sequence[Fact] = [*plan.facts()]
    moments = [fact.created for fact in facts]
    assert moments == sorted(moments)
    assert {moment.date() for moment in moments} == {plan.day}
    assert [fact.key for fact in facts] == plan.keys.read_text(encoding="ascii").split()
    assert (facts[1].intent_id, facts[1].amount) == ("pi_bench00000000000001", 1001)


def test_statements_are_told_apart() -> None:
    """What begins and ends a transaction is counted apart from what reads and writes."""
    assert [verb(text) for text in ("BEGIN IMMEDIATE", "select 1", "COMMIT;", "")] == ["BEGIN", "SELECT", "COMMIT", ""]
    assert (is_control("COMMIT"), is_control("SELECT")) == (True, False)


def test_memory_is_this_process_s() -> None:
    """The most memory that a process has had is some megabytes, and never becomes less."""
    assert 1_000_000 < peak_bytes() <= peak_bytes()
