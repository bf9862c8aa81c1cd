"""What a step reads, writes and locks, and which two steps may change places: then one of both orders is enough.

Under READ COMMITTED nobody sees what is not committed. So a reading statement meets only commits; a writing one meets
commits, and the locks of others that write or lock rows of the same table. A table stands for all of its rows here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from gateway_client.tables import Base

_TABLES = {made.name: made for made in Base.metadata.sorted_tables}
_NAMES = re.compile(rf"\b({'|'.join(_TABLES)})\b")
_NUMBER = re.compile(r"pg_(?:try_)?advisory_xact_lock\((-?\d+)\)")
_WRITES = re.compile(r"^\s*(INSERT INTO|UPDATE|DELETE FROM)\s+(\w+)")
NOBODY: frozenset[str] = frozenset()
EVERY = frozenset(_TABLES)


@dataclass(frozen=True, slots=True)
class Touch:
    """Hold what a step touches. `keys`: tables whose rows are kept from being deleted, by a foreign key of others."""

    reads: frozenset[str] = NOBODY
    writes: frozenset[str] = NOBODY
    locks: frozenset[str] = NOBODY
    keys: frozenset[str] = NOBODY
    numbers: frozenset[str] = NOBODY  # of intents
    commits: bool = False  # or undoes: what was locked is released

    def __or__(self, other: Touch) -> Touch:
        """Join what two steps touch."""
        return Touch(
            self.reads | other.reads,
            self.writes | other.writes,
            self.locks | other.locks,
            self.keys | other.keys,
            self.numbers | other.numbers,
            self.commits or other.commits,
        )

    @property
    def commit(self) -> Touch:
        """The commit, or the rollback, of a transaction that has touched this."""
        return Touch(NOBODY, self.writes, self.locks, self.keys, self.numbers, commits=True)

    @property
    def statements(self) -> Touch:
        """What it is without its commit."""
        return Touch(self.reads, self.writes, self.locks, self.keys, self.numbers)


@cache
def of_statement(statement: str) -> Touch:
    """Read what a statement touches from its words."""
    names = frozenset(_NAMES.findall(statement))
    numbers = frozenset(_NUMBER.findall(statement))
    written = _WRITES.match(statement)
    if written is None:
        locked = names if "FOR UPDATE" in statement else NOBODY
        return Touch(reads=names, locks=locked, numbers=numbers)
    name = written[2]
    keys: frozenset[str] = NOBODY
    if written[1] == "INSERT INTO":
        keys = frozenset(key.column.table.name for key in _TABLES[name].foreign_keys)
    deleted = frozenset({name}) if written[1] == "DELETE FROM" else NOBODY
    return Touch(reads=names, writes=frozenset({name}), locks=deleted, keys=keys, numbers=numbers)


def apart(one: Touch, other: Touch) -> bool:
    """Tell whether two steps of different actors may change places, and nobody could tell."""
    if one.commits and other.commits:
        return True
    if one.numbers & other.numbers:
        return False
    mine, theirs = one.writes | one.locks, other.writes | other.locks
    if one.commits or other.commits:
        statement, commit = (other, one) if one.commits else (one, other)
        of_statement_ = statement.reads | statement.writes | statement.locks | statement.keys
        return not (commit.writes | commit.locks) & of_statement_ and not commit.keys & statement.locks
    return not mine & theirs and not one.keys & other.locks and not other.keys & one.locks


def apart_from_all(step: Touch, whole: Touch) -> bool:
    """Tell whether a step may change places with everything that an actor does."""
    return apart(step, whole.statements) and apart(step, whole.statements.commit)
