"""`paycli findings` and `resolve`: what they print and change."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli_world import CARD
from tests.nightly import DATABASES
from tests.nightly_shell import FINDING_FIELDS, NO_KEY, NightShell, cells, night_shell

WHO = {"LOGNAME": "ann"}
PLANTED_AT = "2026-11-20 12:00:00.000000"


@pytest.fixture(params=DATABASES)
def shell(request: pytest.FixtureRequest) -> Iterator[NightShell]:
    with night_shell(request.param) as made:
        yield made


# What is listed -------------------------------------------------------------------------------------------------------


def test_no_finding(shell: NightShell) -> None:
    """With nothing open it prints no data, says so, and is exit 0; it needs no key and asks nobody."""
    asked = shell.asked
    for options in ((), ("--json",), ("--all",), ("--all", "--json")):
        run = shell.paycli("findings", *options, **NO_KEY)
        assert (run.code, run.out, run.err) == (0, "", "no finding is open\n")
    assert shell.asked == asked


def test_both_sides_are_next_to_each_other(shell: NightShell) -> None:
    """Each open finding shows what is here beside what is at the provider, and what it means, oldest first, exit 1."""
    gone = shell.lose_charge("order_1")
    assert shell.reconcile().code == 1
    shell.clock.advance(hours=3)
    other = shell.misstate("order_2")
    assert shell.reconcile().code == 1
    shell.clock.advance(minutes=5)
    run = shell.paycli("findings", **NO_KEY)
    first, second = (one["id"] for one in shell.paycli("findings", "--json").objects)
    lines = run.out.splitlines()
    assert [line[:4] for line in lines[2::2]] == ["    ", "    "]
    assert ["the provider has no" in lines[2], "the amounts differ" in lines[4]] == [True, True]
    assert [cells(line) for line in (lines[0], *lines[1::2])] == [
        ["id", "code", "intent", "here", "at the provider", "open for, or closed"],
        [first, "missing_at_provider, critical", "order_1", f"succeeded 20.00 USD {gone}", "nothing (404)", "3h 5m"],
        [second, "amount_mismatch", "order_2", f"succeeded 20.00 USD {other}", f"succeeded 25.00 USD {other}", "5m 0s"],
    ]
    assert (run.code, run.err) == (1, "2 open; close one with `paycli resolve ID --because …`\n")


def test_json(shell: NightShell) -> None:
    """For programs it is one object a line, with exactly the promised fields; nothing else is on stdout."""
    charge_id = shell.misstate("order_2")
    shell.reconcile()
    run = shell.paycli("findings", "--json")
    (one,) = run.objects
    assert (run.code, list(one)) == (1, FINDING_FIELDS)
    assert {name: one[name] for name in FINDING_FIELDS[1:6]} == {
        "code": "amount_mismatch",
        "intent_id": "order_2",
        "attempt": 1,
        "provider_charge_id": charge_id,
        "action": "flagged",
    }
    assert (one["found_at"], one["closed_at"], one["closed_by"], one["because"]) == (
        "2026-11-20T12:00:00.000Z",
        None,
        None,
        None,
    )


def test_all(shell: NightShell) -> None:
    """With --all those repaired and closed are listed too, each with its end; the exit code counts the open ones."""
    shell.doubt("order_1")
    assert shell.reconcile().code == 0
    assert shell.paycli("findings").out == ""
    run = shell.paycli("findings", "--all")
    (run_id,) = shell.sql("SELECT run_id FROM paycli_runs")[0]
    assert (run.code, run.err) == (0, "no finding is open\n")
    assert cells(run.out.splitlines()[1])[5] == f"closed 2026-11-20T12:00:00.000Z by {run_id}: repaired"
    shell.lose_charge("order_2")
    shell.reconcile()
    listed = shell.paycli("findings", "--all", "--json")
    assert (listed.code, [one["code"] for one in listed.objects]) == (1, ["outcome_recovered", "missing_at_provider"])
    assert [one["code"] for one in shell.paycli("findings", "--json").objects] == ["missing_at_provider"]


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_every_page_is_listed(shell: NightShell, options: tuple[str, ...]) -> None:
    """1,200 findings of one moment are all listed, each once: no page ends in the middle of a second."""
    ids = [f"{number:016x}" for number in range(1_200)]
    rows = [(one, "amount_mismatch", f"order_{one}", "here", "there", ".", False, PLANTED_AT) for one in ids]
    shell.sql(
        "INSERT INTO paycli_findings "
        "(id, code, intent_id, here, there, detail, charged, found_at, operation, attempt, action) VALUES "
        + ", ".join(["(?, ?, ?, ?, ?, ?, ?, ?, 'charge', 1, 'flagged')"] * len(rows)),
        [value for row in rows for value in row],
    )
    run = shell.paycli("findings", *options)
    listed = [one["id"] for one in run.objects] if options else [line[:16] for line in run.out.splitlines()[1::2]]
    assert (run.code, listed) == (1, ids)


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_escape_codes_do_nothing(shell: NightShell, options: tuple[str, ...]) -> None:
    """Whatever a finding holds cannot steer a terminal, in a table or in JSON (S24)."""
    evil = "\x1b[2J\x1b]0;owned\x07\u202e\x9b31m"
    shell.open_finding("order_1")
    shell.sql("UPDATE paycli_findings SET here = ?, there = ?, detail = ?, because = ?", (evil,) * 4)
    shell.sql("UPDATE paycli_findings SET closed_at = ?, closed_by = ?", (PLANTED_AT, evil))
    run = shell.paycli("findings", "--all", *options)
    assert not set("\x1b\x07\u202e\x9b") & set(run.out + run.err)
    assert "owned" in run.out
    assert not options or run.objects[0]["here"] == evil


def test_open_findings_of_other_days_count(shell: NightShell) -> None:
    """A clean day is exit 1 while a finding of any day is open: somebody must still look."""
    shell.pay("order_1")
    shell.open_finding("order_9")
    run = shell.reconcile()
    assert (run.code, run.out.splitlines()[-1]) == (1, "  findings open: 1; a person must look, `paycli findings`")
    assert shell.reconcile("--json").objects[0]["findings"] == []


def test_escape_codes_of_the_provider(shell: NightShell) -> None:
    """Whatever the provider writes into its words cannot steer a terminal, in a table or in JSON (F60, S24)."""
    evil = "\x1b[2J\x1b]0;owned\x07\u202e\x9b31m"
    for name in ("order_1", "order_2"):
        shell.pay(name)
    shell.change("order_1", status=evil, currency=evil, failure_code=evil)
    shell.change("order_2", amount=1, customer=evil, payment_intent=evil, metadata={"paycli_intent": evil})
    for options in (("--dry-run",), (), ("--json",)):
        run = shell.reconcile(*options)
        assert (run.code, set("\x1b\x07\u202e\x9b") & set(run.out + run.err)) == (1, set())


# What a person closes -------------------------------------------------------------------------------------------------


def test_resolve(shell: NightShell) -> None:
    """A finding is closed with who, when and why; no charge changes, no row goes away, and the history says so (S9)."""
    shell.misstate("order_1")
    shell.reconcile()
    (one,) = shell.paycli("findings", "--json").objects
    before = shell.dump()
    shell.clock.advance(minutes=9)
    run = shell.paycli("resolve", one["id"], "--because", "refunded by hand", **NO_KEY, **WHO)
    assert (run.code, run.err) == (0, "")
    assert run.out == f"closed {one['id']} (amount_mismatch of order_1)\n"
    (closed,) = shell.paycli("findings", "--all", "--json").objects
    who = closed["closed_by"]
    assert who == shell.sql("SELECT actor FROM paycli_events ORDER BY at DESC LIMIT 1")[0][0]
    ended = {"closed_at": "2026-11-20T12:09:00.000Z", "closed_by": who, "because": "refunded by hand"}
    assert closed == one | ended
    after = shell.dump()
    assert {name for name in after if after[name] != before[name]} == {"paycli_findings", "paycli_events"}
    assert [len(rows) for rows in after.values()] == [
        len(rows) + (name == "paycli_events") for name, rows in before.items()
    ]
    assert f"finding {one['id']} closed  {who}  succeeded: refunded by hand" in shell.paycli("show", "order_1").out
    assert shell.paycli("findings").code == 0


def test_found_again_after_it_was_closed(shell: NightShell) -> None:
    """What a person has closed stays closed, though every run finds it again: recorded, exit 0."""
    shell.lose_charge("order_1")
    (one,) = shell.reconcile("--json").objects[0]["findings"]
    shell.paycli("resolve", one["id"], "--because", "a known loss", **WHO)
    again = shell.reconcile("--json")
    assert (again.code, again.objects[0]["flagged"], again.objects[0]["news"]) == (0, 0, 0)
    assert [(each["id"], each["action"]) for each in again.objects[0]["findings"]] == [(one["id"], "recorded")]
    assert shell.paycli("findings").code == 0
    assert shell.paycli("findings", "--all", "--json").objects[0]["because"] == "a known loss"


def test_twice(shell: NightShell) -> None:
    """Closing it again is exit 0, says who did it when and why, and changes nothing."""
    shell.open_finding("order_1")
    shell.paycli("resolve", "finding-order_1", "--because", "refunded", **WHO)
    before = shell.dump()
    run = shell.paycli("resolve", "finding-order_1", "--because", "no, kept", LOGNAME="bob")
    ((who,),) = shell.sql("SELECT closed_by FROM paycli_findings")
    said = f"closed 2026-11-20T12:00:00.000Z by {who}: refunded"
    assert (run.code, run.err, shell.dump()) == (0, "", before)
    assert run.out == f"finding-order_1 was {said}\n"


def test_what_a_closed_finding_lets_through(shell: NightShell) -> None:
    """While a finding is open nothing is sent for its intent; once a person has closed it, the charge is made."""
    shell.open_finding("order_1")
    held = shell.paycli("charge", "order_1", *CARD)
    assert (held.code, shell.paid("order_1")) == (1, 0)
    shell.paycli("resolve", "finding-order_1", "--because", "looked at")
    assert (shell.paycli("charge", "order_1", *CARD).code, shell.paid("order_1")) == (0, 1)


@pytest.mark.parametrize("finding_id", ["0123456789abcdef", "", "%", "a\x1b[2Jb", "\udcff\udcfe", "x" * 5000])
def test_unknown_id(shell: NightShell, finding_id: str) -> None:
    """An id that is none, or no text, is exit 2 with one line that steers no terminal, and nothing is closed."""
    shell.open_finding("order_1")
    before = shell.dump()
    run = shell.paycli("resolve", finding_id, "--because", "x")
    assert (run.code, run.out, len(run.err.splitlines()), shell.dump()) == (2, "", 1, before)
    assert run.err.startswith("error: ")
    assert "\x1b" not in run.err


@pytest.mark.parametrize("because", ["", "   ", "\x1b[2J", "two\nlines", "\udcff", "x" * 5000])
def test_a_reason_that_is_none(shell: NightShell, because: str) -> None:
    """An empty, endless or unprintable reason is exit 2, names the option, and the finding stays open."""
    shell.open_finding("order_1")
    run = shell.paycli("resolve", "finding-order_1", "--because", because)
    assert (run.code, run.out, run.err.partition(": must")[0]) == (2, "", "error: --because")
    assert "Stripe" not in run.err
    assert shell.paycli("findings").code == 1


def test_a_reason_is_asked_for(shell: NightShell) -> None:
    """Without --because nothing is closed: exit 2."""
    shell.open_finding("order_1")
    assert shell.paycli("resolve", "finding-order_1").code == 2
    assert shell.paycli("findings").code == 1


@pytest.mark.parametrize("shell", ["sync"], indirect=True)  # a file
def test_read_only_database(shell: NightShell, tmp_path: Path) -> None:
    """Findings can be listed from a database that cannot be written; closing one there is exit 3, and says why."""
    shell.open_finding("order_1")
    shell.sql("PRAGMA wal_checkpoint(TRUNCATE)")
    copy = tmp_path / "copy.db"
    shutil.copy(shell.path, copy)
    content = bytearray(copy.read_bytes())
    content[18] = 9  # the file format's "write version": above what SQLite knows, it opens the file read-only
    copy.write_bytes(content)
    there = {"PAYCLI_DATABASE_URL": f"sqlite:///{copy}"}
    assert [one["intent_id"] for one in shell.paycli("findings", "--json", **there).objects] == ["order_1"]
    run = shell.paycli("resolve", "finding-order_1", "--because", "x", **there)
    assert (run.code, run.out, "it is read-only" in run.err) == (3, "", True)
    assert shell.paycli("findings", **there).code == 1


@pytest.mark.parametrize("shell", ["sync"], indirect=True)  # a file
@pytest.mark.parametrize(
    "arguments",
    [("reconcile", "--date", "today"), ("findings",), ("resolve", "finding-1", "--because", "x"), ("alerts",)],
)
def test_no_database_there(shell: NightShell, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Where no database is, none is made: exit 2 with its absolute path; a file without tables says init."""
    missing = tmp_path / "none.db"
    there = {"PAYCLI_DATABASE_URL": f"sqlite:///{missing}"}
    run = shell.paycli(*arguments, **there)
    assert (run.code, run.out, missing.exists()) == (2, "", False)
    assert f"there is no database at {missing}: run `paycli init`" in run.err
    missing.touch()
    empty = shell.paycli(*arguments, **there)
    assert (empty.code, empty.out) == (2, "")
    assert f"{missing} has no tables of ours: run `paycli init`" in empty.err
