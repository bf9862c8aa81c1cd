"""A client that was used before `fork()` is used after it, by parent and child. The processes are in `kill_fork.py`."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway_client import Sandbox
from tests.kill_fork import CHILDREN, THREADS

ROOT = Path(__file__).resolve().parent.parent
SECONDS_MAX = 60


def story(kind: str, ends: str, sandbox: Sandbox, path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """What parent and child told, and the states of the charges, when the file is whole and the ledgers agree."""
    with sandbox.serve() as server:
        command = [sys.executable, "-X", "dev", "-m", "tests.kill_fork", kind, ends, server.url, f"sqlite:///{path}"]
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
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        states = dict(connection.execute("SELECT intent_id, state FROM pending_charges").fetchall())
    assert sandbox.succeeded() == dict.fromkeys((name for name in states if states[name] == "succeeded"), 1)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told, states


@pytest.mark.parametrize("ends", ["at_once", "normally"])
def test_client_after_fork(tmp_path: Path, ends: str) -> None:
    """A child opens connections of its own, and the parent's go on working, however the child ends (F15, F77)."""
    told, states = story("sync", ends, Sandbox(), tmp_path / "store.db")
    once = {"sqlite3.connect": 1, "socket.connect": 1, "result": "succeeded"}
    assert told["before"] == once
    assert told["child"] == once
    assert told["after"] == {"result": "succeeded"}  # by the connections that it had
    assert told["last"] == {"result": "succeeded"}
    second, third = told["grandchild"].pop("result")
    assert [second, third, told["grandchild"]] == ["succeeded", once, {"sqlite3.connect": 1, "socket.connect": 1}]
    assert set(states.values()) == {"succeeded"}


def test_threads_after_fork(tmp_path: Path) -> None:
    """A child whose first use is by several threads at once never touches the parent's connections (F15, F77)."""
    told, states = story("threads", "at_once", Sandbox(), tmp_path / "store.db")
    assert told["told"] == [["succeeded"] * THREADS] * CHILDREN
    assert told["after"] == "succeeded"
    assert set(states.values()) == {"succeeded"}


def test_async_client_after_fork(tmp_path: Path) -> None:
    """An async client, too, opens connections of its own in a child, in the child's own loop (F15, F77)."""
    told, states = story("async", "at_once", Sandbox(), tmp_path / "store.db")
    assert [told[name]["result"] for name in ("before", "child", "after")] == ["succeeded"] * 3
    assert min(told["child"]["socket.connect"], told["child"]["sqlite3.connect"]) >= 1
    assert told["after"] == {"result": "succeeded"}
    assert set(states.values()) == {"succeeded"}
