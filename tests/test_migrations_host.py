"""The tables beside a host's own: its version and autogenerate, Alembic's import, and the SQL run by hand."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, Integer, MetaData, Table

from gateway_client import is_ours, schema
from gateway_client.schema import Upgraded
from gateway_client.tables import Base
from tests import readme
from tests.oracle_disk import sql
from tests.oracle_world import database_url
from tests.test_migrations import connected, create, path_of, statements, upgrade

HOST = MetaData()
Table("orders", HOST, Column("id", Integer, primary_key=True))


def test_a_host_keeps_its_own_version_and_its_autogenerate(tmp_path: Path) -> None:
    """With the README's two lines a host's autogenerate sees its own tables only; our upgrade leaves its version be."""
    path = path_of(tmp_path)
    for statement in (
        "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)",
        "INSERT INTO alembic_version VALUES ('of_the_host')",
        "CREATE TABLE invoices (id INTEGER NOT NULL PRIMARY KEY)",
    ):
        sql(path, statement)
    assert upgrade(tmp_path) == Upgraded(None)
    assert sql(path, "SELECT * FROM alembic_version") == [("of_the_host",)]
    found: dict[str, Any] = {}
    lines = readme.python("In a database that has tables already", "is_ours").replace("context.configure(", "dict(")
    exec(lines, {"dict": found.update, "connection": None, "target_metadata": HOST})
    with connected(path) as connection:
        seen, unseen = (
            compare_metadata(MigrationContext.configure(connection, opts=options), HOST)
            for options in ({}, {"include_name": found["include_name"]})
        )
    assert {"paycli_store", "paycli_version", "pending_charges"} <= {
        change[1].name for change in seen if change[0] == "remove_table"
    }
    assert [(change[0], change[1].name) for change in unseen] == [("add_table", "orders"), ("remove_table", "invoices")]


def test_our_names_are_ours() -> None:
    """Every table of ours, the one of the version too, is told from a host's by its name alone."""
    ours, others = [*Base.metadata.tables, "paycli_version"], ["orders", "charges", "alembic_version", "", None]
    assert ([is_ours(name) for name in ours], [is_ours(name) for name in others]) == ([True] * len(ours), [False] * 5)


READY = """
import sys
from gateway_client import Client, Sandbox, Stripe
for url in sys.argv[1:]:
    with Client(Stripe(Sandbox.api_key), database=url) as client:
        client.find("order_1")
    print("alembic" in sys.modules)
"""


def test_alembic_is_loaded_only_where_tables_are_made(tmp_path: Path) -> None:
    """A client that finds its tables does not pay for Alembic's import; one that makes them loads it."""
    create(tmp_path)
    urls = [database_url(tmp_path), f"sqlite:///{tmp_path / 'new.db'}"]
    told = subprocess.run(
        [sys.executable, "-c", READY, *urls], cwd=readme.ROOT, capture_output=True, text=True, timeout=30, check=True
    )
    assert told.stdout.splitlines() == ["False", "True"]


def test_the_sql_makes_the_same(tmp_path: Path) -> None:
    """What the SQL makes for SQLite, run by hand, is what an upgrade makes, and an upgrade finds nothing to do."""
    create(tmp_path)
    by_hand = tmp_path / "by_hand"
    by_hand.mkdir()
    with closing(sqlite3.connect(path_of(by_hand))) as connection:
        connection.executescript(schema.sql("sqlite"))
    assert statements(path_of(by_hand)) == statements(path_of(tmp_path))
    assert upgrade(by_hand) == Upgraded("0001")
