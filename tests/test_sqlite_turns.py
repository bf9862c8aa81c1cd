"""Who writes to a SQLite file beside a process that commits all the time has its turn."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from sqlalchemy import text

from gateway_client.db import Database

BUSY = """
import sys
from sqlalchemy import text
from gateway_client.db import Database
database = Database(sys.argv[1])
print("begun", flush=True)
while True:
    database.transact(lambda tx: [tx.execute(text("UPDATE notes SET times = times + 1")) for _ in range(300)])
"""
TURNS = 30
WAIT_S_MAX = 60.0  # of all of them


def test_everybody_has_a_turn(tmp_path: Path) -> None:
    """Beside two processes that give the lock back for a moment only, each of many transactions is done in time."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    database = Database(url)
    database.create()
    database.transact(lambda tx: tx.execute(text("CREATE TABLE notes (times INTEGER)")))
    database.transact(lambda tx: tx.execute(text("INSERT INTO notes VALUES (0)")))
    others = [subprocess.Popen([sys.executable, "-c", BUSY, url], stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for other in others:
            assert other.stdout is not None
            assert other.stdout.readline() == b"begun\n"
        begun = time.monotonic()
        for _ in range(TURNS):
            database.transact(lambda tx: tx.execute(text("UPDATE notes SET times = times + 1")))
        assert time.monotonic() - begun < WAIT_S_MAX
        assert [other.poll() for other in others] == [None, None]
    finally:
        for other in others:
            other.kill()
            other.communicate(timeout=30)
        database.close()
