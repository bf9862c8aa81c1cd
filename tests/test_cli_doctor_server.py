"""`paycli doctor` on PostgreSQL: what it finds on real servers, good and broken."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, text

from gateway_client.condition import Reader
from gateway_client.tables import Base
from tests import postgres
from tests.cli_world import World
from tests.doctor_kit import (
    PASSWORD,
    POSTGRESQL,
    doctor,
    doctor_shell,
    found,
    healthy,
    on_a_server,
    shown,
    troubles,
    words,
)
from tests.kit import FakeClock


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[World]:
    with doctor_shell(tmp_path) as made:
        yield made


@pytest.fixture
def own(shell: World) -> URL:
    """The shell's store is on PostgreSQL; the URL of an administrator."""
    return on_a_server(shell)


def test_a_healthy_server(shell: World, own: URL) -> None:
    """On PostgreSQL, too, with what is particular to a server."""
    healthy(shell)
    run = doctor(shell)
    assert (run.code, words(run), run.err) == (0, dict.fromkeys(POSTGRESQL, "ok"), "18 ok\n")
    assert found(run)["database"]["found"].startswith("PostgreSQL ")
    assert "wal_level " in found(run)["durability"]["found"]


def test_rows_of_a_server_stay(shell: World, own: URL) -> None:
    """On PostgreSQL every row is as it was, its hidden version, too."""
    healthy(shell)
    url = shell.env["PAYCLI_DATABASE_URL"]

    def rows() -> list[Any]:
        every = (f"SELECT xmin::text, t.* FROM {name} AS t ORDER BY 2, 3" for name in Base.metadata.tables)
        return [Reader(url).read(lambda tx, of=one: tx.execute(text(of)).all()) for one in every]  # type: ignore[misc]

    before = rows()
    assert (doctor(shell).code, rows()) == (0, before)


@pytest.mark.parametrize(("ahead_s", "word", "code"), [(100, "warning", 1), (-100, "warning", 1), (-301, "problem", 1)])
def test_this_machine_s_clock_is_off(
    shell: World, own: URL, ahead_s: float, word: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that is wrong here is seen against the provider's and against the database's."""
    clock = FakeClock(datetime.now(UTC))
    clock.wrong_s = ahead_s
    healthy(shell)
    monkeypatch.setattr("gateway_client.clock.SystemClock", lambda: clock)
    run = doctor(shell)
    assert (run.code, troubles(run)) == (code, dict.fromkeys(("provider clock", "database clock"), word))


def test_nothing_listens(shell: World) -> None:
    """F97: a server that is not there is told in words, exit 3, and the provider is asked all the same."""
    run = doctor(shell, PAYCLI_DATABASE_URL=f"postgresql://me:{PASSWORD}@127.0.0.1:1/billing")
    assert (run.code, words(run)["account"]) == (3, "ok")
    assert found(run)["database"]["found"] == (
        "the database billing on 127.0.0.1:1 cannot be used: nothing answers at its address"
    )
    assert {words(run)[name] for name in POSTGRESQL[5:]} == {"not checked"}


def test_synchronous_commit_off_for_the_database(shell: World, own: URL) -> None:
    """F89: commits that are off for this database only are seen, and the advice takes them back there."""
    healthy(shell)
    postgres.execute(postgres.server_url(), f"ALTER DATABASE {own.database} SET synchronous_commit = off")
    run = doctor(shell)
    assert (run.code, troubles(run)) == (1, {"durability": "problem"})
    assert found(run)["durability"]["advice"] == ("ALTER DATABASE … RESET synchronous_commit (it is set by: database)")


def test_a_user_without_rights(shell: World, own: URL) -> None:
    """Each right that is lacking is named with its grant; one who may only read is told all the rest."""
    healthy(shell)
    role = f"reader_{own.database}"
    tables = ", ".join((*Base.metadata.tables, "paycli_version"))
    grants = [f"GRANT SELECT ON {tables} TO {role}", f"GRANT INSERT, UPDATE ON pending_charges TO {role}"]
    postgres.execute(own, f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'", *grants)
    try:
        run = doctor(shell, PAYCLI_DATABASE_URL=shown(own.set(username=role, password=PASSWORD)))
        assert (run.code, troubles(run)) == (2, {"permissions": "problem"})
        check = found(run)["permissions"]
        assert check["found"].endswith("it may not create tables in schema public")
        lacking = (
            len(Base.metadata.tables) * 2 - 2 + 3
        )  # INSERT and UPDATE on all but one; DELETE of what a run has listed
        assert check["advice"].count("GRANT") == lacking
        assert "GRANT DELETE ON paycli_run_items TO …" in check["advice"]
        postgres.execute(own, f"REVOKE SELECT ON paycli_store FROM {role}")
        run = doctor(shell, PAYCLI_DATABASE_URL=shown(own.set(username=role, password=PASSWORD)))
        assert (run.code, words(run)["store"], words(run)["schema"]) == (2, "problem", "ok")
    finally:
        postgres.execute(own, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_tables_that_are_not_there_or_of_another_version(shell: World, own: URL) -> None:
    """Tables that are missing stop only what needs them; a column that is missing stops only what reads it."""
    empty = shown(postgres.fresh_database(empty=True))
    run = doctor(shell, PAYCLI_DATABASE_URL=empty)
    assert (run.code, words(run)["permissions"], words(run)["schema"]) == (2, "ok", "problem")
    assert found(run)["schema"]["advice"] == "run `paycli init`"
    healthy(shell)
    postgres.execute(own, "ALTER TABLE pending_charges DROP COLUMN closed_at CASCADE")
    run = doctor(shell)
    assert (run.code, words(run)["store"], words(run)["pending"]) == (1, "ok", "not checked")


# A server of its own --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    """A server that a test may break."""
    made = postgres.Server(postgres.folder_of_nobody())
    made.make()
    made.start()
    yield made
    made.stop()


def test_a_server_s_life(shell: World, server: postgres.Server) -> None:
    """F88, F89, F92: a password it refuses; started without fsync; a replica; promoted, with a history of its own."""
    shell.env["PAYCLI_DATABASE_URL"] = shown(server.url.set(password=PASSWORD))
    shell.paycli("init")
    healthy(shell)
    postgres.execute(server.url, "CREATE ROLE locked LOGIN PASSWORD 'another'")
    hba = server.folder / server.data / "pg_hba.conf"
    hba.write_text("host all locked 127.0.0.1/32 scram-sha-256\n" + hba.read_text())
    postgres.execute(server.url, "SELECT pg_reload_conf()")
    run = doctor(shell, PAYCLI_DATABASE_URL=shown(server.url.set(username="locked", password=PASSWORD)))
    assert (run.code, words(run)["database"]) == (3, "problem")
    assert "it refused the user or password of PAYCLI_DATABASE_URL" in found(run)["database"]["found"]

    server.stop(signal.SIGINT)
    server.settings = ("fsync=off",)
    server.start()
    run = doctor(shell)
    assert (run.code, troubles(run)) == (1, {"durability": "problem"})
    assert found(run)["durability"]["advice"].startswith("set fsync = on in the server's configuration")

    server.stop(signal.SIGINT)
    server.settings = ()
    standby = server.folder / server.data / "standby.signal"
    standby.touch()
    server.start()
    run = doctor(shell)
    assert (run.code, troubles(run)) == (2, {"primary": "problem", "timeline": "not checked"})

    postgres.execute(server.url, "SELECT pg_promote()", "UPDATE paycli_store SET timeline = '00000001'")
    run = doctor(shell)
    assert (run.code, troubles(run)) == (1, {"timeline": "problem"})
    assert "00000002, and the store was bound on 00000001" in found(run)["timeline"]["found"]
