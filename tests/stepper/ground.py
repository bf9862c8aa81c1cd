"""The stepper's database: its rows before a run and after it, and who is blocked by whom."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import URL

from gateway_client.db import Database
from gateway_client.tables import Base
from tests import postgres

TABLES = tuple(made.name for made in Base.metadata.sorted_tables)
KEYS = {made.name: tuple(column.name for column in made.primary_key) for made in Base.metadata.sorted_tables}
VACUUM_EVERY = 250  # restores: what was deleted makes each statement slower
DEADLOCK_MS = 20  # how soon PostgreSQL looks for a deadlock; its own default is a second

Image = dict[str, list[dict[str, Any]]]
"""All rows of all tables."""


def made() -> URL:
    """Make a database with our tables."""
    url = postgres.fresh_database()
    postgres.execute(url, f"ALTER DATABASE {url.database} SET deadlock_timeout = '{DEADLOCK_MS}ms'")
    for name in TABLES:  # a lock of the vacuum would end a work that waits for none
        postgres.execute(url, f"ALTER TABLE {name} SET (autovacuum_enabled = false)")
    return url


class Ground:
    """A hand on the database that takes part in nothing."""

    def __init__(self, url: URL) -> None:
        self.url = postgres.shown(url)
        self._address = postgres.shown(url.set(drivername="postgresql"))
        self._hand = psycopg.connect(self._address, autocommit=True)
        parts = (
            f"'{name}', (SELECT coalesce(json_agg(t ORDER BY {', '.join(KEYS[name])}), '[]') FROM {name} t)"
            for name in TABLES
        )
        self._read = f"SELECT json_build_object({', '.join(parts)})"
        self._clear = "".join(f"DELETE FROM {name};" for name in reversed(TABLES))
        self._restored = 0

    def execute(self, statement: str) -> None:
        """Execute statements of an administrator."""
        self._hand.execute(statement.encode())

    def clear(self) -> None:
        """Delete every row."""
        self.execute(self._clear)

    def image(self) -> Image:
        """Read every row."""
        found = self._hand.execute(self._read.encode()).fetchone()
        assert found is not None
        image: Image = found[0]
        return image

    def filling(self, image: Image) -> str:
        """Write down the statements that make these rows the only ones."""
        parts = [self._clear]
        for name in TABLES:
            if image[name]:
                rows = sql.Literal(json.dumps(image[name])).as_string(self._hand)
                parts.append(f"INSERT INTO {name} SELECT * FROM json_populate_recordset(NULL::{name}, {rows}::json);")
        return "".join(parts)

    def fill(self, filling: str) -> None:
        """Put rows on disk that were written down before."""
        self._restored += 1
        if self._restored % VACUUM_EVERY == 0:
            self.execute("VACUUM")
        self.execute(filling)

    def blocked(self, pids: Iterable[int]) -> set[int]:
        """Tell which sessions wait for a lock of another one."""
        listed = ",".join(map(str, pids))
        query = f"SELECT pid FROM unnest(ARRAY[{listed}]) AS pid WHERE cardinality(pg_blocking_pids(pid)) > 0"
        return {pid for (pid,) in self._hand.execute(query.encode())}

    @contextmanager
    def locked(self, intents: Sequence[str]) -> Iterator[None]:
        """Within it, somebody else has locked the rows of intents."""
        with psycopg.connect(self._address) as somebody:
            query = b"SELECT 1 FROM pending_charges WHERE intent_id = ANY(%s) FOR UPDATE"
            somebody.execute(query, [list(intents)])
            yield

    def close(self) -> None:
        """Close the connection."""
        self._hand.close()


def opened(url: str) -> Database:
    """Open the database as a process of its own does, with its one connection."""
    database = Database(url)
    database.create()
    database.transact(lambda transaction: None)
    return database
