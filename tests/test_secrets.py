"""The API key is a canary: it may travel in one header, and be found nowhere else. Nor may the customer's data be told.

Not here: that the key travels by TLS only (`test_wire.py`).
"""

import asyncio
import copy
import io
import logging
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from gateway_client import AsyncClient, Client, ConfigurationError, NotNow, RetryPolicy, Stripe
from gateway_client.errors import ChargeOnceError
from gateway_client.exchange import unaged
from gateway_client.gateways.base import NoReply
from gateway_client.wire import Wire
from tests.oracle_world import (
    API_KEY,
    StillClock,
    async_client_of,
    client_of,
    database_url,
    full_intent,
    intent_of,
    sandbox_of,
)

CANARY = API_KEY.removeprefix("sk_test_")
TALKATIVE = ("gateway_client", "httpx", "httpcore", "sqlalchemy", "sqlalchemy.engine", "sqlalchemy.pool", "aiosqlite")
FAULTS = ("lost_reply", "error_500", "in_use_409", "html_body", "redirect_302", "refused")


@pytest.fixture
def told() -> Iterator[list[logging.LogRecord]]:
    """Every record of every logger, at DEBUG."""
    records: list[logging.LogRecord] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    handler = Keeping()
    loggers = [logging.getLogger(name) for name in (None, *TALKATIVE)]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    logging.getLogger().addHandler(handler)
    yield records
    logging.getLogger().removeHandler(handler)
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def written(record: logging.LogRecord) -> str:
    """A record as any formatter could write it."""
    text = logging.Formatter("%(name)s %(message)s").format(record)
    return f"{text} {record.args!r} {record.__dict__!r}"


def charge_badly(folder: Path) -> None:
    """A charge through every fault, over a port, by a blocking client; then by one on a loop."""
    clock = StillClock()
    sandbox = sandbox_of(clock)
    with sandbox.serve() as server:
        gateway = Stripe(API_KEY, api_base=server.url)
        retry = RetryPolicy(sends_max=2)
        with Client(gateway, database=database_url(folder), clock=clock, retry=retry) as client:
            for fault in FAULTS:
                sandbox.fault(fault)
                client.charge(full_intent(f"order_{fault}"))
            client.resume()

        async def run() -> None:
            async with AsyncClient(gateway, database=database_url(folder), clock=clock, retry=retry) as client:
                sandbox.fault("lost_reply")
                await client.charge(full_intent("order_async"))

        asyncio.run(run())


def test_the_key_is_in_no_log_line(told: list[logging.LogRecord], tmp_path: Path) -> None:
    """S24: with every logger at DEBUG, the database's among them, no record holds the API key."""
    charge_badly(tmp_path)
    assert {record.name.partition(".")[0] for record in told} >= {"gateway_client", "sqlalchemy"}
    assert [written(record) for record in told if CANARY in written(record)] == []


def test_no_log_line_holds_the_customers_data(told: list[logging.LogRecord], tmp_path: Path) -> None:
    """S24: no record of ours holds body, metadata or idempotency key; no HTTP library says anything of our requests."""
    charge_badly(tmp_path)
    ours = [written(record) for record in told if record.name.startswith("gateway_client")]
    assert ours != []
    secret = ("jenny", "Zwei", "emoji", "paycli_key", "amount=1999", "pc1_")
    assert [line for line in ours if any(word in line for word in secret)] == []
    assert [record for record in told if record.name.startswith(("httpx", "httpcore"))] == []


def test_the_databases_log_holds_no_body(told: list[logging.LogRecord], tmp_path: Path) -> None:
    """S24: SQLAlchemy's log of statements, when somebody turns it on, does not show their parameters."""
    clock = StillClock()
    with client_of(sandbox_of(clock), clock, database_url(tmp_path)) as client:
        client.charge(full_intent())
    theirs = [written(record) for record in told if record.name == "sqlalchemy.engine.Engine"]
    statements = [line for line in theirs if " Row " not in line]  # rows are shown at DEBUG only, by SQLAlchemy
    assert statements != []
    assert [line for line in statements if "jenny" in line or "pc1_" in line] == []


def test_the_key_is_in_no_file(tmp_path: Path) -> None:
    """S24: no byte of the database or of its side files is the API key's, while it is open and afterwards."""
    clock = StillClock()
    with client_of(sandbox_of(clock), clock, database_url(tmp_path)) as client:
        client.charge(full_intent())
        contents = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    contents |= {f"closed {path.name}": path.read_bytes() for path in tmp_path.iterdir()}
    assert {"charges.db", "charges.db-wal", "closed charges.db"} <= set(contents)
    assert b"order_42" in contents["charges.db-wal"]
    assert [name for name, content in contents.items() if CANARY.encode() in content] == []


def everything_told(error: BaseException) -> str:
    """What a crash reporter may send: messages, reprs, and the local variables of every frame of our files."""
    whole = io.StringIO()
    report = traceback.TracebackException.from_exception(error, capture_locals=True)
    whole.write("".join(report.format()))
    whole.write(repr(error) + repr(error.args) + repr(vars(error)))
    return whole.getvalue()


def failures(folder: Path) -> Iterator[BaseException]:
    """Errors of many kinds, each with the canary in use."""
    clock = StillClock()
    sandbox = sandbox_of(clock)
    sandbox.revoke(API_KEY)
    with client_of(sandbox, clock, database_url(folder)) as client, pytest.raises(ConfigurationError) as revoked:
        client.charge(full_intent())
    yield revoked.value
    with (
        client_of(sandbox_of(clock), clock, database_url(folder / "nowhere")) as client,
        pytest.raises(NotNow) as no_database,
    ):
        client.charge(full_intent())
    yield no_database.value
    down = sandbox_of(clock)
    down.fault("refused", times=9, on="*")
    with client_of(down, clock, database_url(folder)) as client, pytest.raises(NotNow) as unanswered:
        client.charge(full_intent())
    yield unanswered.value
    for wrong in (f"{API_KEY} ", API_KEY + "é", "pk_test_" + CANARY, CANARY, f"Bearer {API_KEY}"):
        with pytest.raises(ConfigurationError) as refused:
            Stripe(wrong)
        yield refused.value
    with pytest.raises(ConfigurationError) as live:
        Stripe("sk_live_" + CANARY, api_base="https://stripe.example.com")
    yield live.value


def test_the_key_is_in_no_exception(tmp_path: Path) -> None:
    """S24: messages, reprs and causes of our errors never hold the key, not even a wrong one that was refused."""
    found = list(failures(tmp_path))
    assert len(found) == 9
    for error in found:
        assert isinstance(error, ChargeOnceError)
        plain = "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error)) + repr(error.args)
        assert CANARY not in plain


def test_the_key_is_in_no_local_variable_of_a_charge(tmp_path: Path) -> None:
    """S24: a crash reporter that sends the locals of every frame of a failed charge does not send the key."""
    clock = StillClock()
    sandbox = sandbox_of(clock)
    sandbox.revoke(API_KEY)
    with client_of(sandbox, clock, database_url(tmp_path)) as client, pytest.raises(ConfigurationError) as failed:
        client.charge(full_intent())
    assert CANARY not in everything_told(failed.value)


def test_what_http_refuses_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """S24: a header that is none of HTTP is not sent, and the reason does not hold it."""
    gateway = Stripe(API_KEY, api_base="http://127.0.0.1:1")
    monkeypatch.setattr(Stripe, "headers", lambda *_: {"Authorization": f"Bearer {API_KEY}\n"})
    reply = Wire(gateway, 5.0, None).exchange(Stripe(API_KEY).account_request(), unaged)
    assert isinstance(reply, NoReply)
    assert not reply.sent
    assert CANARY not in repr(reply)


def test_no_repr_holds_the_key_or_the_customer(tmp_path: Path) -> None:
    """S24: reprs of gateway, client, its parts, requests and snapshots hold neither key nor e-mail address."""
    clock = StillClock()
    client = client_of(sandbox_of(clock), clock, database_url(tmp_path))
    shown = [client, client._gateway, client._setup, client._wire, client._database, full_intent()]
    shown += [client.charge(full_intent()), client._gateway.account_request()]
    client.close()
    words = " ".join([repr(thing) + str(thing) for thing in shown])
    assert CANARY not in words
    assert "jenny" not in words


def test_a_request_does_not_show_its_body() -> None:
    """S24: the repr of a request, which effects and tracebacks carry, shows neither body nor idempotency key."""
    request = Stripe(API_KEY).charge_request("receipt_email=jenny%40example.com", "pc1_key", "2026-10-28.endive")
    assert "jenny" not in repr(request)
    assert "pc1_key" not in repr(request)
    assert {"body", "idempotency_key"} <= {field.name for field in fields(request)}


@pytest.mark.parametrize("how", [pickle.dumps, copy.deepcopy, copy.copy])
def test_a_gateway_is_never_pickled_or_copied(how: Any) -> None:
    """S24: what holds a credential is not written into a queue or a cache; the refusal does not repeat it."""
    with pytest.raises(TypeError, match="never pickled") as refused:
        how(Stripe(API_KEY))
    assert CANARY not in str(refused.value)


def test_a_live_key_goes_to_stripe_only() -> None:
    """A live key is refused together with another address, https or loopback."""
    for base in ("https://stripe.example.com", "http://127.0.0.1:12111", "https://api.stripe.com"):
        with pytest.raises(ConfigurationError, match="PAYCLI_STRIPE_API_BASE"):
            Stripe("sk_live_abc", api_base=base)
    assert (Stripe("sk_live_abc").mode, Stripe("rk_live_abc").mode, Stripe("rk_test_a").mode) == (
        "live",
        "live",
        "test",
    )


@pytest.mark.parametrize(
    "key",
    ["", " ", "sk_test_", "sk_test_a b", "sk_test_a\n", "sk_prod_a", "pk_live_a", "sk_test_ä", "SK_TEST_A", "\x00"],
)
def test_a_key_that_is_none_is_refused_unrepeated(key: str) -> None:
    """F153: what is not a secret or restricted key is refused by the name of its setting, and not repeated."""
    with pytest.raises(ConfigurationError, match="STRIPE_API_KEY is not a Stripe") as refused:
        Stripe(key)
    assert len(key) <= len("sk_test_") or key not in str(refused.value)


def test_an_address_with_a_password_or_a_path_is_refused() -> None:
    """An API base is scheme, host and port: nothing that could carry a secret into a log."""
    for base in ("https://u:p@host", "https://host/v2", "https://host?x=1", "https://host#x", "ftp://host", "host", ""):
        with pytest.raises(ConfigurationError) as refused:
            Stripe(API_KEY, api_base=base)
        assert "u:p" not in str(refused.value)


def test_the_environment_names_the_key_or_its_file(tmp_path: Path) -> None:
    """F153: the key is in the variable or in a file, never in both, never blank."""
    file = tmp_path / "key"
    file.write_text(f"{API_KEY}\n")
    file.chmod(0o600)
    by_value, by_file = (
        Stripe.from_env({"STRIPE_API_KEY": API_KEY}),
        Stripe.from_env({"STRIPE_API_KEY_FILE": str(file)}),
    )
    assert by_value.credential_id == by_file.credential_id
    assert CANARY not in by_value.credential_id
    (tmp_path / "blank").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name in ("blank", "binary"):
        (tmp_path / name).chmod(0o600)
    for wrong in (
        {},
        {"STRIPE_API_KEY": "  "},
        {"STRIPE_API_KEY": API_KEY, "STRIPE_API_KEY_FILE": str(file)},
        {"STRIPE_API_KEY_FILE": str(tmp_path / "missing")},
        {"STRIPE_API_KEY_FILE": str(tmp_path / "blank")},
        {"STRIPE_API_KEY_FILE": str(tmp_path / "binary")},
        {"STRIPE_API_KEY_FILE": str(tmp_path)},
    ):
        with pytest.raises(ConfigurationError, match="STRIPE_API_KEY") as refused:
            Stripe.from_env(wrong)
        assert CANARY not in str(refused.value)


def test_another_key_is_another_credential() -> None:
    """Rows remember which credential sent them, by a hash that is stable and does not lead back."""
    assert Stripe(API_KEY).credential_id == Stripe(API_KEY).credential_id
    assert Stripe(API_KEY).credential_id != Stripe(API_KEY + "2").credential_id


def test_the_key_is_in_no_argument_list(tmp_path: Path) -> None:
    """S24: a process that charges has the key in its environment only: not in its arguments, not on its outputs."""
    program = (
        "import sys; from pathlib import Path; from gateway_client import *\n"
        "from gateway_client.gateways.stripe import Stripe as S\n"
        "sandbox = Sandbox(); gateway = S.from_env()\n"
        "client = Client(gateway, database=sys.argv[1], transport=sandbox.transport())\n"
        "print(client.charge(PaymentIntent('order_1', Money(100, 'usd'), 'pm_card_visa')), client, gateway)\n"
        "line = Path('/proc/self/cmdline'); print(line.read_bytes() if line.exists() else sys.orig_argv)\n"
        "client.close()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, database_url(tmp_path)],
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "STRIPE_API_KEY": API_KEY},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "succeeded" in done.stdout
    assert CANARY not in done.stdout + done.stderr


def test_a_database_error_shows_no_parameters(tmp_path: Path) -> None:
    """S24: an error of the database, its cause and its traceback do not show the parameters of our statements."""
    clock = StillClock()
    with client_of(sandbox_of(clock), clock, database_url(tmp_path)) as client:
        client.charge(intent_of("first"))
        with client._database._engine.begin() as connection:
            connection.exec_driver_sql(
                "CREATE TRIGGER refuse BEFORE INSERT ON pending_charges BEGIN SELECT RAISE(ABORT, 'no'); END"
            )
        with pytest.raises(Exception, match="no") as failed:
            client.charge(full_intent())
    told = "".join(traceback.format_exception(failed.value))
    assert "jenny" not in told
    assert "pc1_" not in told


def test_async_clients_show_nothing_either(tmp_path: Path) -> None:
    """S24: the client on a loop has the same silent repr."""
    clock = StillClock()

    async def run() -> str:
        async with async_client_of(sandbox_of(clock), clock, database_url(tmp_path)) as client:
            return f"{client!r} {await client.charge(full_intent())!r}"

    assert CANARY not in asyncio.run(run())
