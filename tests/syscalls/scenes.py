"""What is disturbed, and what must then be true: a first charge, a charge and a reconciliation from the shell.

However a process ended, an undisturbed one afterwards comes to the end that it would have come to alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import reconcile
from gateway_client import Client, Sandbox, State, Stripe, errors
from gateway_client.sandbox.wire import Recorded
from tests.kill_child import order
from tests.nightly_mass import Mass
from tests.nightly_stage import Tables, plain, timeless
from tests.syscalls.child import Report
from tests.syscalls.yard import Yard

DAY = timedelta(days=1)
INTENT = "order_1"
ENDS = {state.value for state in State} | {
    name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.ChargeOnceError)
}
"""What a caller of the library may be told: a state, or an exception of ours."""
EXIT_CODES = {0, 1, 2, 3}
"""What `paycli` may say; a traceback has exit code 1, too, so that its words are looked at as well."""


class Toll(NamedTuple):
    """What it cost in the end: intents charged twice, and charges or findings that are not on our disk."""

    doubled: int
    lost: int


class Scene(Protocol):
    """One thing to disturb; what `learn` (of an undisturbed process) and `judge` yield is wrong, in words."""

    name: str
    what: str

    def put_up(self, yard: Yard) -> None: ...
    def learn(self, yard: Yard, report: Report) -> Iterator[str]: ...
    def judge(self, yard: Yard, report: Report) -> Iterator[str]: ...
    def toll(self, yard: Yard) -> Toll: ...


class FirstCharge:
    """The library charges in an empty folder: the file, its tables, the charge, the close."""

    name, what = "charge", INTENT
    prepared: bytes | None = None

    def put_up(self, yard: Yard) -> None:
        yard.put_up(Sandbox(), self.prepared)

    def learn(self, yard: Yard, report: Report) -> Iterator[str]:
        """Undisturbed it succeeds."""
        yield from differs("on disk", state_on_disk(yard), "succeeded")
        yield from self.judge(yard, report)

    def judge(self, yard: Yard, report: Report) -> Iterator[str]:
        if yard.path.exists():
            yield from unsound(yard)
        if not report["signal"]:
            yield from self._told(yard, report)
        with yard.client() as client:
            client.resume()
            end = client.charge(order(INTENT))
        yard.drain()
        yield from yard.door.wrong
        yield from differs("the end", end.state, State.SUCCEEDED)
        yield from differs("charges at the provider", dict(yard.sandbox.succeeded()), {INTENT: 1})
        yield from differs("keys", len({one.idempotency_key for one in posts(yard)}), 1)
        rows = yard.sql("SELECT intent_id, attempt, state FROM pending_charges ORDER BY intent_id")
        yield from differs("rows", rows, self._rows())
        yield from unsound(yard)

    def toll(self, yard: Yard) -> Toll:
        charged = yard.sandbox.succeeded()[INTENT]
        return Toll(max(charged - 1, 0), int(charged > 0 and state_on_disk(yard) != "succeeded"))

    def _told(self, yard: Yard, report: Report) -> Iterator[str]:
        """Was the caller told something that is ours, and was it true?"""
        if report["ended"] not in ENDS:
            yield f"the caller met {report['ended']}"
        if report["ended"] == "StoreUnavailable" and posts(yard):
            yield "something was sent, and the caller was told that nothing was"
        if report["ended"] == "OutcomeNotRecorded" and not yard.sandbox.succeeded()[INTENT]:
            yield "the caller was told of an outcome that there is not"
        if report["ended"] == State.SUCCEEDED:
            yield from differs("on disk, and success was told", state_on_disk(yard), "succeeded")
            yield from differs("the journal, and success was told", yard.sql("PRAGMA journal_mode"), [("wal",)])

    def _rows(self) -> list[tuple[str, int, str]]:
        return [(INTENT, 1, "succeeded")]


class ShellCharge(FirstCharge):
    """`paycli charge` on a store that has charged before."""

    name = "paycli charge"

    def __init__(self, where: Path) -> None:
        path = where / "shop.db"
        with Client(Stripe(Sandbox.api_key), database=f"sqlite:///{path}", transport=Sandbox().transport()) as client:
            assert client.charge(order("order_0")).state is State.SUCCEEDED
        self.prepared = path.read_bytes()

    def _told(self, yard: Yard, report: Report) -> Iterator[str]:
        yield from no_exit_of_ours(report)
        if report["code"] == 2 and posts(yard):
            yield "something was sent, and the exit code says that nothing was"
        if report["code"] == 0:
            yield from differs("on disk, and exit code 0", state_on_disk(yard), "succeeded")
            yield from differs("told, and exit code 0", [one["state"] for one in lines(report)], ["succeeded"])

    def _rows(self) -> list[tuple[str, int, str]]:
        return [("order_0", 1, "succeeded"), *super()._rows()]


class Reconciliation:
    """`paycli reconcile` of a day with one of each disagreement."""

    name = "paycli reconcile"

    def __init__(self, where: Path) -> None:
        now = datetime.now(UTC)
        self._sandbox = Sandbox()
        mass = Mass(self._sandbox, where / "night.db", datetime(now.year, now.month, now.day, tzinfo=UTC) - DAY)
        mass.agree(3)
        mass.disagree()
        self._day = mass.start.date()
        self.what = str(self._day)
        self._prepared = mass.path.read_bytes()
        self._expected: tuple[Tables, list[dict[str, Any]]] | None = None

    def put_up(self, yard: Yard) -> None:
        yard.put_up(self._sandbox, self._prepared)

    def learn(self, yard: Yard, report: Report) -> Iterator[str]:
        """What an undisturbed run leaves and tells; somebody must look, so it is exit code 1."""
        yield from differs("the end", report["ended"], "exit 1")
        self._expected = self._left(yard), told(report)

    def judge(self, yard: Yard, report: Report) -> Iterator[str]:
        assert self._expected is not None
        expected, expected_told = self._expected
        yield from unsound(yard)
        complete = yard.sql("SELECT complete FROM paycli_runs") == [(1,)]
        if not report["signal"]:
            yield from no_exit_of_ours(report)
            if report["code"] in (0, 1):
                yield from differs("complete, by its exit code", complete, True)
                yield from differs("told", told(report), expected_told)
        if not complete:
            yard.sql("UPDATE paycli_runs SET leased_until = '2000-01-01 00:00:00.000000'")  # its lease is over
            with yard.client() as client:
                reconcile.run(client, self._day)
        left = self._left(yard)
        for table in expected:
            yield from differs(table, left[table], expected[table])
        yield from differs("charges that were made", posts(yard), [])
        yield from unsound(yard)

    def toll(self, yard: Yard) -> Toll:
        assert self._expected is not None
        left, expected = self._left(yard), self._expected[0]
        tables = ("pending_charges", "paycli_findings")
        return Toll(len(posts(yard)), sum(row not in left[table] for table in tables for row in expected[table]))

    @staticmethod
    def _left(yard: Yard) -> Tables:
        tables = yard.rows()
        return of_the_end(timeless(tables, tables["paycli_runs"][-1]["run_id"]))


def scenes(where: Path) -> tuple[Scene, ...]:
    """All of them; what they are made from is kept in a folder."""
    return FirstCharge(), ShellCharge(where), Reconciliation(where)


def of_the_end(tables: Tables) -> Tables:
    """Without what an incomplete run said of charges that were still pending then, and no longer are."""
    passed = {one["id"] for one in tables["paycli_findings"] if one["code"] == "stale_pending" and one["closed_by"]}
    kept: Tables = {name: [row for row in rows if row.get("finding_id") not in passed] for name, rows in tables.items()}
    kept["paycli_findings"] = [one for one in kept["paycli_findings"] if one["id"] not in passed]
    said = [one for one in kept["paycli_events"] if one["event"].removeprefix("finding ") not in passed]
    kept["paycli_events"] = [{name: value for name, value in one.items() if name != "event_no"} for one in said]
    return kept


def differs(what: str, actual: object, expected: object) -> Iterator[str]:
    if actual == expected:
        return
    if isinstance(actual, list) and isinstance(expected, list):  # rows: only those that differ
        extra = [one for one in actual if one not in expected]
        missing = [one for one in expected if one not in actual]
        yield f"{what}: beyond what is expected {extra}, missing {missing}"
    else:
        yield f"{what}: {actual}, expected {expected}"


def unsound(yard: Yard) -> Iterator[str]:
    """What SQLite says of the file."""
    yield from differs("the file", yard.sql("PRAGMA integrity_check"), [("ok",)])


def no_exit_of_ours(report: Report) -> Iterator[str]:
    if report["code"] not in EXIT_CODES or "exit" not in report["ended"]:
        yield f"the shell met {report['ended']}"
    for word in ("Traceback", "internal error"):
        if word in report["err"]:
            yield f"the shell was told {report['err']}"


def posts(yard: Yard) -> list[Recorded]:
    return [one for one in yard.sandbox.requests if one.method == "POST"]


def state_on_disk(yard: Yard) -> str:
    return str(dict(yard.sql("SELECT intent_id, state FROM pending_charges")).get(INTENT))


def lines(report: Report) -> list[dict[str, Any]]:
    return [json.loads(line) for line in report["out"].splitlines()]


def told(report: Report) -> list[dict[str, Any]]:
    """What a run told, without what differs between any two."""
    return [plain({**one, "findings": [plain(found) for found in one["findings"]]}) for one in lines(report)]
