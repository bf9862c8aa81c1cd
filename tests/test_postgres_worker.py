"""`paycli worker` while its PostgreSQL fails: it says so, waits, and goes on by itself; others take over."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from tests import postgres
from tests.cli_world import World
from tests.worker_yard import LONG_AGO, WAIT_S_MAX, posts, prepare, process, sql, until, worker_shell

ROWS = 24


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[World]:
    with worker_shell(tmp_path, "postgresql") as made:
        yield made


def charged(shell: World) -> int:
    return sum(shell.sandbox.succeeded().values())


def unfinished(shell: World) -> object:
    return sql(shell, "SELECT count(*) FROM pending_charges WHERE settled_at IS NULL")[0][0]


def goes_on(shell: World, fails: Callable[[], None], mends: Callable[[], None], words: str) -> None:
    """A worker at its work, when the database `fails` and `mends`: it does not end, and all are charged once."""
    prepare(shell, ROWS)
    said: list[str] = []
    with process(shell, "--rate", "10", "--json") as worker:
        assert worker.stdout is not None
        until("it works", True, lambda: charged(shell) >= 3)
        fails()
        for line in worker.stdout:  # ends when the worker does
            if '"note"' in line:
                said.append(line)
            if words in line:
                break
        assert charged(shell) < ROWS, said
        mends()
        # As time would: what it held when the database went away is leased for a while yet.
        for row in ("leased_until", "resume_at"):
            sql(shell, f"UPDATE pending_charges SET {row} = '{LONG_AGO}' WHERE {row} IS NOT NULL")
        sql(shell, f"UPDATE paycli_sends SET begun_at = '{LONG_AGO}' WHERE ended_at IS NULL")
        until("it goes on", ROWS, lambda: charged(shell))
        until("all is on disk", 0, lambda: unfinished(shell))
        worker.terminate()
        _, errors = worker.communicate(timeout=WAIT_S_MAX)
    assert (worker.returncode, errors) == (0, "")
    assert any(words in line for line in said), said
    assert shell.sandbox.succeeded() == {f"order_{number}": 1 for number in range(ROWS)}
    assert posts(shell) <= ROWS + 1  # what was on its way then is sent again


def test_the_server_is_killed_and_restarted(tmp_path: Path) -> None:
    """A server that is killed under a worker: the worker says that it cannot use it, waits, and goes on when it is
    back (F86, F96)."""
    server = postgres.Server(postgres.folder_of_nobody())
    server.make()
    server.start()
    try:
        with worker_shell(tmp_path, "postgresql") as shell:
            shell.env["PAYCLI_DATABASE_URL"] = server.url.render_as_string(hide_password=False)
            assert shell.paycli("init").code == 0
            goes_on(shell, lambda: server.stop(signal.SIGKILL), server.start, "cannot be used")
    finally:
        server.stop()


def test_too_many_connections(shell: World) -> None:
    """A server that has no connection left is waited for, too (F97)."""
    url = make_url(shell.env["PAYCLI_DATABASE_URL"])
    name = f"worker_of_{url.database}"
    tables = "ALL TABLES IN SCHEMA public"
    postgres.execute(url, f"CREATE ROLE {name} LOGIN", f"GRANT ALL ON {tables} TO {name}")
    shell.env["PAYCLI_DATABASE_URL"] = url.set(username=name).render_as_string(hide_password=False)
    end = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{name}'"
    try:
        goes_on(
            shell,
            lambda: postgres.execute(url, f"ALTER ROLE {name} CONNECTION LIMIT 0", end),
            lambda: postgres.execute(url, f"ALTER ROLE {name} CONNECTION LIMIT -1"),
            "too many connections",
        )
    finally:
        postgres.execute(url, end, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def test_a_second_worker_takes_over(shell: World) -> None:
    """Two workers share a queue; one is killed, and the other, which goes on, finishes its rows once the lease is over
    (F06, L1)."""
    prepare(shell, ROWS)
    with process(shell, "--rate", "5") as first, process(shell, "--rate", "5") as second:
        holders = "SELECT count(DISTINCT leased_by) FROM pending_charges WHERE leased_by IS NOT NULL"
        until("both work", [(2,)], lambda: sql(shell, holders))
        first.kill()
        first.communicate(timeout=WAIT_S_MAX)
        sql(shell, f"UPDATE pending_charges SET leased_until = '{LONG_AGO}' WHERE leased_by IS NOT NULL")
        sql(shell, f"UPDATE paycli_sends SET begun_at = '{LONG_AGO}' WHERE ended_at IS NULL")
        until("the second finishes all", ROWS, lambda: charged(shell))
        until("all is on disk", 0, lambda: unfinished(shell))
        second.terminate()
        second.communicate(timeout=WAIT_S_MAX)
    assert second.returncode == 0
    assert shell.sandbox.succeeded() == {f"order_{number}": 1 for number in range(ROWS)}
