"""What short commands and `import gateway_client` do not import. How long they take is `make bench`'s to say."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from cli.main import GARBAGE_OBJECTS
from tests import postgres
from tests.cli_world import DATABASES, ROOT, World, world

CHARGING = ("gateway_client.client", "gateway_client.wire", "gateway_client.store.performing")
HEAVY = (
    *"aiosqlite alembic asyncio certifi h11 httpcore httpx msgspec pydantic rich".split(),
    *"sqlalchemy sqlmodel ssl stripe".split(),
    *"gateway_client.async_client gateway_client.flow.effects gateway_client.gateways.base".split(),
    *"gateway_client.sandbox gateway_client.tables".split(),
    *"reconcile.effects reconcile.job reconcile.store.performing reconcile.webhook".split(),
    *CHARGING,
)
"""What takes long to import, by name: libraries, and what of ours brings them along or declares much."""

READING = {
    "sqlalchemy",
    "asyncio",  # SQLAlchemy imports it, and it imports ssl
    "ssl",
    "pydantic",  # Typer reads the arguments of a command with it
}
COMMANDS = {"show": ("show", "order_1"), "pending": ("pending",), "alerts": ("alerts",)}
DRIVERS = ("sqlalchemy.dialects.sqlite", "sqlalchemy.dialects.postgresql", "psycopg")

TELLING = "print(0, *sys.modules, file=sys.stderr)"
RUNNING = """
import gc, sys
from cli.main import run
try:
    run()
finally:
    print(gc.get_threshold()[0], *sys.modules, file=sys.stderr)
"""


@pytest.fixture(params=DATABASES)
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    url = None if request.param == "sqlite" else postgres.shown(postgres.fresh_database(empty=True))
    with world(tmp_path, url) as made:
        assert made.paycli("init").code == 0
        yield made


def loaded(code: str, *arguments: str, env: Mapping[str, str] | None = None) -> tuple[str, int, set[str]]:
    """What a process of its own prints, the collector's threshold, and the modules that it has imported in the end."""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode in (0, 1), run.stderr
    threshold, *modules = run.stderr.splitlines()[-1].split()
    return run.stdout, int(threshold), set(modules)


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_import_nothing_heavy(option: str) -> None:
    """`paycli --help` and `--version` import no database, no HTTP and no provider library, and nothing of ours."""
    told, threshold, modules = loaded(RUNNING, option)
    assert told.startswith(("Usage: ", "paycli "))
    assert modules & {*HEAVY, "gateway_client", "reconcile"} == set()
    assert threshold == GARBAGE_OBJECTS


def test_the_library_imports_what_is_asked_for() -> None:
    """`import gateway_client` imports nothing heavy; an error, an amount and an intent do not, either."""
    for names in ("on_demand", "InvalidInput, Money, PaymentIntent, RetryPolicy, State"):
        _, _, modules = loaded(
            f"import sys\nfrom gateway_client import {names}\nprint(0, *sys.modules, file=sys.stderr)"
        )
        assert modules & set(HEAVY) == set()
    _, _, modules = loaded(f"import sys\nfrom gateway_client import Client\n{TELLING}")
    assert set(CHARGING) <= modules  # the first charge imports nothing of it
    assert {"gateway_client.sandbox", "gateway_client.tables", "alembic"} & modules == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_reading_imports_no_more_than_a_database(command: str, shell: World) -> None:
    """`show`, `pending` and `alerts` import SQLAlchemy and one driver: no HTTP, no models, nothing that charges."""
    assert shell.charge("order_1").code == 0
    told, threshold, modules = loaded(RUNNING, *COMMANDS[command], env={**shell.env, "STRIPE_API_KEY": ""})
    assert {"show": "order_1, attempt 1: succeeded", "pending": "", "alerts": "not_reconciled: "}[command] in told
    assert modules & set(HEAVY) <= READING
    on_a_file = shell.env["PAYCLI_DATABASE_URL"].startswith("sqlite")
    assert [name in modules for name in DRIVERS] == [on_a_file, not on_a_file, not on_a_file]
    assert threshold == GARBAGE_OBJECTS
