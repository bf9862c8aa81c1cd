"""Rows that are leased or backed off: what a worker says of them, and `paycli pending`, `show` and `worker`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway_client.charge import iso
from gateway_client.flow.leasing import CountWaiting, Lease, Release
from tests.cli_world import World as Shell
from tests.kit import KINDS, World
from tests.worker_kit import News, TimedWorld, queue, work
from tests.worker_yard import LONG_AGO, prepare, sql, worker_shell

LEASED = "UPDATE pending_charges SET leased_by = 'web-3:71:ab', leased_until ="
LONG = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
LONG_AS_JSON = iso(LONG)
BACKED_OFF = "UPDATE pending_charges SET resume_at ="
COLUMNS = ("leased_by", "leased_until", "resume_at")
LEASE_S, OPEN_S = 140.0, 40.0


@pytest.fixture(params=KINDS)
def either(request: pytest.FixtureRequest) -> Iterator[World]:
    """The world of each of the two clients, on each database."""
    with TimedWorld(request.param) as world:
        yield world


@pytest.fixture(params=["sqlite", "postgresql"])
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shell]:
    with worker_shell(tmp_path, request.param) as made:
        yield made


def test_a_worker_says_why_nothing_is_due(either: World) -> None:
    """F7: who finds nothing to do hears how many rows are leased and backed off, until when, on every database."""
    client = either.open_client()
    queue(client, 5)
    leased = either.perform(Lease("dead", 5, LEASE_S, OPEN_S))
    taken_at = either.clock.now
    aside = tuple((charge.idempotency_key, 600.0 + number) for number, charge in enumerate(leased[3:]))
    either.perform(Release("dead", aside))
    news = work(client)
    until, first, last = (iso(taken_at + timedelta(seconds=after)) for after in (LEASE_S, 600.0, 601.0))
    assert news.notes == [f"0 due, 3 leased until {until}, 2 backed off until {first} to {last}"]
    assert (news.charges, len(either.sends)) == ([], 0)


@pytest.mark.parametrize(("off_s", "taken"), [(7200.0, 0), (7201.0, 1)])
@pytest.mark.parametrize("held", ["leased", "backed off"])
def test_what_a_clock_that_was_ahead_keeps_is_over(either: World, held: str, off_s: float, taken: int) -> None:
    """L6: a row leased or set aside for longer than any worker does it is due: nothing waits for a wrong clock."""
    client = either.open_client()
    queue(client, 1)
    (charge,) = either.perform(Lease("ahead", 1, off_s if held == "leased" else LEASE_S, OPEN_S))
    if held == "backed off":
        either.perform(Release("ahead", ((charge.idempotency_key, off_s),)))
    waiting = either.perform(CountWaiting(OPEN_S))
    assert (waiting.due, waiting.leased + waiting.backed_off) == (taken, 1 - taken)
    assert len(either.perform(Lease("right", 1, LEASE_S, OPEN_S))) == taken


def test_an_open_send_is_waited_for(either: World) -> None:
    """F7: a row that somebody waits for the answer of is told as such, and is not due."""
    client = either.open_client()
    queue(client, 1)
    either.sql(
        "INSERT INTO paycli_sends (intent_id, operation, attempt, send_no, credential_id, begun_at, actor) "
        "VALUES ('order_0', 'charge', 1, 1, 'x', ?, 'billing@web-3')",
        (either.clock.now.strftime("%Y-%m-%d %H:%M:%S.%f+00:00"),),
    )
    assert work(client).notes == ["0 due, 1 with a send that may still be answered"]


def test_the_same_is_told_once(either: World) -> None:
    """F7: an idle worker that goes on says it once for as long as it is so, and nothing when nothing is pending."""
    client = either.open_client()
    either.clock.advance(seconds=5)
    queue(client, 1)
    either.perform(Lease("dead", 1, LEASE_S, OPEN_S))
    news = work(client, News(until=1), until_idle=False)  # until that lease is over: many looks
    assert [note.partition(" until ")[0] for note in news.notes] == ["0 due, 1 leased"]
    assert work(client).notes == []


def test_commands_show_lease_and_next_try(shell: Shell) -> None:
    """F7: `pending` and `show` name the holder of a lease, its end, and the next try of a row that was backed off."""
    prepare(shell, 3)
    sql(shell, f"{LEASED} '{LONG}' WHERE intent_id = 'order_0'")
    sql(shell, f"{LEASED} '{LONG_AGO}' WHERE intent_id = 'order_1'")
    sql(shell, f"{BACKED_OFF} '{LONG}' WHERE intent_id = 'order_2'")
    found = {each["intent_id"]: each for each in shell.paycli("pending", "--json").objects}
    held = [[found[f"order_{number}"][name] for name in COLUMNS] for number in range(3)]
    assert held == [
        ["web-3:71:ab", LONG_AS_JSON, None],
        ["web-3:71:ab", "2020-01-01T00:00:00.000Z", None],
        [None, None, LONG_AS_JSON],
    ]
    for number in range(3):
        (shown,) = shell.paycli("show", f"order_{number}", "--json").objects
        assert [shown[name] for name in COLUMNS] == held[number]
    held_now = f"leased by web-3:71:ab until {LONG_AS_JSON}"
    over = "leased by web-3:71:ab until 2020-01-01T00:00:00.000Z, which is over: the next worker takes it"
    said = {
        "order_0": (held_now, f"lease    {held_now}"),
        "order_1": (over, f"lease    {over}"),
        "order_2": (f"next try {LONG_AS_JSON}", f"next try workers leave it alone until {LONG_AS_JSON}"),
    }
    lines = shell.paycli("pending").out.splitlines()
    for name, (short, long) in said.items():
        assert [line.partition("USD  ")[2] for line in lines if f" {name} " in line] == [short]
        assert f"  {long}\n" in shell.paycli("show", name).out


def test_worker_of_the_command_line(shell: Shell) -> None:
    """F7: `paycli worker` that finds nothing to do says so with the numbers, to people and to programs."""
    prepare(shell, 4)
    sql(shell, f"{LEASED} '{LONG}' WHERE intent_id <> 'order_0'")
    sql(shell, f"{BACKED_OFF} '{LONG}' WHERE intent_id = 'order_0'")
    text = f"0 due, 3 leased until {LONG_AS_JSON}, 1 backed off until {LONG_AS_JSON}"
    people, programs = shell.paycli("worker", "--until-idle"), shell.paycli("worker", "--until-idle", "--json")
    assert (people.code, people.out, people.err.splitlines()[1:-1]) == (1, "", [text])
    assert [each["text"] for each in programs.objects][1:-1] == [text]
