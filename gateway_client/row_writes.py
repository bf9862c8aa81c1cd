"""Write rows by SQL made for it: what is inserted or updated, of one row or of many by one statement.

Each row of a charge is written here. Built once for each set of columns and number of rows, such a statement costs a
database one execution however many rows it has; what SQLAlchemy compiles costs one for each row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from sqlalchemy import BigInteger, Boolean, Connection, Integer, String, Table
from sqlalchemy.dialects import registry

from gateway_client.columns import UtcDateTime

_CASTS = (
    (String, "text"),
    (BigInteger, "bigint"),
    (Integer, "integer"),
    (Boolean, "boolean"),
    (UtcDateTime, "timestamptz"),
)
SQLITE_ROWS = (64, 32, 16, 8, 4, 2, 1)  # few sizes, so that SQLite's driver keeps what it has prepared of each


@dataclass(frozen=True, slots=True, eq=False)
class Insert:
    """Describe an INSERT. `counted`: this column counts up, from 1, the rows that are the same in `within`."""

    table: Table
    counted: str | None = None
    within: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Update:
    """Describe an UPDATE of the row that is the same in `by`; its other columns are set. `raised`: grows by one."""

    table: Table
    by: tuple[str, ...]
    raised: str | None = None


Write = Insert | Update


def write_rows(connection: Connection, write: Write, rows: Sequence[Mapping[str, Any]]) -> int:
    """Write rows that have the same columns; return how many there were to write."""
    names, database, written = _in_order(write, rows[0]), connection.dialect.name, 0
    processors = _processors(write, names, database)
    for some in _parts(rows, database):
        values = tuple(
            row[name] if process is None else process(row[name]) for row in some for name, process in processors
        )
        written += connection.exec_driver_sql(statement_of(write, names, len(some), database), values).rowcount
    return written


def _in_order(write: Write, row: Mapping[str, Any]) -> tuple[str, ...]:
    """The columns of a row in the order of their placeholders."""
    last = write.by if isinstance(write, Update) else ()
    return (*(name for name in row if name not in last), *last)


def _parts(rows: Sequence[Mapping[str, Any]], database: str) -> Iterator[Sequence[Mapping[str, Any]]]:
    begun = 0
    for size in SQLITE_ROWS if database == "sqlite" else (len(rows),):
        while len(rows) - begun >= size:
            yield rows[begun : begun + size]
            begun += size


@cache
def _processors(write: Write, names: Sequence[str], database: str) -> Sequence[tuple[str, Callable[[Any], Any] | None]]:
    """Name the value of each placeholder of a row, with what turns it into one that the driver takes."""
    dialect = registry.load(database)()
    again = write.within if isinstance(write, Insert) else ()
    return [(name, write.table.c[name].type.dialect_impl(dialect).bind_processor(dialect)) for name in (*names, *again)]


@lru_cache(maxsize=1024)
def statement_of(write: Write, names: Sequence[str], count: int, database: str) -> str:
    """Return the SQL that writes so many rows, whose values are given one after the other."""
    if isinstance(write, Insert):
        return _insert(write, names, count, database)
    return _update_one(write, names, database) if count == 1 else _update(write, names, count, database)


def _placeholder(database: str) -> str:
    return "?" if database == "sqlite" else "%s"


def _insert(write: Insert, names: Sequence[str], count: int, database: str) -> str:
    mark, table = _placeholder(database), write.table.name
    columns, row = [*names], [mark] * len(names)
    if write.counted is not None:
        same = " AND ".join(f"{name} = {mark}" for name in write.within)
        columns.append(write.counted)
        row.append(f"(SELECT coalesce(max({write.counted}), 0) + 1 FROM {table} WHERE {same})")
    rows = ", ".join([f"({', '.join(row)})"] * count)
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {rows}"


def _update_one(write: Update, names: Sequence[str], database: str) -> str:
    mark = _placeholder(database)
    sets = [f"{name} = {mark}" for name in names if name not in write.by]
    if write.raised is not None:
        sets.append(f"{write.raised} = {write.raised} + 1")
    same = " AND ".join(f"{name} = {mark}" for name in write.by)
    return f"UPDATE {write.table.name} SET {', '.join(sets)} WHERE {same}"


def _update(write: Update, names: Sequence[str], count: int, database: str) -> str:
    table = write.table.name
    sets = [f"{name} = given.{name}" for name in names if name not in write.by]
    if write.raised is not None:
        sets.append(f"{write.raised} = {table}.{write.raised} + 1")
    marks = [_typed(write.table.c[name].type, database) for name in names]
    rows = ", ".join([f"({', '.join(marks)})"] * count)
    given = ", ".join(f"column{number} AS {name}" for number, name in enumerate(names, 1))
    same = " AND ".join(f"{table}.{name} = given.{name}" for name in write.by)
    return (
        f"UPDATE {table} SET {', '.join(sets)} FROM (SELECT {given} FROM (VALUES {rows}) AS list) AS given WHERE {same}"
    )


def _typed(kind: object, database: str) -> str:
    """A placeholder of a list, whose type PostgreSQL does not guess from a column."""
    mark = _placeholder(database)
    if database == "sqlite":
        return mark
    return f"CAST({mark} AS {next(name for of, name in _CASTS if isinstance(kind, of))})"
