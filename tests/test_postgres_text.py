"""Text on PostgreSQL: a database that cannot keep every character is refused, and keys do not hang on a collation."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL, NullPool, create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from gateway_client import AsyncClient, Client, ConfigurationError, Stripe
from tests import postgres
from tests.cli_world import CARD, World
from tests.doctor_kit import doctor, doctor_shell, found, healthy, on_a_server

REFUSED = r"keeps text as {0}, and needed is UTF8.* CREATE DATABASE .* ENCODING 'UTF8' TEMPLATE template0"


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[World]:
    with doctor_shell(tmp_path) as made:
        yield made


@pytest.fixture(params=["SQL_ASCII", "LATIN1"])
def narrow(request: pytest.FixtureRequest) -> tuple[str, URL]:
    """A database of another encoding, and its name."""
    how = f"ENCODING '{request.param}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    return request.param, postgres.fresh_database(how=how)


def test_every_command_names_the_encoding(shell: World, narrow: tuple[str, URL]) -> None:
    """D11: on a database in SQL_ASCII or LATIN1 each command is exit 2, names the encoding, and says what to do."""
    encoding, url = narrow
    shell.env["PAYCLI_DATABASE_URL"] = postgres.shown(url)
    reason = ("--because", "a customer called \N{SMILING FACE WITH SMILING EYES}")
    for command in (
        ("init",),
        ("charge", "order_1", *CARD),
        ("resume",),
        ("worker", "--until-idle"),
        ("cancel", "order_1", *reason),
        ("show", "order_1"),
        ("pending",),
        ("reconcile", "--date", "today"),
        ("reconcile", "--date", "today", "--dry-run"),
        ("findings",),
        ("resolve", "0123456789abcdef", *reason),
        ("alerts",),
    ):
        run = shell.paycli(*command)
        assert (command, run.code, run.out, "internal error" in run.err) == (command, 2, "", False), run.err
        assert f"keeps text as {encoding}, and needed is UTF8" in run.err
        assert "ENCODING 'UTF8' TEMPLATE template0" in run.err
    ours = create_engine(url, connect_args={"client_encoding": "utf8"}, poolclass=NullPool)
    assert postgres.sql(ours, "SELECT to_regclass('pending_charges')") == [(None,)]


def test_doctor_names_the_encoding(shell: World, narrow: tuple[str, URL]) -> None:
    """D11: doctor tells of the encoding as a wrong setting, and goes on with the rest."""
    encoding, url = narrow
    run = doctor(shell, PAYCLI_DATABASE_URL=postgres.shown(url))
    assert run.code == 2
    check = found(run)["database"]
    assert (check["result"], f"keeps text as {encoding}" in check["found"]) == ("problem", True)


def test_a_caller_s_engine(narrow: tuple[str, URL]) -> None:
    """D11: an engine of the caller's, for both clients, is refused in the same words, and asked for no row."""
    encoding, url = narrow
    gateway = Stripe("sk_test_sandbox", api_base="http://127.0.0.1:1")
    with pytest.raises(ConfigurationError, match=REFUSED.format(encoding)):
        Client(gateway, database=create_engine(url)).find("order_1")

    async def ask() -> None:
        await AsyncClient(gateway, database=create_async_engine(url)).find("order_1")

    with pytest.raises(ConfigurationError, match=REFUSED.format(encoding)):
        asyncio.run(ask())


def test_a_connection_that_speaks_another_encoding(
    shell: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """D11: PGCLIENTENCODING of the environment changes nothing; an engine that asks for LATIN1 is refused."""
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    on_a_server(shell)
    healthy(shell)
    run = shell.paycli("charge", "order_9", *CARD, "--description", "\N{SMILING FACE WITH SMILING EYES}")
    assert run.code == 0, run.err
    url = postgres.fresh_database()
    engine = create_engine(url, connect_args={"client_encoding": "latin1"})
    with pytest.raises(ConfigurationError, match="speaks LATIN1, and needed is UTF8"):
        Client(Stripe("sk_test_sandbox", api_base="http://127.0.0.1:1"), database=engine).find("order_1")


@pytest.mark.parametrize("bad", ["a\udcff", "\ud83d", "a\x00b"])
@pytest.mark.parametrize("server", [False, True], ids=["sqlite", "postgresql"])
def test_text_that_cannot_be_kept_is_a_field_error(shell: World, bad: str, server: bool) -> None:
    """D11: an unpaired surrogate or a NUL in any field is exit 2 and names the field; nothing is written or sent."""
    if server:
        on_a_server(shell)
    else:
        shell.paycli("init")
    healthy(shell)
    asked = len(shell.sandbox.requests)
    tables = ("pending_charges", "paycli_events", "paycli_findings")
    before = [shell.sql(f"SELECT * FROM {name}") for name in tables]
    card = ("--amount", "1999", "--currency", "usd", "--payment-method")
    for field, command in {
        "intent_id": ("charge", bad, *CARD),
        "payment_method": ("charge", "order_9", *card, bad),
        "customer": ("charge", "order_9", *CARD, "--customer", bad),
        "description": ("charge", "order_9", *CARD, "--description", bad),
        "metadata[a]": ("charge", "order_9", *CARD, "--metadata", f"a={bad}"),
        "metadata": ("charge", "order_9", *CARD, "--metadata", f"{bad}=a"),
        "intent_id ": ("cancel", bad, "--because", "x"),
        "because": ("cancel", "order_1", "--because", bad),
        "intent_id  ": ("show", bad),
        "ID": ("resolve", bad, "--because", "x"),
        "--because": ("resolve", "0123456789abcdef", "--because", bad),
    }.items():
        run = shell.paycli(*command)
        assert (command, run.code, run.out) == (command, 2, ""), run.err
        assert run.err.startswith(f"error: {field.strip()}: "), run.err
    assert [shell.sql(f"SELECT * FROM {name}") for name in tables] == before
    assert len(shell.sandbox.requests) == asked
