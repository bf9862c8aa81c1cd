"""What is told while charging: the exact records, to the logger and to the hook; and what support asks for.

Not here: what must never be told (`test_secrets.py`).
"""

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from gateway_client import Charge, State
from gateway_client.sandbox import Sandbox
from gateway_client.telemetry import Record, SendEnded, StateChanged
from tests.oracle_world import (
    StillClock,
    async_client_of,
    client_of,
    database_url,
    full_intent,
    intent_of,
    sandbox_of,
)

Sends = list[dict[str, Any]]


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO, logger="gateway_client"):
        yield caplog


def sends_of(folder: Path) -> Sends:
    engine = create_engine(database_url(folder))
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT * FROM paycli_sends ORDER BY intent_id, attempt, send_no"))
        found = [dict(row) for row in rows.mappings()]
    engine.dispose()
    return found


def charge_lost_once(folder: Path, kind: str, hook: Any = None) -> tuple[Charge, Sandbox]:
    """A charge whose first reply is lost, and whose second one is the replay."""
    clock = StillClock()
    sandbox = sandbox_of(clock)
    sandbox.fault("lost_reply")
    if kind == "sync":
        with client_of(sandbox, clock, database_url(folder), on_record=hook) as client:
            return client.charge(full_intent()), sandbox

    async def run() -> Charge:
        async with async_client_of(sandbox, clock, database_url(folder), on_record=hook) as client:
            return await client.charge(full_intent())

    return asyncio.run(run()), sandbox


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_the_catalogue_of_a_charge_with_a_lost_reply(kind: str, tmp_path: Path, told: pytest.LogCaptureFixture) -> None:
    """One record for each send and each change of state, in order, to logger and hook, with all that is promised."""
    records: list[Record] = []
    charge_lost_once(tmp_path, kind, records.append)
    sends = sends_of(tmp_path)
    ms, request_id = [send["elapsed_ms"] for send in sends], sends[1]["request_id"]
    sending, unknown, succeeded = State.SENDING, State.UNKNOWN, State.SUCCEEDED
    assert records == [
        StateChanged("order_42", 1, None, State.PREPARED, "claimed", None, None),
        StateChanged("order_42", 1, State.PREPARED, sending, "send begun", None, None),
        StateChanged("order_42", 1, sending, unknown, "nothing proven", None, ms[0]),
        SendEnded("order_42", 1, 1, unknown, "unknown", None, None, ms[0]),
        StateChanged("order_42", 1, unknown, succeeded, "succeeded", request_id, ms[1]),
        SendEnded("order_42", 1, 2, succeeded, "succeeded", 200, request_id, ms[1]),
    ]
    logged = [record for record in told.records if record.name.startswith("gateway_client")]
    assert [record.levelno for record in logged] == [logging.INFO] * 6
    assert logged[-1].getMessage() == (
        f"send ended intent_id=order_42 attempt=1 send_no=2 state=succeeded outcome=succeeded status=200 "
        f"request_id={request_id} elapsed_ms={ms[1]}"
    )
    assert [record.__dict__["charge"]["state"] for record in logged] == [record.state for record in records]


def test_what_support_asks_for_is_stored(tmp_path: Path) -> None:
    """Each send has its Request-Id, Original-Request, replay mark, status, outcome and milliseconds in paycli_sends."""
    _, sandbox = charge_lost_once(tmp_path, "sync")
    lost, replayed = sends_of(tmp_path)
    assert (lost["outcome"], lost["status"], lost["request_id"], lost["replayed"]) == ("unknown", None, None, 0)
    assert (replayed["outcome"], replayed["status"], replayed["replayed"]) == ("succeeded", 200, 1)
    assert replayed["request_id"].startswith("req_")
    assert replayed["original_request"].startswith("req_")
    assert replayed["request_id"] != replayed["original_request"]
    assert all(isinstance(send["elapsed_ms"], int) for send in (lost, replayed))
    assert sum(sandbox.succeeded().values()) == 1


def test_nothing_is_told_before_it_is_on_disk(tmp_path: Path) -> None:
    """A record is told after its commit: whoever reads the database when hearing it finds what it says.

    A claim that begins the first send tells two changes of one commit: the row is as the second one says by then.
    """
    seen: list[tuple[State, set[str], str]] = []

    def hook(record: Record) -> None:
        engine = create_engine(database_url(tmp_path))
        with engine.connect() as connection:
            state = connection.execute(text("SELECT state FROM pending_charges")).scalar_one()
            history = set(connection.execute(text("SELECT state_after FROM paycli_events")).scalars())
        engine.dispose()
        seen.append((record.state, history, state))

    charge_lost_once(tmp_path, "sync", hook)
    assert len(seen) == 6
    assert [told for told, history, _ in seen if told not in history] == []
    assert [told for told, _, _ in seen[1:]] == [stored for _, _, stored in seen[1:]]


def test_a_charge_already_final_tells_nothing(tmp_path: Path, told: pytest.LogCaptureFixture) -> None:
    """Asking again for a final charge is neither a send nor a change."""
    clock = StillClock()
    with client_of(sandbox_of(clock), clock, database_url(tmp_path)) as client:
        client.charge(intent_of())
        told.clear()
        client.charge(intent_of())
    assert [record for record in told.records if record.name.startswith("gateway_client")] == []


class Raising(logging.Handler):
    """A handler whose disk is full."""

    def emit(self, record: logging.LogRecord) -> None:
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_failing_hook_never_fails_a_charge(kind: str, tmp_path: Path) -> None:
    """F152: a hook that raises changes nothing, and is still told of everything."""
    heard: list[Record] = []

    def hook(record: Record) -> None:
        heard.append(record)
        raise ZeroDivisionError("a bug in somebody's metrics")

    charge, _ = charge_lost_once(tmp_path, kind, hook)
    assert (charge.state, len(heard)) == (State.SUCCEEDED, 6)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_failing_log_handler_never_fails_a_charge(kind: str, tmp_path: Path, told: pytest.LogCaptureFixture) -> None:
    """F152: a handler that raises, at DEBUG too, changes nothing, and the hook is told all the same."""
    heard: list[Record] = []
    handler = Raising()
    logger = logging.getLogger("gateway_client")
    logger.addHandler(handler)
    told.set_level(logging.DEBUG, logger="gateway_client")
    try:
        charge, sandbox = charge_lost_once(tmp_path, kind, heard.append)
    finally:
        logger.removeHandler(handler)
    assert charge.state is State.SUCCEEDED
    assert sum(sandbox.succeeded().values()) == 1
    assert len(heard) == 6


IMPORTING = """
import sys
events = []
WATCHED = ("socket", "sqlite3", "subprocess", "os.mkdir", "os.rename", "shutil")

def watch(name, arguments):
    if name.startswith(WATCHED):
        events.append((name, str(arguments)[:80]))
    if name == "open" and (arguments[1] or "r").strip("rbtU") and "__pycache__" not in str(arguments[0]):
        events.append((name, str(arguments)[:80]))

import logging, threading  # noqa: E402
before = (logging.getLogger().level, list(logging.getLogger().handlers), logging.raiseExceptions)
sys.addaudithook(watch)
import gateway_client  # noqa: E402
ours = logging.getLogger("gateway_client")
made = []
if "sqlalchemy" in sys.modules:
    import gc, sqlalchemy
    made = [thing for thing in gc.get_objects() if type(thing) is sqlalchemy.Engine]
print([type(handler).__name__ for handler in ours.handlers], ours.level, ours.propagate)
print((logging.getLogger().level, list(logging.getLogger().handlers), logging.raiseExceptions) == before)
print(events, made, threading.active_count())
"""


def test_importing_does_nothing(tmp_path: Path) -> None:
    """Importing the package adds one NullHandler: no file, socket, database, engine, thread or other logger."""
    done = subprocess.run(
        [sys.executable, "-B", "-c", IMPORTING],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines() == ["['NullHandler'] 0 True", "True", "[] [] 1"]
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []
