"""`paycli doctor` as a command, on a file: what it finds, good and broken; that it changes and betrays nothing."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from cli import checkup
from gateway_client.condition import Reader
from gateway_client.errors import StoreUnavailable
from tests.cli_world import API_KEY, World
from tests.doctor_kit import (
    OF_THE_STORE,
    PASSWORD,
    SQLITE,
    doctor,
    doctor_shell,
    found,
    healthy,
    on_a_server,
    troubles,
    words,
)
from tests.kit import FakeClock

NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[World]:
    with doctor_shell(tmp_path) as made:
        yield made


# All is well ----------------------------------------------------------------------------------------------------------


def test_a_healthy_file(shell: World) -> None:
    """On a store of SQLite that is charged with and reconciled every check is ok, exit 0."""
    shell.paycli("init")
    healthy(shell)
    run = doctor(shell)
    assert (run.code, words(run), run.err) == (0, dict.fromkeys(SQLITE, "ok"), "15 ok\n")
    assert found(run)["store"]["found"] == (
        f"stripe account {shell.sandbox.account}, test mode, namespace default: as the settings are"
    )


def test_lines_for_people(shell: World) -> None:
    """For people each check is one line: the word, what was looked at, what was found, and what to do."""
    run = shell.paycli("doctor", STRIPE_API_KEY="")
    lines = run.out.splitlines()
    assert [line[:27].split("  ")[0] for line in lines][:2] == ["ok", "problem"]
    assert len(lines) == len(SQLITE)
    assert lines[4] == (
        f"problem      database        there is no database at {shell.path} → `paycli init` creates it, or set "
        "PAYCLI_DATABASE_URL"
    )
    assert (run.code, run.err) == (2, "1 ok, 2 problem, 12 not checked\n")


# It changes nothing ---------------------------------------------------------------------------------------------------


def folder_of(shell: World, *, but: tuple[str, ...] = ()) -> dict[str, tuple[bytes, int, int]]:
    """Every file beside the store: its bytes, mode and time."""
    files = [path for path in shell.folder.iterdir() if not path.name.endswith(but or ("\0",))]
    return {path.name: (path.read_bytes(), path.stat().st_mode, path.stat().st_mtime_ns) for path in files}


def test_a_file_stays_as_it_was(shell: World) -> None:
    """No byte, mode, time or name in the store's folder is another afterwards; a missing store stays missing."""
    assert doctor(shell).code == 2
    assert folder_of(shell) == {}
    shell.paycli("init")
    healthy(shell)
    before = folder_of(shell)
    assert (doctor(shell).code, folder_of(shell)) == (0, before)


def test_what_a_killed_process_left_stays(shell: World) -> None:
    """Rows that a killed process left in the write-ahead log are read, and left there (-shm is only its index)."""
    shell.paycli("init")
    write = (
        f"import os, sqlite3; c = sqlite3.connect({str(shell.path)!r}, isolation_level=None); "
        "c.execute('UPDATE paycli_store SET namespace = ?', ('of-the-log',)); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", write], check=True, timeout=30)
    before = folder_of(shell, but=("-shm",))
    run = doctor(shell)
    assert (run.code, folder_of(shell, but=("-shm",))) == (2, before)
    assert "namespace of-the-log" in found(run)["store"]["found"]


def test_another_process_goes_on_writing(shell: World) -> None:
    """A writer in the middle of its transaction is not waited for, and goes on."""
    shell.paycli("init")
    writer = sqlite3.connect(shell.path, isolation_level=None)
    try:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE paycli_store SET namespace = 'of-the-writer'")
        assert troubles(doctor(shell)) == {"reconciliation": "warning"}
        writer.execute("COMMIT")
        assert writer.execute("SELECT namespace FROM paycli_store").fetchall() == [("of-the-writer",)]
    finally:
        writer.close()


@pytest.mark.parametrize("kind", ["a file", "a server"])
def test_its_transactions_can_write_nothing(shell: World, kind: str) -> None:
    """A check that would write by mistake is refused by the database itself."""
    if kind == "a server":
        on_a_server(shell)
    shell.paycli("init")
    reader = Reader(shell.env["PAYCLI_DATABASE_URL"])
    for statement in ("DELETE FROM paycli_store", "CREATE TABLE paycli_new (id INTEGER)"):
        with pytest.raises(StoreUnavailable, match="it is read-only"):
            reader.read(lambda tx, what=statement: tx.execute(text(what)))  # type: ignore[misc]
    assert found(doctor(shell))["store"]["result"] == "ok"


# The provider and the settings ----------------------------------------------------------------------------------------


def test_the_provider_is_down(shell: World) -> None:
    """Nobody answers: that is said, exit 3, and everything else is looked at."""
    shell.paycli("init")
    healthy(shell)
    run = doctor(shell, PAYCLI_STRIPE_API_BASE=NOWHERE)
    assert run.code == 3
    assert troubles(run) == dict.fromkeys(("account", "provider clock", "store"), "not checked")
    assert found(run)["account"]["advice"] == f"is {NOWHERE} reached from here? Charges wait, and lose nothing"
    assert found(run)["store"]["found"].endswith("not compared: account")


def test_a_revoked_key(shell: World) -> None:
    """A key that the provider refuses is a wrong setting; its answer tells the time all the same."""
    shell.paycli("init")
    healthy(shell)
    shell.sandbox.revoke(API_KEY)
    run = doctor(shell)
    assert (run.code, troubles(run)) == (2, {"account": "problem", "store": "not checked"})


def test_another_account(shell: World) -> None:
    """The key of another account than the store's is a wrong setting, and so is a declared account that is not its."""
    shell.paycli("init")
    healthy(shell)
    with sqlite3.connect(shell.path) as store:
        store.execute("UPDATE paycli_store SET account = 'acct_other'")
    store.close()
    run = doctor(shell)
    assert (run.code, troubles(run)) == (2, {"store": "problem"})
    assert f"the settings say account {shell.sandbox.account}" in found(run)["store"]["found"]
    run = doctor(shell, PAYCLI_STRIPE_ACCOUNT="acct_other")
    assert (run.code, troubles(run)) == (2, {"account": "problem", "store": "problem"})


def test_another_mode_and_namespace(shell: World) -> None:
    """Mode and namespace are compared, too. A live key never leaves for another address: nobody is asked."""
    shell.paycli("init")
    healthy(shell)
    run = doctor(shell, PAYCLI_NAMESPACE="other")
    assert (run.code, troubles(run)) == (2, {"store": "problem"})
    with sqlite3.connect(shell.path) as store:
        store.execute("UPDATE paycli_store SET mode = 'live'")
    store.close()
    assert "the settings say mode test" in found(doctor(shell))["store"]["found"]
    live = doctor(shell, STRIPE_API_KEY="sk_live_4eC39HqLyjWDarjtT1zdp7dc")
    assert (live.code, words(live)["key"], words(live)["account"]) == (2, "problem", "not checked")


def test_half_of_the_settings_are_wrong(shell: World) -> None:
    """Each wrong variable is told, also plain http to another machine, and what is left is looked at."""
    shell.paycli("init")
    healthy(shell)
    wrong = {
        "PAYCLI_TIMEOUT_S": "soon",
        "PAYCLI_SENDS_MAX": "0",
        "PAYCLI_SEAL_SECRET": "too short",
        "PAYCLI_NAMESPACE": "Not A Namespace",
        "PAYCLI_STRIPE_API_BASE": "http://stripe.example.com",
    }
    run = doctor(shell, **wrong)
    told = [one["found"] for one in run.objects if one["result"] == "problem"]
    assert [words.split(" ")[0] for words in told] == [
        "PAYCLI_NAMESPACE",
        "PAYCLI_TIMEOUT_S",
        "PAYCLI_SENDS_MAX",
        "PAYCLI_SEAL_SECRET",
        "PAYCLI_STRIPE_API_BASE",
    ]
    assert "plain http to another machine" in told[-1]
    assert (run.code, words(run)["durability"], words(run)["pending"]) == (2, "ok", "ok")


def test_a_database_that_is_none(shell: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL that cannot be used ends no check of the rest, and no other database is opened in its place."""
    monkeypatch.chdir(shell.folder)
    shell.paycli("init")
    run = doctor(shell, PAYCLI_DATABASE_URL=f"mysql://me:{PASSWORD}@db/x")
    assert (run.code, words(run)["account"]) == (2, "ok")
    assert {words(run)[name] for name in SQLITE[4:]} == {"not checked"}


# The seal -------------------------------------------------------------------------------------------------------------

OLD, NEW = "an-old-secret-of-the-seal-drawn-by-chance", "a-new-secret-of-the-seal-drawn-by-chance"


def test_the_seal(shell: World) -> None:
    """E1: it says whether rows are sealed, and how many of those that wait will not be sent for want of a seal."""
    shell.paycli("init")
    healthy(shell)
    shell.sandbox.fault("lost_request", times=2)
    assert shell.charge("order_8").code == 1
    assert shell.charge("order_9", PAYCLI_SEAL_SECRET=OLD).code == 1
    told = [found(doctor(shell, PAYCLI_SEAL_SECRET=secret))["seal"] for secret in ("", OLD, NEW, f"{NEW} {OLD}")]
    assert [one["result"] for one in told] == ["ok", "warning", "warning", "warning"]
    assert "is not set: whoever may write the tables" in told[0]["found"]
    assert [one["found"].partition("; ")[2][:9] for one in told[1:]] == ["1 pending", "2 pending", "1 pending"]
    assert not any(secret in str(one) for one in told for secret in (OLD, NEW))
    assert shell.paycli("resume", PAYCLI_SEAL_SECRET=OLD).code == 1
    assert (shell.sandbox.succeeded()["order_8"], shell.sandbox.succeeded()["order_9"]) == (0, 1)
    assert "no seal" in shell.charge("order_8", PAYCLI_SEAL_SECRET=OLD).err


# Clocks ---------------------------------------------------------------------------------------------------------------


def test_the_store_has_seen_the_future(shell: World) -> None:
    """A store that was written to by a wrong clock says so, and until when nothing is sent."""
    shell.paycli("init")
    healthy(shell)
    with sqlite3.connect(shell.path) as store:
        store.execute("UPDATE paycli_store SET created_at = '2099-01-01 00:00:00.000000'")
    store.close()
    run = doctor(shell)
    assert (run.code, words(run)["store clock"]) == (1, "problem")
    assert "the store has seen 2099-01-01 00:00:00 UTC" in found(run)["store clock"]["found"]


# What is left to do ---------------------------------------------------------------------------------------------------


def test_pending_past_its_key_s_life(shell: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits is counted by state, with the oldest; once a key's life is over that is a warning."""
    shell.paycli("init")
    healthy(shell)
    shell.sandbox.fault("lost_request", times=2)
    assert [shell.charge(name).code for name in ("order_2", "order_3")] == [1, 1]
    run = doctor(shell)
    assert (run.code, troubles(run)) == (0, {})
    assert found(run)["pending"]["found"].startswith("2 unknown; the oldest is order_2, for ")
    clock = FakeClock(datetime.now(UTC))
    clock.advance(hours=23.5)
    shell.sandbox.clock.advance(23.5 * 3600)
    monkeypatch.setattr("gateway_client.clock.SystemClock", lambda: clock)
    run = doctor(shell)
    assert (run.code, troubles(run)) == (1, {"pending": "warning"})
    assert "2 past the life of their keys" in found(run)["pending"]["found"]


def test_open_findings(shell: World) -> None:
    """A finding that a night has left for a person is told, the critical one as a problem."""
    shell.paycli("init")
    healthy(shell)
    shell.sandbox.remove(str(shell.sandbox.charges[0]["id"]))
    assert shell.paycli("reconcile", "--date", "today").code == 1
    run = doctor(shell)
    assert (run.code, troubles(run)) == (1, {"findings": "problem"})
    assert found(run)["findings"]["found"] == "1 open, 1 of them critical: money is wrong on one side"


# The file -------------------------------------------------------------------------------------------------------------


def test_a_file_that_others_can_open_on_a_network(shell: World) -> None:
    """Mode and disk of the store's file are looked at."""
    shell.paycli("init")
    healthy(shell)
    shell.path.chmod(0o640)
    checkup.MOUNTS.write_text(f"/dev/sda1 / ext4 rw 0 0\nserver:/billing {shell.folder} nfs4 rw 0 0\n")
    run = doctor(shell)
    assert (run.code, troubles(run)) == (1, {"file": "warning", "disk": "problem"})
    assert "is on nfs4" in found(run)["disk"]["found"]


def test_a_file_that_is_no_store(shell: World) -> None:
    """A file that is no database, or another program's, is told, and not touched."""
    shell.path.write_text("not a database" * 1000)
    run = doctor(shell)
    assert (run.code, words(run)["database"], words(run)["file"]) == (3, "problem", "warning")
    shell.path.unlink()
    with sqlite3.connect(shell.path) as other:
        other.execute("CREATE TABLE orders (id INTEGER)")
    other.close()
    before = folder_of(shell)
    run = doctor(shell)
    assert (run.code, words(run)["durability"], words(run)["schema"]) == (2, "warning", "problem")
    assert [words(run)[name] for name in OF_THE_STORE] == ["not checked"] * len(OF_THE_STORE)
    assert folder_of(shell) == before


# Secrets --------------------------------------------------------------------------------------------------------------


def test_secrets_are_never_shown(shell: World) -> None:
    """The key, a password and the webhook's secret are in no line, wherever somebody has put them by mistake."""
    secret = "whsec_CanaryOfTheCoalMine4242"
    misplaced = [
        {"PAYCLI_DATABASE_URL": f"postgresql://me:{PASSWORD}@127.0.0.1:1/x?password={PASSWORD}&sslmode={PASSWORD}"},
        {"PAYCLI_DATABASE_URL": API_KEY},
        {"PAYCLI_NAMESPACE": API_KEY, "PAYCLI_TIMEOUT_S": API_KEY, "PAYCLI_SENDS_MAX": API_KEY},
        {"STRIPE_API_KEY_FILE": API_KEY},
        {"STRIPE_API_KEY": "", "STRIPE_API_KEY_FILE": API_KEY},
        {"STRIPE_API_KEY": f" {API_KEY} x"},
        {"PAYCLI_STRIPE_ACCOUNT": API_KEY},
        {"PAYCLI_STRIPE_API_BASE": API_KEY},
        {"PAYCLI_STRIPE_API_BASE": f"https://me:{PASSWORD}@stripe.example.com"},
    ]
    for env in misplaced:
        for options in ((), ("--json",)):
            run = shell.paycli("doctor", *options, **env, PAYCLI_WEBHOOK_SECRET=secret, PAYCLI_SEAL_SECRET=secret * 2)
            assert run.code in (2, 3)
            assert [word for word in (API_KEY, PASSWORD, secret) if word in run.out + run.err] == []


def test_a_bug_in_one_check_hides_no_other(shell: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that breaks in a way nobody thought of is "not checked", without its message, and the rest is done."""

    def broken(*arguments: object) -> None:
        raise RuntimeError(PASSWORD)

    shell.paycli("init")
    healthy(shell)
    monkeypatch.setattr(checkup, "open_findings", broken)
    run = doctor(shell)
    assert (run.code, troubles(run)) == (1, {"findings": "not checked"})
