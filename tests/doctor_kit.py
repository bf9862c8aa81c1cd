"""What the tests of `paycli doctor` share: a shell on a known disk, and what the command has found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL

from cli import checkup
from tests import postgres
from tests.cli_world import Run, World, world

PASSWORD = "CanaryInTheURL42"
EVERYWHERE = ["settings", "key", "account", "provider clock", "database", "durability"]
OF_THE_STORE = ["store", "seal", "store clock", "pending", "findings", "reconciliation"]
SQLITE = [*EVERYWHERE, "file", "disk", "schema", *OF_THE_STORE]
POSTGRESQL = [*EVERYWHERE, "primary", "collation", "permissions", "database clock", "schema", "timeline", *OF_THE_STORE]


@contextmanager
def doctor_shell(tmp_path: Path) -> Iterator[World]:
    """A shell on a disk of this machine, whatever disk that is; at its end no output holds the password."""
    (tmp_path / "mounts").write_text("/dev/sda1 / ext4 rw 0 0\n")
    folder = tmp_path / "store"
    folder.mkdir(mode=0o700)
    with pytest.MonkeyPatch.context() as patch, world(folder) as made:
        patch.setattr(checkup, "MOUNTS", tmp_path / "mounts")
        made.env |= dict.fromkeys(
            ("STRIPE_API_KEY_FILE", "PAYCLI_NAMESPACE", "PAYCLI_WEBHOOK_SECRET", "PAYCLI_SEAL_SECRET", "PAYCLI_PROXY"),
            "",
        )
        yield made
    assert not any(PASSWORD in output for output in made.outputs)


def on_a_server(shell: World) -> URL:
    """Give the shell a store on PostgreSQL, bound to the account; its URL for an administrator."""
    url = postgres.fresh_database()
    shell.env["PAYCLI_DATABASE_URL"] = shown(url if url.password else url.set(password=PASSWORD))
    assert shell.paycli("init").code == 0
    return url


def shown(url: URL) -> str:
    return url.render_as_string(hide_password=False)


def found(run: Run) -> dict[str, dict[str, Any]]:
    """What was found, by check; each is one object with the promised fields."""
    assert all(list(one) == ["check", "result", "found", "advice"] for one in run.objects)
    return {one["check"]: one for one in run.objects}


def words(run: Run) -> dict[str, str]:
    return {check: one["result"] for check, one in found(run).items()}


def troubles(run: Run) -> dict[str, str]:
    """The words of the checks that are not ok; whatever is a warning or a problem says what to do."""
    assert all(one["advice"] for one in run.objects if one["result"] in ("warning", "problem"))
    return {check: word for check, word in words(run).items() if word != "ok"}


def doctor(shell: World, **env: str) -> Run:
    """The command for programs; whatever is broken, it asks the provider nothing but whose the key is."""
    before = len(shell.sandbox.requests)
    run = shell.paycli("doctor", "--json", **env)
    asked = {(request.method, request.path) for request in shell.sandbox.requests[before:]}
    assert asked <= {("GET", "/v1/account")}
    return run


def healthy(shell: World) -> None:
    """One charge, and a night."""
    assert shell.charge("order_1").code == 0
    assert shell.paycli("reconcile", "--date", "today").code == 0
