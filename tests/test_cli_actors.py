"""Who changed a store by `paycli`: each command keeps the real user, whatever the shell says of it.

What an actor is in words, and the library: `test_actors.py`.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from cli.main import app
from gateway_client.actor import name_of
from gateway_client.tables import Base
from tests import postgres
from tests.actor_kit import CLAIMS, HOST, known
from tests.cli_world import CARD, DATABASES, World, world


@pytest.fixture(params=DATABASES)
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    url = None if request.param == "sqlite" else postgres.shown(postgres.fresh_database(empty=True))
    with world(tmp_path, url) as made:
        made.env |= dict.fromkeys(CLAIMS, "")  # whoever runs these tests claims nothing but what a test says
        yield made


FINDING = (
    "INSERT INTO paycli_findings "
    "(id, code, operation, intent_id, attempt, action, here, there, detail, charged, found_at) VALUES "
    "('one', 'status_mismatch', 'charge', 'order_1', 1, 'flagged', 'a', 'b', 'planted.', ?, '2026-11-20 12:00:00')"
)
READING = {"show": ("order_1",), "pending": (), "findings": (), "alerts": (), "doctor": (), "states": ()}
OF_THEIR_OWN = {"sandbox", "demo"}  # they change no store that is given to them
CHANGING = {"init", "charge", "resume", "worker", "cancel", "reconcile", "resolve"}


def stored(shell: World) -> dict[str, list[tuple[Any, ...]]]:
    return {table: sorted(shell.sql(f"SELECT * FROM {table}"), key=repr) for table in Base.metadata.tables}


def forget(shell: World, intent_id: str) -> None:
    """Lose the row of a charge."""
    for table in ("paycli_events", "paycli_sends", "pending_charges"):
        shell.sql(f"DELETE FROM {table} WHERE intent_id = ?", (intent_id,))


def test_every_command_keeps_who_ran_it(shell: World) -> None:
    """E3: each command that changes a store keeps the real user and what it claims to be, on both databases: `init`,
    `cancel`, imports, and each further send, too. What only reads changes nothing."""
    who = known(shell.env["PAYCLI_DATABASE_URL"])
    ran = set()

    def changed_by(command: str, *arguments: str, claims: str = "") -> dict[str, list[tuple[Any, ...]]]:
        """The rows that a command has written, each time under another name."""
        before = {} if command == "init" else stored(shell)
        ran.add(command)
        shell.paycli(command, *arguments, LOGNAME=claims or f"by-{command}")
        after = stored(shell)
        return {table: [row for row in after[table] if row not in before.get(table, [])] for table in after}

    def keeps(rows: list[tuple[Any, ...]], claim: str) -> bool:
        return bool(rows) and all(f"{who}, claims to be '{claim}'" in row for row in rows)

    assert keeps(changed_by("init")["paycli_store"], "by-init")
    charged = changed_by("charge", "order_1", *CARD)
    assert keeps(charged["paycli_events"] + charged["paycli_sends"], "by-charge")
    for number in (2, 3, 4):
        shell.sandbox.fault("lost_reply")
        shell.paycli("charge", f"order_{number}", *CARD)
    assert keeps(changed_by("cancel", "order_2", "--because", "changed his mind")["paycli_events"], "by-cancel")
    shell.sandbox.fault("lost_reply")  # again: one more send, the same state, no event
    again = changed_by("charge", "order_3", *CARD, claims="another one")
    assert (keeps(again["paycli_sends"], "another one"), again["paycli_events"]) == (True, [])
    finished = changed_by("resume", "--limit", "2")
    assert keeps(finished["paycli_events"] + finished["paycli_sends"], "by-resume")
    assert keeps(changed_by("worker", "--until-idle")["paycli_events"], "by-worker")
    forget(shell, "order_1")
    night = changed_by("reconcile", "--date", "today")
    assert keeps(night["paycli_runs"] + night["paycli_events"], "by-reconcile")
    assert "imported from the provider" in str(night["paycli_events"])
    shell.sql("UPDATE paycli_findings SET closed_at = found_at")
    shell.sql(FINDING, (True,))
    closed = changed_by("resolve", "one", "--because", "refunded by hand")
    assert keeps(closed["paycli_findings"] + closed["paycli_events"], "by-resolve")
    for command, arguments in READING.items():
        assert not any(changed_by(command, *arguments).values())
    group = typer.main.get_command(app)
    assert set(group.commands) == ran | OF_THEIR_OWN  # type: ignore[attr-defined]
    assert ran == CHANGING | READING.keys()


def test_the_name_of_the_shell_is_not_believed(shell: World) -> None:
    """E3: `LOGNAME=ceo paycli resolve` says the real user in the row, in `findings` and in `show`, and who it claims
    to be as a claim only."""
    who = f"{known(shell.env['PAYCLI_DATABASE_URL'])}, claims to be 'ceo'"
    shell.paycli("init")
    shell.charge("order_1")
    shell.sql(FINDING, (True,))
    assert shell.paycli("resolve", "one", "--because", "refunded by hand", LOGNAME="ceo", USER="ceo").code == 0
    assert shell.sql("SELECT closed_by FROM paycli_findings") == [(who,)]
    assert f" by {who}: refunded by hand" in shell.paycli("findings", "--all").out
    (shown,) = shell.paycli("show", "order_1", "--json").objects
    assert [entry["actor"] for entry in shown["history"]][-1] == who
    assert shown["history"][-1]["event"] == "finding one closed"
    assert all(entry["actor"] for entry in shown["history"])  # sends as well
    last = shell.paycli("show", "order_1").out.splitlines()[-1]
    assert last.split("  ")[3:] == ["finding one closed", who, "succeeded: refunded by hand"]


def test_a_container_s_user_without_a_name(shell: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """E3: a uid that no list of users knows charges and resolves as any other, and is kept by its number."""

    def nobody(uid: int) -> pwd.struct_passwd:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    name_of.cache_clear()
    try:
        shell.paycli("init")
        assert shell.charge("order_1", LOGNAME="ceo").code == 0
        ((actor,),) = shell.sql("SELECT DISTINCT actor FROM paycli_events")
    finally:
        name_of.cache_clear()
    assert actor.startswith(f"uid {os.getuid()}@{HOST}")
    assert actor.endswith(", claims to be 'ceo'")
