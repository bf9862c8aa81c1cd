"""`paycli init` where tables are made, upgraded or refused, and the SQL that it prints.

Not here: whom the store belongs to (`test_cli_looking.py`); what a version holds (`test_migrations.py`).
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gateway_client import schema
from tests.cli_world import CARD, World, world
from tests.oracle_disk import locked, sql
from tests.test_cli_looking import NO_KEY
from tests.test_migrations import later, statements

__all__ = ["later"]  # a fixture

EMPTY = {"STRIPE_API_KEY": "", "PAYCLI_STRIPE_API_BASE": ""}


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[World]:
    (tmp_path / "shop").mkdir()
    with world(tmp_path / "shop") as made:
        yield made


def first_line(shell: World) -> str:
    run = shell.paycli("init", **NO_KEY)
    assert (run.code, run.err) == (0, "")
    return run.out.splitlines()[0]


def test_init_says_what_it_does(shell: World, request: pytest.FixtureRequest) -> None:
    """Created, up to date, upgraded from one version to another, written down: init tells them apart."""
    assert first_line(shell) == f"created {shell.path}"
    assert first_line(shell) == f"{shell.path} is up to date"
    sql(shell.path, "DROP TABLE paycli_version")
    assert first_line(shell) == f"{shell.path} has all tables of version 0001: that is written down now"
    request.getfixturevalue("later")
    assert first_line(shell) == f"upgraded {shell.path} from version 0001 to 0002"
    assert first_line(shell) == f"{shell.path} is up to date"


def test_init_in_somebody_else_s_database(shell: World) -> None:
    """Tables of a host stay, and init says that it added ours."""
    sql(shell.path, "CREATE TABLE orders (id INTEGER PRIMARY KEY)")
    assert first_line(shell) == f"added our tables to {shell.path}"
    assert {"orders", "paycli_version", "pending_charges"} <= {
        name for (name,) in sql(shell.path, "SELECT name FROM sqlite_master")
    }


def test_two_processes_init_at_once(shell: World) -> None:
    """F79: started together on one new file, one process makes the tables, the other finds them; both are exit 0."""
    arguments, env = shell.command("init")
    started = [
        subprocess.Popen(arguments, env=env | EMPTY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ended = [(*process.communicate(timeout=60), process.returncode) for process in started]
    assert [(err, code) for _, err, code in ended] == [("", 0)] * 2
    said = [out.splitlines()[0] for out, _, _ in ended]
    assert said.count(f"{shell.path} is up to date") == 1
    assert said.count(f"created {shell.path}") + said.count(f"added our tables to {shell.path}") == 1
    assert sql(shell.path, "SELECT version_num FROM paycli_version") == [("0001",)]


def test_init_of_a_store_that_is_up_to_date_waits_for_nobody(shell: World) -> None:
    """While another program holds the write lock, a second init only looks."""
    first_line(shell)
    with locked(shell.path):
        assert first_line(shell) == f"{shell.path} is up to date"


COMMANDS = [
    ("init",),
    ("charge", "order_1", *CARD),
    ("resume",),
    ("cancel", "order_1", "--because", "x"),
    ("show", "order_1"),
    ("pending",),
    ("reconcile", "--date", "today"),
    ("findings",),
    ("resolve", "finding-1", "--because", "x"),
    ("alerts",),
]


@pytest.mark.parametrize("arguments", COMMANDS)
def test_tables_of_a_newer_program(shell: World, arguments: tuple[str, ...]) -> None:
    """F79: every command of an older program is exit 2, says who must be upgraded, and sends and changes nothing."""
    first_line(shell)
    sql(shell.path, "UPDATE paycli_version SET version_num = '0002'")
    before = shell.path.read_bytes()
    run = shell.paycli(*arguments)
    assert (run.code, run.out) == (2, "")
    assert run.err == (
        "error: the database's tables are of version 0002, this program knows 0001 and older: a newer program has "
        "upgraded them. Upgrade this program. Nothing was sent.\n"
    )
    assert (shell.sandbox.requests, shell.path.read_bytes() == before) == ((), True)


@pytest.mark.parametrize("arguments", COMMANDS[1:])
@pytest.mark.usefixtures("later")
def test_tables_of_an_older_program(shell: World, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command but init is exit 2 on tables of an older program, names init, and sends nothing."""
    with monkeypatch.context() as before:
        before.setattr(schema, "VERSIONS", ("0001",))
        first_line(shell)
    run = shell.paycli(*arguments)
    assert (run.code, run.out) == (2, "")
    assert "of version 0001, this program needs 0002: run `paycli init` to upgrade them. Nothing was sent." in run.err
    assert shell.sandbox.requests == ()


def test_incomplete_tables(shell: World) -> None:
    """Tables from before versions were kept that lack a column are exit 2, with its name and what to do."""
    first_line(shell)
    sql(shell.path, "DROP TABLE paycli_version")
    sql(shell.path, "ALTER TABLE paycli_store DROP COLUMN timeline")
    run = shell.paycli("init")
    assert (run.code, run.out) == (2, "")
    assert "lacks paycli_store.timeline" in run.err
    assert "Add it as `paycli init --sql` shows it, and run `paycli init` again." in run.err
    sql(shell.path, "ALTER TABLE paycli_store ADD COLUMN timeline VARCHAR")
    assert shell.paycli("init").code == 0
    assert shell.charge("order_1").code == 0


def test_init_where_nothing_can_be_written(shell: World) -> None:
    """A file that is read-only is exit 3 with the reason; a folder in the file's place, and a missing folder, are 2."""
    first_line(shell)
    sql(shell.path, "DROP TABLE paycli_version")
    content = bytearray(shell.path.read_bytes())
    content[18] = 9  # the file format's "write version": above what SQLite knows, it opens the file read-only
    shell.path.write_bytes(content)
    read_only = shell.paycli("init")
    assert (read_only.code, "it is read-only" in read_only.err) == (3, True)
    folder = shell.paycli("init", PAYCLI_DATABASE_URL=f"sqlite:///{shell.folder}")
    assert (folder.code, "which is a folder" in folder.err) == (2, True)
    missing = shell.paycli("init", PAYCLI_DATABASE_URL=f"sqlite:///{shell.folder / 'none' / 'paycli.db'}")
    assert (missing.code, f"there is no folder {shell.folder / 'none'}" in missing.err) == (2, True)


# --sql ---------------------------------------------------------------------------------------------------------------


def test_the_sql_makes_a_store(shell: World) -> None:
    """Fed to SQLite, what init prints makes the store that init makes; printing it needs no key and opens nothing."""
    told = shell.paycli("init", "--sql", **EMPTY)
    assert (told.code, told.err, shell.path.exists(), shell.sandbox.requests) == (0, "", False, ())
    with closing(sqlite3.connect(shell.path)) as connection:
        connection.executescript(told.out)
    other = shell.path.with_name("other.db")
    assert shell.paycli("init", PAYCLI_DATABASE_URL=f"sqlite:///{other}", **NO_KEY).code == 0
    assert statements(shell.path) == statements(other)
    assert first_line(shell) == f"{shell.path} is up to date"
    assert shell.charge("order_1").code == 0


def test_the_sql_for_postgresql(shell: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a PostgreSQL URL it is PostgreSQL's SQL: no driver is needed to print it, and the password is not shown."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    url = "postgresql+psycopg://app:hunter2@db.invalid/app"
    told = shell.paycli("init", "--sql", PAYCLI_DATABASE_URL=url, **EMPTY)
    assert (told.code, told.err) == (0, "")
    assert told.out.split() == schema.sql("postgresql").split()
    assert "TIMESTAMP WITH TIME ZONE" in told.out
    assert "hunter2" not in told.out


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://app:hunter2@db.invalid/app", "PAYCLI_DATABASE_URL is of mysql, which is not supported"),
        ("paycli.db", "PAYCLI_DATABASE_URL is not a database URL"),
        ("postgresql://app:hunter2@db.invalid:none/app", "PAYCLI_DATABASE_URL cannot be read"),
    ],
)
def test_the_sql_for_another_database(shell: World, url: str, says: str) -> None:
    """A database of another kind, or no URL, is exit 2."""
    run = shell.paycli("init", "--sql", PAYCLI_DATABASE_URL=url, **EMPTY)
    assert (run.code, run.out, says in run.err, "hunter2" in run.err) == (2, "", True, False)
