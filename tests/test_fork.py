"""A client that was used before `fork()` is used after it, by parent and child. The processes are in `kill_fork.py`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import NullPool, create_engine

from gateway_client import Sandbox
from tests.kill_fork import CHILDREN, THREADS
from tests.kill_yard import DATABASES, database_of

ROOT = Path(__file__).resolve().parent.parent
SECONDS_MAX = 60
QUESTION = SEND = 1  # every exchange has a connection of its own


def story(kind: str, ends: str, sandbox: Sandbox, database: str) -> tuple[dict[str, Any], dict[str, str]]:
    """What parent and child told, and the states of the charges, when the file is whole and the ledgers agree."""
    with sandbox.serve() as server:
        command = [sys.executable, "-X", "dev", "-m", "tests.kill_fork", kind, ends, server.url, database]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    with create_engine(database, poolclass=NullPool).connect() as connection:
        if database.startswith("sqlite"):
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
        found = connection.exec_driver_sql("SELECT intent_id, state FROM pending_charges")
        states = {intent_id: state for intent_id, state in found}  # noqa: C416
    assert sandbox.succeeded() == dict.fromkeys((name for name in states if states[name] == "succeeded"), 1)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told, states


@pytest.mark.parametrize(
    ("database", "ends"), [("sqlite", "at_once"), ("sqlite", "normally"), ("postgresql", "normally")]
)
def test_client_after_fork(tmp_path: Path, database: str, ends: str) -> None:
    """A child opens connections of its own, and the parent's go on working, however the child ends (F15, F77)."""
    told, states = story("sync", ends, Sandbox(), database_of(database, tmp_path))
    opened = {"socket.connect": QUESTION + SEND, "sqlite3.connect" if database == "sqlite" else "libpq.connect": 1}
    once = {**opened, "result": "succeeded"}
    assert told["before"] == once
    assert told["child"] == once
    # By the database's connection that it had, and by what it knew of the provider.
    assert told["after"] == {"result": "succeeded", "socket.connect": SEND}
    assert told["last"] == {"result": "succeeded", "socket.connect": SEND}
    second, third = told["grandchild"].pop("result")
    assert [second, third, told["grandchild"]] == ["succeeded", once, opened]
    assert set(states.values()) == {"succeeded"}


@pytest.mark.parametrize("database", DATABASES)
def test_threads_after_fork(tmp_path: Path, database: str) -> None:
    """A child whose first use is by several threads at once never touches the parent's connections (F15, F77)."""
    told, states = story("threads", "at_once", Sandbox(), database_of(database, tmp_path))
    assert told["told"] == [["succeeded"] * THREADS] * CHILDREN
    assert told["after"] == "succeeded"
    assert set(states.values()) == {"succeeded"}


@pytest.mark.parametrize("database", DATABASES)
def test_async_client_after_fork(tmp_path: Path, database: str) -> None:
    """An async client, too, opens connections of its own in a child, in the child's own loop (F15, F77)."""
    told, states = story("async", "at_once", Sandbox(), database_of(database, tmp_path))
    assert [told[name]["result"] for name in ("before", "child", "after")] == ["succeeded"] * 3
    opens = "sqlite3.connect" if database == "sqlite" else "libpq.connect"
    assert min(told["child"]["socket.connect"], told["child"][opens]) >= 1
    assert told["after"] == {"result": "succeeded", "socket.connect": SEND}
    assert set(states.values()) == {"succeeded"}
