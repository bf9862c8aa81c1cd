"""A store in memory for schedules by the hundred thousand: the real statements on a real SQLite.

Each statement is compiled by SQLAlchemy once and kept; values and rows are converted by its types. What is left away is
engines, pools, sessions and result objects: most of the time of such small transactions.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy.dialects.sqlite import pysqlite
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement

from gateway_client.errors import StoreUnavailable
from gateway_client.tables import Base
from gateway_client.transaction import Opened, Transaction, machine_time

T = TypeVar("T")
Row = dict[str, Any]

_DIALECT = pysqlite.dialect(paramstyle="named")
_TABLES = Base.metadata.sorted_tables
_INDEXES = [index for made in _TABLES for index in sorted(made.indexes, key=lambda index: str(index.name))]
_PARTS: list[ExecutableDDLElement] = [*map(CreateTable, _TABLES), *map(CreateIndex, _INDEXES)]
_SCHEMA = ";\n".join(str(part.compile(dialect=_DIALECT)) for part in _PARTS)
Saved = dict[str, list[tuple[Any, ...]]]
_EMPTY = ";\n".join(f"DELETE FROM {made.name}" for made in reversed(_TABLES))


class _Statement:
    """One compiled statement, with what its types do to values and rows."""

    def __init__(self, compiled: Any, extracted: Any) -> None:
        self.text = str(compiled)
        self._compiled = compiled
        self._expands = bool(compiled.post_compile_params)
        self._binds = {name: convert for name, convert in compiled._bind_processors.items() if callable(convert)}
        # What the statement itself says, as against what each execution gives.
        own = {bind.key: bind for bind in extracted or ()}
        self._fixed = {
            name: own.get(bind.key, bind).effective_value
            for bind, name in compiled.bind_names.items()
            if not bind.required
        }
        if not self._expands:
            self._fixed = self._converted(self._fixed)
        columns = compiled._result_columns
        self.names = [column.keyname for column in columns]
        self.converts = [
            (column.keyname, convert)
            for column in columns
            if (convert := column.type.dialect_impl(_DIALECT).result_processor(_DIALECT, None)) is not None
        ]

    def _converted(self, values: Row) -> Row:
        binds = self._binds
        return {name: binds[name](value) if name in binds else value for name, value in values.items()}

    def bound(self, values: Row | None) -> tuple[str, Row]:
        if not self._expands:
            return self.text, self._fixed if values is None else {**self._fixed, **self._converted(values)}
        state = self._compiled._process_parameters_for_postcompile({**self._fixed, **(values or {})})
        binds = {**self._binds, **state.processors}
        given = {**self._fixed, **(values or {}), **state.additional_parameters}
        wanted = {name: value for name, value in given.items() if not isinstance(value, list | tuple | set | frozenset)}
        return state.statement, {
            name: binds[name](value) if callable(binds.get(name)) else value for name, value in wanted.items()
        }


class Mappings(Iterator[Row]):
    """The rows of one statement by the names of their columns."""

    def __init__(self, rows: Iterator[Row]) -> None:
        self._rows = rows

    def __next__(self) -> Row:
        return next(self._rows)

    def all(self) -> list[Row]:
        return list(self)

    def first(self) -> Row | None:
        return next(self, None)

    def one(self) -> Row:
        (row,) = self
        return row


class Result:
    """The rows of one statement, as the store reads them."""

    def __init__(self, statement: _Statement, cursor: sqlite3.Cursor) -> None:
        self._statement = statement
        self._rows = cursor.fetchall() if statement.names else []
        self.rowcount = cursor.rowcount

    def mappings(self) -> Mappings:
        return Mappings(self._rows_by_name())

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return (tuple(row.values()) for row in self._rows_by_name())

    def _rows_by_name(self) -> Iterator[Row]:
        names, converts = self._statement.names, self._statement.converts
        for values in self._rows:
            row = dict(zip(names, values, strict=True))
            for name, convert in converts:
                row[name] = convert(row[name])
            yield row

    def all(self) -> list[tuple[Any, ...]]:
        return list(self)

    def first(self) -> tuple[Any, ...] | None:
        return next(iter(self), None)

    def scalars(self) -> Iterator[Any]:
        return (row[0] for row in self)

    def scalar(self) -> Any:
        return next(self.scalars(), None)

    def scalar_one(self) -> Any:
        (value,) = self.scalars()
        return value


def _no_lock(connection: Any, *intent_ids: str) -> None:
    """One at a time works in this store."""


class Memory:
    """The store of a schedule, in memory. One process, one thread: a transaction is never interrupted."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect(":memory:", isolation_level=None, cached_statements=512)
        self._connection.executescript(_SCHEMA)
        self._compiled: dict[Any, Any] = {}
        self.dialect = _DIALECT
        self.path = None
        self.in_transaction = False
        self.trouble: str | None = None

    def empty(self) -> None:
        """For the next schedule: the tables stay, and so do the statements."""
        self.trouble = None
        self._connection.executescript(_EMPTY)

    def transact(
        self,
        work: Callable[[Any], T],
        *,
        time: Callable[[], datetime] = machine_time,
        write: bool = True,
        repeatable: bool = True,
        intent_id: str | None = None,
        ahead: object = None,
    ) -> T:
        """As `Database.transact`; what troubles a commit is told in `trouble`."""
        trouble, self.trouble = self.trouble, None
        self._connection.execute("BEGIN")
        self.in_transaction = True
        try:
            result = work(Transaction(self, Opened(), actor="schedule@sim", time=time, lock=_no_lock))
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        finally:
            self.in_transaction = False
        if trouble == "commit fails":
            self._connection.execute("ROLLBACK")
        else:
            self._connection.execute("COMMIT")
        if trouble is not None:
            raise StoreUnavailable("disk I/O error")
        return result

    def execute(self, statement: Any, values: Any = None) -> Result:
        """One statement of the transaction."""
        many = isinstance(values, list)
        names = () if values is None else tuple(values[0] if many else values)
        kept = statement.__dict__.get("_kept_by_sim", {}).get(names)
        if kept is None:
            compiled, extracted, _, _ = statement._compile_w_cache(
                _DIALECT, compiled_cache=self._compiled, column_keys=sorted(names)
            )
            kept = _Statement(compiled, extracted)
            statement.__dict__.setdefault("_kept_by_sim", {})[names] = kept
        *others, last = values if many else (values,)
        for one in others:
            self._connection.execute(*kept.bound(one))
        return Result(kept, self._connection.execute(*kept.bound(last)))

    def exec_driver_sql(self, statement: str, values: tuple[Any, ...]) -> sqlite3.Cursor:
        """One statement that is written for the driver."""
        return self._connection.execute(statement, values)

    def create(self) -> None:
        """The tables are there."""

    def close(self) -> None:
        """It is kept for the next schedule."""

    # --- for the world and the ghost

    @property
    def database(self) -> Memory:
        """What a client is given."""
        return self

    @property
    def changes(self) -> int:
        """How many rows were ever changed: the same number says that nothing was."""
        return self._connection.total_changes

    def read(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """What is on disk."""
        return self._connection.execute(query, values).fetchall()

    def write(self, statement: str, *values: object) -> None:
        """A hand on the store."""
        self._connection.execute(statement, values)

    def save(self) -> Saved:
        """A backup."""
        return {made.name: self.read(f"SELECT * FROM {made.name}") for made in _TABLES}

    def restore(self, saved: Saved) -> None:
        """The backup put back."""
        self._connection.executescript(_EMPTY)
        for name, rows in saved.items():
            for row in rows:
                self.write(f"INSERT INTO {name} VALUES ({', '.join('?' * len(row))})", *row)
