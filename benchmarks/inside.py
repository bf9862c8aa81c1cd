"""Plant rows of this library without charging them one by one: the only file here that knows more than public names.

One charge is made, or prepared, through the public client. The rows that it left are found by its name in every table,
whatever the tables are, and copied with other names, keys, ids, amounts and times. So rows have the columns and the
size of real ones. What is known of the inside is how a key is computed; a changed rule is noticed and ends the run.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any

from sqlalchemy import create_engine, inspect, make_url
from sqlalchemy.engine import Connection

from benchmarks.ours import intent_of
from benchmarks.places import SQLITE, kind_of
from benchmarks.provider import ACCOUNT, API_KEY
from gateway_client import Charge, Client, Stripe
from gateway_client.gateways.base import Binding

TEMPLATE, TEMPLATE_AMOUNT = "template_of_rows", 77_777_777
CHUNK_ROWS = 5000
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}")
_BINDING = Binding("stripe", "test", ACCOUNT, "default")


@dataclass(frozen=True, slots=True)
class Fact:
    """State what one planted row is about."""

    name: str
    key: str
    intent_id: str
    charge_id: str
    amount: int
    created: datetime


def key_of(name: str) -> str:
    """Return the idempotency key of an intent's first attempt."""
    return _BINDING.key("charge", name, 1)


def plant(url: str, provider: str, facts: Callable[[], Iterator[Fact]], *, prepared: bool = False) -> None:
    """Fill a new store with one row of each fact: charged and succeeded, or only prepared.

    `facts` is called once for each table. The store is bound to the account of `provider`, as a first charge binds it.
    """
    with Client(Stripe(API_KEY, api_base=provider), database=url) as client:
        intent = intent_of(TEMPLATE, TEMPLATE_AMOUNT)
        template = client.prepare(intent) if prepared else client.charge(intent)
        if template.idempotency_key != key_of(TEMPLATE):
            raise AssertionError("the rule of keys has changed: benchmarks/inside.py computes another key")
        engine = create_engine(url)
        try:
            with engine.connect() as connection:
                found = [*_rows_about(connection, template)]
        finally:
            engine.dispose()
    copy = _copy_into_file if kind_of(url) == SQLITE else _copy_into_server
    for table, rows in found:
        plans = [[_plan(value, row, template) for value in row.values()] for row in rows]
        filled = ([fill(fact) for fill in plan] for fact in facts() for plan in plans)
        copy(url, table, list(rows[0]), filled)
    _tidy(url)
    if prepared:  # the template is not of the backlog
        with Client(Stripe(API_KEY, api_base=provider), database=url) as client:
            client.cancel(TEMPLATE, because="only a template")


def _rows_about(connection: Connection, template: Charge) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Find the rows that name the template, table by table, as the driver returns them."""
    for table in inspect(connection).get_table_names():
        rows = [dict(row) for row in connection.exec_driver_sql(f'SELECT * FROM "{table}"').mappings()]
        about = [row for row in rows if any(isinstance(one, str) and TEMPLATE in one for one in row.values())]
        if about:
            yield table, about


def _plan(value: object, row: dict[str, Any], template: Charge) -> Callable[[Fact], object]:  # noqa: PLR0911 - one kind a line
    """Return how one column of a copy is computed from its fact."""
    if isinstance(value, bool) or value is None:
        return lambda fact: value
    if value == TEMPLATE_AMOUNT:
        return lambda fact: fact.amount
    if isinstance(value, datetime):
        after = value.astimezone(UTC) - template.created_at
        return lambda fact: fact.created + after
    if not isinstance(value, str):
        return lambda fact: value
    if _MOMENT.fullmatch(value):
        after = datetime.fromisoformat(value).replace(tzinfo=UTC) - template.created_at
        return partial(_moment_of, after)
    hashed = [one for one in row.values() if isinstance(one, str) and _sha256(one) == value]
    if hashed:
        return lambda fact: _sha256(_replaced(hashed[0], template, fact))
    if value == _replaced(value, template, Fact("", "", "", "", 0, template.created_at)):
        return lambda fact: value
    return lambda fact: _replaced(value, template, fact)


def _moment_of(after: timedelta, fact: Fact) -> str:
    """Return a time as a SQLite store keeps it."""
    return (fact.created + after).replace(tzinfo=None).isoformat(" ", "microseconds")


def _replaced(text: str, template: Charge, fact: Fact) -> str:
    text = text.replace(TEMPLATE, fact.name).replace(template.idempotency_key, fact.key)
    text = text.replace(str(TEMPLATE_AMOUNT), str(fact.amount))
    for old, new in (
        (template.provider_intent_id, fact.intent_id),
        (template.provider_charge_id, fact.charge_id),
    ):
        text = text.replace(old, new) if old else text
    return text


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _copy_into_file(url: str, table: str, names: Sequence[str], rows: Iterator[list[object]]) -> None:
    columns, places = ", ".join(f'"{name}"' for name in names), ", ".join("?" * len(names))
    with closing(sqlite3.connect(make_url(url).database or "")) as connection, connection:
        connection.execute("PRAGMA synchronous=OFF")  # planting proves nothing; the measured connections set their own
        connection.execute("PRAGMA cache_size=-500000")  # keys are random: their index is written everywhere at once
        while chunk := [*islice(rows, CHUNK_ROWS)]:
            connection.executemany(f'INSERT INTO "{table}" ({columns}) VALUES ({places})', chunk)


def _copy_into_server(url: str, table: str, names: Sequence[str], rows: Iterator[list[object]]) -> None:
    import psycopg

    columns = ", ".join(f'"{name}"' for name in names)
    with psycopg.connect(_conninfo(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")  # foreign keys hold already, row for row
        with cursor.copy(f'COPY "{table}" ({columns}) FROM STDIN'.encode()) as copy:
            for row in rows:
                copy.write_row(row)


def _tidy(url: str) -> None:
    """Leave the database as one that has lived with its rows: checkpointed, and on a server with its statistics."""
    if kind_of(url) == SQLITE:
        with closing(sqlite3.connect(make_url(url).database or "")) as file:
            file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return
    import psycopg

    with psycopg.connect(_conninfo(url), autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")


def _conninfo(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
