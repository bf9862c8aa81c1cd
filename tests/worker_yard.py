"""Real processes of `paycli worker` on a store of either kind, and hands on that store."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text

from gateway_client import Client, Money, PaymentIntent, Stripe
from tests import postgres
from tests.cli_world import World, world

WAIT_S_MAX = 30.0
LONG_AGO = "2020-01-01 00:00:00.000000+00:00"


@contextmanager
def worker_shell(folder: Path, database: str) -> Iterator[World]:
    """A shell whose store is a file, or a database of its own on the server."""
    with world(folder) as made:
        if database == "postgresql":
            made.env["PAYCLI_DATABASE_URL"] = postgres.fresh_database().render_as_string(hide_password=False)
        assert made.paycli("init").code == 0
        yield made


def prepare(shell: World, count: int) -> None:
    gateway = Stripe(shell.env["STRIPE_API_KEY"], api_base=shell.server.url)
    with Client(gateway, database=shell.env["PAYCLI_DATABASE_URL"]) as client:
        for number in range(count):
            client.prepare(PaymentIntent(f"order_{number}", Money(1999, "usd"), "pm_card_visa"))


def sql(shell: World, statement: str) -> list[tuple[Any, ...]]:
    """A hand on the store, by a connection of its own."""
    engine = create_engine(shell.env["PAYCLI_DATABASE_URL"])
    try:
        with engine.begin() as connection:
            found = connection.execute(text(statement))
            return [tuple(row) for row in found] if found.returns_rows else []
    finally:
        engine.dispose()


def leased(shell: World) -> int:
    return int(sql(shell, "SELECT count(*) FROM pending_charges WHERE leased_by IS NOT NULL")[0][0])


def posts(shell: World) -> int:
    return len([request for request in shell.sandbox.requests if request.method == "POST"])


@contextmanager
def process(shell: World, *arguments: str, module: str = "cli.main") -> Iterator[subprocess.Popen[str]]:
    """A worker of its own, which is gone at the end whatever happens."""
    command, environment = shell.command("worker", *arguments)
    command[command.index("cli.main") : command.index("cli.main") + 1] = module.split()
    with subprocess.Popen(
        command, cwd=shell.folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as started:
        try:
            yield started
        finally:
            started.kill()


def until(condition: str, true: object, look: Callable[[], object]) -> None:
    """Wait, in bounds, for something that other processes do."""
    deadline = time.monotonic() + WAIT_S_MAX
    while look() != true:
        assert time.monotonic() < deadline, condition
        time.sleep(0.02)
