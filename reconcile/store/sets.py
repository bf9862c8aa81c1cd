"""Sets of names as one parameter: a statement about hundreds of objects stays one short text with one value.

SQLAlchemy would write out a parameter for each name, which costs more than what the database does with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, String, TableValuedAlias, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class _Names(FunctionElement[str]):
    """A set of names, on the right of IN."""

    name = "names"
    inherit_cache = True


class _Each(FunctionElement[str]):
    """The rows of a set of names, in their one column `value`."""

    name = "each"
    inherit_cache = True


@compiles(_Names, "sqlite")
def _names_of_sqlite(element: _Names, compiler: Any, **more: Any) -> str:
    return f"(SELECT value FROM json_each({compiler.process(element.clauses, **more)}))"  # noqa: S608 - a parameter


@compiles(_Names, "postgresql")
def _names_of_postgresql(element: _Names, compiler: Any, **more: Any) -> str:
    given = compiler.process(element.clauses, **more)
    return f'(SELECT value COLLATE "C" FROM json_array_elements_text(CAST({given} AS JSON)))'  # noqa: S608 - a parameter


@compiles(_Each, "sqlite")
def _each_of_sqlite(element: _Each, compiler: Any, **more: Any) -> str:
    return f"json_each({compiler.process(element.clauses, **more)})"


@compiles(_Each, "postgresql")
def _each_of_postgresql(element: _Each, compiler: Any, **more: Any) -> str:
    return f"json_array_elements_text(CAST({compiler.process(element.clauses, **more)} AS JSON))"


def among(column: ColumnElement[Any], parameter: str) -> ColumnElement[bool]:
    """Compare a column with the names that `packed` makes a parameter of."""
    return column.op("IN", is_comparison=True)(_Names(bindparam(parameter, type_=String())))


def each(parameter: str) -> TableValuedAlias:
    """Select from the names that `packed` makes a parameter of: one row each, in the column `value`."""
    return _Each(bindparam(parameter, type_=String())).table_valued("value")


def packed(names: Iterable[str]) -> str:
    """Make one parameter of many names."""
    return msgspec.json.encode(list(names)).decode()
