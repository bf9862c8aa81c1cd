"""Keys on PostgreSQL are compared byte by byte: a collation that a new C library changes moves none of them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL, NullPool, create_engine

from gateway_client import Client, Money, PaymentIntent, Sandbox, State, Stripe
from gateway_client.tables import Base
from tests import postgres
from tests.cli_world import World
from tests.doctor_kit import doctor, doctor_shell, found, healthy, on_a_server, troubles, words

SHARED = Path("/usr/share/i18n/locales/de_DE")
HAS_LOCALES = shutil.which("localedef") is not None and SHARED.exists()
NAMES = [f"{first}{sign}{second}" for first in "aBcD" for sign in "-x" for second in "aB"]


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[World]:
    with doctor_shell(tmp_path) as made:
        yield made


def define(folder: Path, source: str) -> None:
    """What the C library knows as `changing.utf8` from now on."""
    shutil.rmtree(folder / "changing.utf8", ignore_errors=True)
    command = ["localedef", "-c", "-i", source, "-f", "UTF-8", str(folder / "changing.utf8")]
    subprocess.run(command, capture_output=True, timeout=60, check=False)  # it warns by its exit status
    assert (folder / "changing.utf8" / "LC_COLLATE").exists()


@pytest.mark.skipif(not HAS_LOCALES, reason="no localedef, or no sources of locales")
def test_a_collation_that_changes_hides_no_charge(monkeypatch: pytest.MonkeyPatch) -> None:
    """D7: a database whose default collation sorts otherwise since an upgrade finds every charge that was made."""
    folder = postgres.folder_of_nobody()
    define(folder, "de_DE")
    folder.chmod(0o755)
    monkeypatch.setenv("LOCPATH", str(folder))
    server = postgres.Server(folder)
    server.make()
    server.start()
    try:
        postgres.execute(server.url, "CREATE DATABASE shop LOCALE 'changing.utf8' TEMPLATE template0")
        url = server.url.set(database="shop")
        assert order(url) == ["a", "B"]
        with Sandbox().serve(port=0) as provider:
            gateway = Stripe(Sandbox.api_key, api_base=provider.url)
            with Client(gateway, database=postgres.shown(url)) as client:
                for name in NAMES:
                    charge = client.charge(PaymentIntent(name, Money(2000, "usd"), "pm_card_visa"))
                    assert charge.state is State.SUCCEEDED
            server.stop()
            define(folder, "POSIX")
            server.start()
            assert order(url) == ["B", "a"]
            with Client(gateway, database=postgres.shown(url)) as client:
                assert [name for name in NAMES if client.find(name) is None] == []
    finally:
        server.stop()


def order(url: URL) -> list[str]:
    """How the database sorts by default."""
    engine = create_engine(url, poolclass=NullPool)
    return [name for (name,) in postgres.sql(engine, "SELECT * FROM (VALUES ('a'), ('B')) AS t(name) ORDER BY 1")]


def test_doctor_compares_collations(shell: World) -> None:
    """D7: a collation that is another version than the database was made with, and a column of ours on it, are told."""
    url = on_a_server(shell)
    healthy(shell)
    assert (doctor(shell).code, words(doctor(shell))["collation"]) == (0, "ok")
    version = "UPDATE pg_database SET datcollversion = '2.17' WHERE datname = current_database()"
    postgres.execute(url, version)
    run = doctor(shell)
    assert (run.code, troubles(run)) == (1, {"collation": "warning"})
    assert "version 2.17" in found(run)["collation"]["found"]
    assert "REINDEX" in found(run)["collation"]["advice"]
    postgres.execute(url, 'ALTER TABLE paycli_findings ALTER COLUMN detail TYPE varchar COLLATE "POSIX"')
    run = doctor(shell)
    assert (run.code, troubles(run)) == (1, {"collation": "problem"})
    assert found(run)["collation"]["found"].startswith("paycli_findings.detail and 0 more columns")


def test_every_text_of_ours_is_compared_byte_by_byte() -> None:
    """D7: each text column of each table is COLLATE "C", so that two of them can be joined, too."""
    engine = create_engine(postgres.fresh_database(), poolclass=NullPool)
    statement = (
        "SELECT table_name, column_name, collation_name FROM information_schema.columns "
        "WHERE table_schema = 'public' AND data_type = 'character varying' AND table_name <> 'paycli_version'"
    )
    rows = postgres.sql(engine, statement)
    assert {table for table, *_ in rows} == set(Base.metadata.tables)
    assert {collation for *_, collation in rows} == {"C"}
