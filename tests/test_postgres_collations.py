"""Keys on PostgreSQL are compared byte by byte: a collation that a new C library changes moves none of them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase

import pytest
from sqlalchemy import URL, NullPool, create_engine

from gateway_client import Client, Money, PaymentIntent, Sandbox, State, Stripe
from gateway_client.tables import Base
from tests import postgres
from tests.cli_world import World
from tests.doctor_kit import doctor, doctor_shell, found, healthy, on_a_server, troubles, words

NAMES = [f"{first}{sign}{second}" for first in "aBcD" for sign in "-x" for second in ("a", "B", "9", "10")]


def knows_icu() -> bool:
    """Whether the server that this run was given has ICU: that of the wheel is built without."""
    url = postgres.given_url()
    if url is None or postgres.why_not() is not None:
        return False
    found = postgres.sql(
        create_engine(url, poolclass=NullPool), "SELECT 1 FROM pg_collation WHERE collprovider = 'i' LIMIT 2"
    )
    return len(found) > 1  # one is always listed


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[World]:
    with doctor_shell(tmp_path) as made:
        yield made


CHARMAP = ["<code_set_name> UTF-8", "<escape_char> /", "<mb_cur_min> 1", "<mb_cur_max> 6", "CHARMAP"]
CHARMAP += [*(f"<U{code:04X}> /x{code:02x}" for code in range(128)), "END CHARMAP"]


def define(folder: Path, characters: str) -> None:
    """What the C library knows as `changing.utf8` from now on: a language that sorts its letters so."""
    shutil.rmtree(folder / "changing.utf8", ignore_errors=True)
    letters = [f"<U{ord(character):04X}>" for character in characters]
    kinds = [";".join(f"<U{ord(one):04X}>" for one in some) for some in (ascii_uppercase, ascii_lowercase)]
    source = ["escape_char /", "LC_COLLATE", "order_start forward", *letters, "order_end", "END LC_COLLATE"]
    source += ["LC_CTYPE", f"upper {kinds[0]}", f"lower {kinds[1]}", "END LC_CTYPE"]
    for name, lines in (("charmap", CHARMAP), ("source", source)):
        (folder / name).write_text("\n".join([*lines, ""]))
    command = ["localedef", "-c", "-i", "source", "-f", "./charmap", "./changing.utf8"]
    told = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )  # its status warns
    assert (folder / "changing.utf8" / "LC_COLLATE").exists(), told.stderr


PRINTABLE = [chr(code) for code in range(32, 127)]
BY_LETTER = "".join(sorted(PRINTABLE, key=lambda one: (one.lower(), one)))
Changing = tuple[URL, Callable[[], None]]


@contextmanager
def by_the_c_library() -> Iterator[Changing]:
    """A database whose collation is another one after an upgrade of the C library, and that upgrade."""
    folder = postgres.folder_of_nobody()
    define(folder, BY_LETTER)
    folder.chmod(0o755)
    server = postgres.Server(folder)

    def upgrade() -> None:
        server.stop()
        define(folder, "".join(PRINTABLE))
        server.start()

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCPATH", str(folder))
        server.make()
        server.start()
        try:
            postgres.execute(server.url, "CREATE DATABASE shop LOCALE 'changing.utf8' TEMPLATE template0")
            yield server.url.set(database="shop"), upgrade
        finally:
            server.stop()


@contextmanager
def by_icu() -> Iterator[Changing]:
    """The same with ICU: its rules become those of another version in the catalogue."""
    how = "LOCALE_PROVIDER icu ICU_LOCALE 'en' LOCALE 'C' TEMPLATE template0"
    url = postgres.fresh_database(how=how)
    engine = create_engine(url, poolclass=NullPool)
    ((column,),) = postgres.sql(
        engine,
        "SELECT attname FROM pg_attribute WHERE attrelid = 'pg_database'::regclass AND attname IN "
        "('daticulocale', 'datlocale')",
    )
    change = f"UPDATE pg_database SET {column} = 'en-u-kf-upper-kn-true' WHERE datname = '{url.database}'"
    yield url, lambda: postgres.execute(postgres.server_url(), change)


@pytest.mark.parametrize("provider", [by_the_c_library, *([by_icu] if knows_icu() else [])])
def test_a_collation_that_changes_hides_no_charge(provider: Callable[[], AbstractContextManager[Changing]]) -> None:
    """D7: a database whose default collation sorts otherwise since an upgrade finds every charge that was made."""
    with provider() as (url, upgrade), Sandbox().serve(port=0) as peer:
        gateway = Stripe(Sandbox.api_key, api_base=peer.url)
        before = order(url)
        with Client(gateway, database=postgres.shown(url)) as client:
            for name in NAMES:
                assert client.charge(PaymentIntent(name, Money(2000, "usd"), "pm_card_visa")).state is State.SUCCEEDED
        upgrade()
        assert order(url) != before
        with Client(gateway, database=postgres.shown(url)) as client:
            assert [name for name in NAMES if client.find(name) is None] == []
            assert client.charge(PaymentIntent("new", Money(2000, "usd"), "pm_card_visa")).state is State.SUCCEEDED


def order(url: URL) -> list[str]:
    """How the database sorts by default."""
    engine = create_engine(url, poolclass=NullPool)
    values = ", ".join(f"('{name}')" for name in NAMES)
    return [name for (name,) in postgres.sql(engine, f"SELECT * FROM (VALUES {values}) AS t(name) ORDER BY 1")]


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
