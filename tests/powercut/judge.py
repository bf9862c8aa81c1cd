"""What must be true of a folder that a power cut has left, and what an undisturbed process must come to in it."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Engine, NullPool, create_engine

import reconcile
from gateway_client import Client, Sandbox, State, Stripe
from gateway_client.sandbox.wire import Request
from tests.nightly_stage import Tables, rows_of, timeless
from tests.powercut.child import HOSTS, ORDERS, PAID, STORE, yesterday
from tests.powercut.disk import Image
from tests.powercut.recording import Recording, provider


class Known(NamedTuple):
    """What others knew when the power was cut: the requests that had passed the provider's door, and what was told."""

    passed: tuple[Request, ...]
    told: tuple[Any, ...]


class Verdict(NamedTuple):
    """How much was acknowledged, what of it is not on disk, and what else is wrong, in words."""

    acknowledged: int
    lost: tuple[str, ...]
    wrong: tuple[str, ...]


class Judge(Protocol):
    """One recorded process's judge."""

    def look(self, path: Path, known: Known) -> Verdict: ...


class OfCharges:
    """A send that passed has its row, and what the caller was told is on disk; `resume` and the caller do the rest."""

    def __init__(self, path: Path) -> None:
        self._engine = create_engine(f"sqlite:///{path}")

    def look(self, path: Path, known: Known) -> Verdict:
        lost: list[str] = []
        rows = {row["idempotency_key"]: row for row in read(path, "SELECT * FROM pending_charges")}
        begun = Counter(row["intent_id"] for row in read(path, "SELECT intent_id FROM paycli_sends"))
        passed = Counter(request.idempotency_key for request in known.passed)
        for request in known.passed:
            row = rows.get(request.idempotency_key)
            if row is None or row["body"].encode() != request.body or not row["first_sent_at"]:
                lost.append(f"the row of a request that was sent: {None if row is None else dict(row)}")
            elif begun[row["intent_id"]] < passed[request.idempotency_key]:
                lost.append(f"a send of {row['intent_id']}")
        states = {row["intent_id"]: (row["state"], row["provider_charge_id"]) for row in rows.values()}
        for intent_id, state, charge_id in known.told:
            if intent_id not in states or (not State(state).pending and states[intent_id] != (state, charge_id)):
                lost.append(f"{intent_id} {state}, told: {states.get(intent_id)}")
        return Verdict(len(known.passed) + len(known.told), tuple(lost), (*unsound(path), *self._resumed(path, known)))

    def _resumed(self, path: Path, known: Known) -> tuple[str, ...]:
        sandbox = Sandbox()
        for request in known.passed:
            sandbox.finish(sandbox.begin(request))
        with client_of(self._engine, sandbox) as client:
            client.resume()
            ends = {name: str(client.charge(intent).state) for name, intent in ORDERS.items()}
        keys = {request.idempotency_key for request in sandbox.requests if request.method == "POST"}
        expected = {name: "succeeded" if name in PAID else "declined" for name in ORDERS}
        return (
            *differs("the end", ends, expected),
            *differs("charges at the provider", dict(sandbox.succeeded()), dict.fromkeys(PAID, 1)),
            *differs("keys", len(keys), len(ORDERS)),
            *unsound(path),
        )


class OfTheNight:
    """What a run said it had kept is on disk; the run that goes on leaves what one without a power cut has left."""

    def __init__(self, path: Path, recording: Recording) -> None:
        self._engine = create_engine(f"sqlite:///{path}")
        self._sandbox, _ = provider(recording.work, path.parent)
        self._expected = left(put(recording.end(), path.parent))

    def look(self, path: Path, known: Known) -> Verdict:
        lost: list[str] = []
        listed = ("paycli_run_items", "paycli_run_agreed")
        items = sum(read(path, f"SELECT count(*) AS rows FROM {table}")[0]["rows"] for table in listed)
        complete = [row["complete"] for row in read(path, "SELECT complete FROM paycli_runs")]
        for told in known.told:
            if items < told["items"] or (told["complete"] and complete != [1]):
                lost.append(f"{told}, told: {items} items, complete {complete}")
        sound = unsound(path)
        if complete != [1]:
            read(path, "UPDATE paycli_runs SET leased_until = '2000-01-01 00:00:00.000000'")  # its lease is over
            with client_of(self._engine, self._sandbox) as client:
                reconcile.run(client, yesterday())
        actual = left(path)
        differences = [one for name in actual for one in differs(name, actual[name], self._expected[name])]
        charged = [request for request in self._sandbox.requests if request.method == "POST"]
        wrong = (*sound, *differences, *differs("charges that were made", charged, []), *unsound(path))
        return Verdict(len(known.told), tuple(lost), wrong)


class OfRows:
    """Every row that was told of is there."""

    def look(self, path: Path, known: Known) -> Verdict:
        there = {row["number"] for row in read(path, "SELECT number FROM told")}
        lost = tuple(f"row {number}" for number in known.told if number not in there)
        return Verdict(len(known.told), lost, unsound(path))


def judge_of(recording: Recording, path: Path) -> Judge:
    """Who judges what is put there."""
    if recording.work == "reconciliation":
        return OfTheNight(path, recording)
    return OfCharges(path) if recording.work in HOSTS else OfRows()


@contextmanager
def client_of(engine: Engine, sandbox: Sandbox) -> Iterator[Client]:
    """A process that nobody disturbs, in effect; one engine for all of them, whose statements are compiled once."""
    with Client(Stripe(Sandbox.api_key), database=engine, transport=sandbox.transport()) as client:
        yield client
    engine.dispose()


def put(image: Image, folder: Path) -> Path:
    """A folder of these files and no others; the database's."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for name, content in image.items():
        (folder / name).write_bytes(content)
    return folder / STORE


def read(path: Path, query: str) -> Sequence[sqlite3.Row]:
    """Rows, or none when there is no such table (yet, or any more)."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.row_factory = sqlite3.Row
        try:
            return connection.execute(query).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            return []


def unsound(path: Path) -> tuple[str, ...]:
    """What SQLite says of the file."""
    return differs("the file", [tuple(row) for row in read(path, "PRAGMA integrity_check")], [("ok",)])


def left(path: Path) -> Tables:
    """What the one run has left."""
    with create_engine(f"sqlite:///{path}", poolclass=NullPool).connect() as connection:
        tables = rows_of(connection)
    return timeless(tables, tables["paycli_runs"][-1]["run_id"])


def differs(what: str, actual: object, expected: object) -> tuple[str, ...]:
    if actual == expected:
        return ()
    if not isinstance(actual, list) or not isinstance(expected, list):
        return (f"{what}: {actual}, expected {expected}",)
    extra, missing = [one for one in actual if one not in expected], [one for one in expected if one not in actual]
    return (f"{what}: beyond what is expected {extra}, missing {missing}",)
