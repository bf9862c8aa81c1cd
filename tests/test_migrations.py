"""The schema's versions on real SQLite files: what Alembic makes is what the tables say, and no other version is used.

Not here: `paycli init` (`test_cli_init.py`).
"""

import asyncio
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from gateway_client import ConfigurationError, schema
from gateway_client.async_db import async_database
from gateway_client.db import Database
from gateway_client.schema import Upgraded
from gateway_client.tables import Base
from tests.oracle_disk import KINDS, charge_by, sql
from tests.oracle_world import StillClock, database_url, intent_of, posts, sandbox_of

LATER = '''"""A version of the future."""
revision, down_revision = "0002", "0001"
def upgrade(op):
    op.execute("ALTER TABLE paycli_store ADD COLUMN colour VARCHAR")
'''


def path_of(folder: Path) -> Path:
    return folder / "charges.db"


def create(folder: Path) -> None:
    database = Database(database_url(folder))
    database.create()
    database.close()


def upgrade(folder: Path) -> Upgraded:
    database = Database(database_url(folder))
    try:
        return database.upgrade()
    finally:
        database.close()


@contextmanager
def connected(path: Path) -> Iterator[Connection]:
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def statements(path: Path) -> dict[str, list[str]]:
    """What the database has, by name, each as its sorted lines: SQLite keeps the statements as they were written."""
    found = sql(path, "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND tbl_name <> 'paycli_version'")
    return {
        name: sorted(line.strip().rstrip(",") for line in made.splitlines() if line.strip()) for name, made in found
    }


def unversion(folder: Path) -> None:
    sql(path_of(folder), "DROP TABLE paycli_version")


@pytest.fixture
def later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program of the next release, which has one version more."""
    folder = tmp_path / "migrations"
    shutil.copytree(schema.FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / "v0002_colour.py").write_text(LATER, encoding="utf-8")
    monkeypatch.setattr(schema, "FOLDER", folder)
    monkeypatch.setattr(schema, "VERSIONS", (*schema.VERSIONS, "0002"))


# The same as the tables ----------------------------------------------------------------------------------------------


def test_the_migrated_schema_is_that_of_the_tables(tmp_path: Path) -> None:
    """Alembic sees no difference between what the versions make and what `tables.py` says."""
    create(tmp_path)
    with connected(path_of(tmp_path)) as connection:
        context = MigrationContext.configure(connection, opts={"version_table": "paycli_version"})
        assert compare_metadata(context, Base.metadata) == []


def test_the_statements_are_those_of_the_tables(tmp_path: Path) -> None:
    """CHECKs and the partial unique index, too, which Alembic does not compare: every statement has the same lines."""
    create(tmp_path)
    other = tmp_path / "other.db"
    with connected(other) as connection:
        Base.metadata.create_all(connection)
        connection.commit()
    assert statements(path_of(tmp_path)) == statements(other)
    assert any("CHECK (amount > 0" in line for line in statements(other)["pending_charges"])


def test_the_statements_for_postgresql_are_those_of_the_tables() -> None:
    """The SQL for PostgreSQL makes each table and index as `tables.py` says, compiled for that dialect."""

    def lines(statement: str) -> tuple[str, ...]:
        return tuple(sorted(line.strip().rstrip(",") for line in statement.strip().splitlines()))

    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    expected = set()
    for table in Base.metadata.sorted_tables:
        expected.add(lines(str(CreateTable(table).compile(dialect=dialect))))
        expected |= {lines(str(CreateIndex(index).compile(dialect=dialect))) for index in table.indexes}
    told = [lines(one) for one in re.sub("--.*\n", "", schema.sql("postgresql")).split(";") if one.strip()]
    made = {one for one in told if not any("paycli_version" in line for line in one)}
    assert made - {("BEGIN",), ("COMMIT",)} == expected
    assert (told[0], told[-1], len(told)) == (("BEGIN",), ("COMMIT",), len(expected) + 4)


def test_the_known_versions_are_the_files() -> None:
    """The versions that the program compares with, without loading Alembic, are those that Alembic finds."""
    scripts = ScriptDirectory(str(schema.FOLDER))
    found = [script.revision for script in scripts.walk_revisions()]
    assert (list(reversed(found)), scripts.get_heads()) == (list(schema.VERSIONS), [schema.VERSIONS[-1]])
    assert sorted(schema.VERSIONS) == list(schema.VERSIONS)  # the newest row of the table is found by its order


def test_the_versions_are_installed_with_the_library() -> None:
    """The folders of the versions are packages, which is what puts them into a wheel."""
    for name in ("gateway_client.migrations", "gateway_client.migrations.versions"):
        found = find_spec(name)
        assert found is not None
        assert found.origin is not None


# Made, upgraded, refused ---------------------------------------------------------------------------------------------


def test_made_once_and_upgraded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: Any) -> None:
    """The first upgrade makes the tables, a later program's brings them to its version, and each again does nothing."""
    assert [upgrade(tmp_path) for _ in range(2)] == [Upgraded(None), Upgraded("0001")]
    charge(tmp_path)
    request.getfixturevalue("later")
    assert [upgrade(tmp_path) for _ in range(2)] == [Upgraded("0001"), Upgraded("0002")]
    assert sql(path_of(tmp_path), "SELECT version_num FROM paycli_version") == [("0002",)]
    assert sql(path_of(tmp_path), "SELECT colour FROM paycli_store") == [(None,)]
    assert sql(path_of(tmp_path), "SELECT state FROM pending_charges") == [("succeeded",)]


def charge(folder: Path, kind: str = "sync") -> None:
    clock = StillClock()
    charge_by(kind, sandbox_of(clock), database_url(folder), intent_of(), clock)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "UPDATE paycli_version SET version_num = '0002'",
            "the database's tables are of version 0002, this program knows 0001 and older: a newer program has "
            "upgraded them. Upgrade this program. Nothing was sent.",
        ),
        (
            "DROP TABLE paycli_version",
            "the database's tables were made before versions were kept: run `paycli init`, which looks whether they "
            "are complete and then writes their version down. Nothing was sent.",
        ),
    ],
)
def test_another_version_is_refused_before_a_send(kind: str, change: str, message: str, tmp_path: Path) -> None:
    """F79: neither client sends anything with tables of a newer program, or of no known version, nor changes them."""
    create(tmp_path)
    sql(path_of(tmp_path), change)
    before = path_of(tmp_path).read_bytes()
    clock = StillClock()
    sandbox = sandbox_of(clock)
    with pytest.raises(ConfigurationError) as refused:
        charge_by(kind, sandbox, database_url(tmp_path), intent_of(), clock)
    assert str(refused.value) == message
    assert sandbox.requests == ()
    assert path_of(tmp_path).read_bytes() == before


@pytest.mark.parametrize("kind", KINDS)
def test_an_older_version_is_refused_before_a_send(kind: str, tmp_path: Path, request: Any) -> None:
    """F79: a client never upgrades by itself, while older programs may still run: it names `paycli init`."""
    create(tmp_path)
    request.getfixturevalue("later")
    clock = StillClock()
    sandbox = sandbox_of(clock)
    with pytest.raises(ConfigurationError) as refused:
        charge_by(kind, sandbox, database_url(tmp_path), intent_of(), clock)
    assert str(refused.value) == (
        "the database's tables are of version 0001, this program needs 0002: run `paycli init` to upgrade them. "
        "Nothing was sent."
    )
    assert sandbox.requests == ()
    upgrade(tmp_path)
    assert charge_by(kind, sandbox, database_url(tmp_path), intent_of(), clock).sends == 1


def test_an_upgrade_refuses_a_newer_version(tmp_path: Path) -> None:
    """F79: an old program's upgrade leaves a newer program's tables alone."""
    create(tmp_path)
    sql(path_of(tmp_path), "UPDATE paycli_version SET version_num = '0002'")
    with pytest.raises(ConfigurationError, match=r"this program knows 0001 and older.*Upgrade this program"):
        upgrade(tmp_path)


def test_tables_without_a_version_are_looked_at_and_stamped(tmp_path: Path) -> None:
    """Complete tables of an earlier checkout get their version, and their rows stay."""
    create(tmp_path)
    charge(tmp_path)
    unversion(tmp_path)
    assert upgrade(tmp_path) == Upgraded(None, stamped=True)
    assert upgrade(tmp_path) == Upgraded("0001")
    clock = StillClock()
    sandbox = sandbox_of(clock)
    charge_by("sync", sandbox, database_url(tmp_path), intent_of(), clock)
    assert posts(sandbox) == 0


@pytest.mark.parametrize(
    ("removed", "lacks"),
    [
        ("ALTER TABLE pending_charges DROP COLUMN leased_by", "pending_charges.leased_by"),
        ("DROP INDEX pending_charges_one_live", "pending_charges_one_live"),
        ("DROP TABLE paycli_run_items", "paycli_run_items"),
    ],
)
@pytest.mark.parametrize("versioned", [False, True])
def test_incomplete_tables_are_not_stamped(versioned: bool, removed: str, lacks: str, tmp_path: Path) -> None:
    """What an earlier checkout's tables lack, or what somebody removed, is named, and nothing is changed."""
    create(tmp_path)
    sql(path_of(tmp_path), removed)
    if not versioned:
        unversion(tmp_path)
    before = statements(path_of(tmp_path))
    with pytest.raises(ConfigurationError) as refused:
        upgrade(tmp_path)
    assert str(refused.value) == (
        f"the database has tables of ours, but lacks {lacks}: an earlier program made them, or something was removed. "
        "Add it as `paycli init --sql` shows it, and run `paycli init` again. Nothing was changed or sent."
    )
    assert statements(path_of(tmp_path)) == before


class Killed(BaseException):
    """What a SIGKILL is to a transaction: nothing of it runs any more."""


def test_an_upgrade_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    """F79: whichever statement it dies before, none of it stays, and the next upgrade makes the whole."""
    create(tmp_path)
    whole, done = statements(path_of(tmp_path)), 0
    for number in range(100):
        folder = tmp_path / str(number)
        folder.mkdir()
        engine = create_engine(database_url(folder))
        left = [number]

        def kill(connection: Any, cursor: Any, statement: str, *more: object, left: list[int] = left) -> None:
            if statement.lstrip().startswith(("CREATE", "INSERT")):
                left[0] -= 1
                if left[0] < 0:
                    raise Killed

        event.listen(engine, "before_cursor_execute", kill)
        try:
            Database(engine).upgrade()
            done = number
        except Killed:
            assert (statements(path_of(folder)), sql(path_of(folder), "SELECT * FROM sqlite_master")) == ({}, [])
        engine.dispose()
        if done:
            break
        assert upgrade(folder) == Upgraded(None)
        assert statements(path_of(folder)) == whole
    assert done == len(whole) + 2  # the table of the version, and its row


def test_several_databases_at_once(tmp_path: Path) -> None:
    """Threads, and tasks of one loop, make the tables of different databases at the same moment: each gets its own."""
    folders = [tmp_path / str(number) for number in range(16)]
    for folder in folders:
        folder.mkdir()
    barrier, failed = threading.Barrier(8), []

    def work(folder: Path) -> None:
        barrier.wait(10)
        try:
            create(folder)
        except BaseException as error:  # noqa: BLE001, RUF100 - whatever it is, the main thread must hear of it
            failed.append(error)

    async def work_async(folder: Path) -> None:
        database = async_database(database_url(folder))
        await database.create()
        await database.close()

    async def together() -> None:
        async with asyncio.timeout(30):
            await asyncio.gather(*map(work_async, folders[8:]))

    threads = [threading.Thread(target=work, args=(folder,)) for folder in folders[:8]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    asyncio.run(together())
    assert failed == []
    assert [statements(path_of(folder)) == statements(path_of(folders[0])) for folder in folders] == [True] * 16
    assert len(statements(path_of(folders[0]))) > 8
