"""The schema's version: read and checked before anything is sent, made and upgraded by Alembic, printed as SQL.

Everything here works on a Connection inside the caller's transaction, and commits nothing. Alembic and the declared
tables are imported only by what changes a schema: their import costs more than a charge. Alembic's global proxies are
not used, because threads and tasks may open several databases at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import Connection, String, column, inspect, select, table
from sqlalchemy.exc import DBAPIError

from gateway_client import columns
from gateway_client.errors import ConfigurationError

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext, MigrationStep
    from alembic.script import ScriptDirectory

VERSIONS = ("0001",)
"""Every version that this program knows, oldest first; a test compares them with the files of `migrations/versions`."""

TABLE = "paycli_version"
DIALECTS = ("sqlite", "postgresql")
FOLDER = Path(__file__).parent / "migrations"

_NUMBER = column("version_num", String)
_NEWEST = select(_NUMBER).select_from(table(TABLE, _NUMBER)).order_by(_NUMBER.desc())


class Upgraded(NamedTuple):
    """What an upgrade has found: the version before it (None: none) and whether the tables were there without one."""

    before: str | None
    stamped: bool = False


def is_ours(table_name: str | None) -> bool:
    """Whether a table of that name is this library's: a host's Alembic autogenerate must leave it alone."""
    return table_name is not None and (table_name == "pending_charges" or table_name.startswith("paycli_"))


def version_of(connection: Connection, *, lock: bool = False) -> str | None:
    """The version of our tables in this database, or None where none is written down."""
    if not inspect(connection).has_table(TABLE):  # asked first: on PostgreSQL an error would end the transaction
        return None
    return connection.scalars(_NEWEST.with_for_update() if lock else _NEWEST).first()


def check(connection: Connection) -> bool:
    """True: our tables are there, of this program's version; False: there are none.

    Raises ConfigurationError when they are of another version, or of none.
    """
    version, there = _found(connection)
    if version is None and there:
        raise ConfigurationError(
            "the database's tables were made before versions were kept: run `paycli init`, which looks whether they "
            "are complete and then writes their version down. Nothing was sent."
        )
    _refuse_unknown(version)
    if version not in (None, VERSIONS[-1]):
        raise ConfigurationError(
            f"the database's tables are of version {version}, this program needs {VERSIONS[-1]}: run `paycli init` to "
            "upgrade them. Nothing was sent."
        )
    return there


def upgrade(connection: Connection) -> Upgraded:
    """Make our tables, or bring them to this program's version; twice, or by several processes at once, is safe.

    Raises ConfigurationError when a newer program has made them, or when something of them is missing.
    """
    # SQLite's write lock is held already, and a full disk would end its savepoint with the transaction.
    inside: AbstractContextManager[object] = nullcontext()
    if connection.dialect.name != "sqlite":
        inside = connection.begin_nested()
    try:
        with inside:
            return _upgrade(connection)
    except DBAPIError:
        # Who makes the same tables at the same time waits for us, or we for them: then they are there now.
        if connection.dialect.name == "sqlite" or version_of(connection) != VERSIONS[-1]:
            raise
        return Upgraded(VERSIONS[-1])


def _upgrade(connection: Connection) -> Upgraded:
    before, there = _found(connection)
    if before not in (None, VERSIONS[-1]):
        before = version_of(connection, lock=True)  # who upgrades at the same time waits here, and finds it done
    stamped = before is None and there
    _refuse_unknown(before)
    if stamped or before == VERSIONS[-1]:
        _refuse_incomplete(connection)
    if before != VERSIONS[-1]:
        from alembic.runtime.migration import MigrationContext

        context = MigrationContext.configure(connection, opts=_options())
        if stamped:
            context.stamp(_scripts(), VERSIONS[-1])
        else:
            _run(context)
    return Upgraded(before, stamped)


def sql(dialect_name: str) -> str:
    """The statements that make our tables in an empty database, for those who run them by hand; nothing is opened."""
    from alembic.runtime.migration import MigrationContext

    if dialect_name not in DIALECTS:
        raise ConfigurationError(f"PAYCLI_DATABASE_URL: {dialect_name} databases are not supported. Nothing was done.")
    told = StringIO()
    _run(MigrationContext.configure(dialect_name=dialect_name, opts=_options(as_sql=True, output_buffer=told)))
    return f"BEGIN;\n\n{told.getvalue().strip()}\n\nCOMMIT;\n"


def _options(**more: object) -> dict[str, object]:
    return {"version_table": TABLE, "fn": _steps, **more}


def _steps(heads: tuple[str, ...], context: MigrationContext) -> Iterator[MigrationStep]:
    """The versions that a database lacks, as Alembic asks for them."""
    from alembic.runtime.migration import MigrationStep

    scripts = _scripts()
    for script in reversed(list(scripts.iterate_revisions(VERSIONS[-1], heads or "base"))):
        yield MigrationStep.upgrade_from_script(scripts.revision_map, script)


def _run(context: MigrationContext) -> None:
    from alembic.operations import Operations

    context.run_migrations(op=Operations(context))


def _scripts() -> ScriptDirectory:
    from alembic.script import ScriptDirectory

    return ScriptDirectory(str(FOLDER))


def _found(connection: Connection) -> tuple[str | None, bool]:
    """The version, and whether any table of ours is there."""
    version = version_of(connection)
    if version is not None:
        return version, True
    inspector = inspect(connection)
    there = any(inspector.has_table(name) for name in columns.TABLES)
    # Read again: another process may have made the tables, with their version, between the two looks.
    return (version_of(connection) if there else None), there


def _refuse_unknown(version: str | None) -> None:
    if version is not None and version not in VERSIONS:
        raise ConfigurationError(
            f"the database's tables are of version {version}, this program knows {VERSIONS[-1]} and older: a newer "
            "program has upgraded them. Upgrade this program. Nothing was sent."
        )


def _refuse_incomplete(connection: Connection) -> None:
    missing = list(_missing(connection))
    if missing:
        raise ConfigurationError(
            f"the database has tables of ours, but lacks {', '.join(missing)}: an earlier program made them, or "
            "something was removed. Add it as `paycli init --sql` shows it, and run `paycli init` again. Nothing was "
            "changed or sent."
        )


def _missing(connection: Connection) -> Iterator[str]:
    """The columns and indexes that our tables should have and the database's have not."""
    from gateway_client.tables import Base

    inspector = inspect(connection)
    for name, ours in Base.metadata.tables.items():
        if not inspector.has_table(name):
            yield name
            continue
        columns = {found["name"] for found in inspector.get_columns(name)}
        indexes = {found["name"] for found in inspector.get_indexes(name)}
        yield from (f"{name}.{one.name}" for one in ours.columns if one.name not in columns)
        yield from (str(one.name) for one in ours.indexes if one.name not in indexes)
