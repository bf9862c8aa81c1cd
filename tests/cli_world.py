"""What the tests of the command line share: a sandbox on a port, a folder of its own, and a way to run `paycli`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine
from typer.testing import CliRunner

from cli.main import app
from gateway_client import Sandbox
from gateway_client.sandbox.server import SandboxServer
from tests import postgres

API_KEY = "sk_test_4eC39HqLyjWDarjtT1zdp7dc"
CARD = ("--amount", "1999", "--currency", "usd", "--payment-method", "pm_card_visa")
DATABASES = ("sqlite", "postgresql")
ON_A_FILE = pytest.mark.parametrize("shell", ["sqlite"], indirect=True)
"""For what is particular to a file, and for what is refused before a database is looked at."""
ROOT = Path(__file__).resolve().parent.parent


class Run:
    """What one command said."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


class World:
    """A provider, a folder, and the environment of a shell in it."""

    def __init__(self, folder: Path, sandbox: Sandbox, server: SandboxServer, url: str) -> None:
        self.folder, self.sandbox, self.server = folder, sandbox, server
        self.outputs: list[str] = []
        self.env: dict[str, str] = {
            "STRIPE_API_KEY": API_KEY,
            "PAYCLI_STRIPE_API_BASE": server.url,
            "PAYCLI_DATABASE_URL": url,
            "PAYCLI_SENDS_MAX": "1",  # one send a command: nothing sleeps
        }

    def sql(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """A hand on the database."""
        engine = create_engine(self.env["PAYCLI_DATABASE_URL"])
        try:
            if engine.dialect.name == "postgresql":
                return postgres.sql(engine, statement, values)
            with engine.begin() as connection:
                found = connection.exec_driver_sql(statement, tuple(values))
                return [tuple(row) for row in found] if found.returns_rows else []
        finally:
            engine.dispose()

    @property
    def path(self) -> Path:
        return self.folder / "paycli.db"

    def paycli(self, *arguments: str, **env: str) -> Run:
        """Run a command in this process; an empty variable counts as not set."""
        result = CliRunner().invoke(app, list(arguments), env={**self.env, **env})
        self.outputs += [result.stdout, result.stderr]
        return Run(result.exit_code, result.stdout, result.stderr)

    def charge(self, intent_id: str, *arguments: str, **env: str) -> Run:
        return self.paycli("charge", intent_id, *CARD, *arguments, "--json", **env)

    def command(self, *arguments: str) -> tuple[list[str], dict[str, str]]:
        """The same command for a process of its own."""
        ours = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        return [sys.executable, "-m", "cli.main", *arguments], {**os.environ, **self.env, **ours}


@contextmanager
def world(folder: Path, url: str | None = None) -> Iterator[World]:
    """A world whose settings come from nowhere else; at its end no output holds the key.

    Its store is a file, unless a URL is given.
    """
    sandbox = Sandbox()
    with sandbox.serve() as server:
        made = World(folder, sandbox, server, url or f"sqlite:///{folder / 'paycli.db'}")
        yield made
    assert not any(API_KEY in output for output in made.outputs)
