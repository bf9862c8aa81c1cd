"""What a database's URL may be, and that no part of its user or password is told, however it is written."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event

from gateway_client import AsyncClient, Client, ConfigurationError, Stripe
from gateway_client.async_db import async_database
from gateway_client.backends import backend_of, parsed
from gateway_client.condition import Reader
from gateway_client.db import Database
from tests import postgres
from tests.cli_world import API_KEY, ON_A_FILE, World, world
from tests.postgres import shown

CANARY = "canary"  # in each user, password and what may be the end of one
SERVER = "postgresql+psycopg://canaryuser:pa"
SPILT = (
    f"{SERVER}@canary@db.invalid/app",
    f"{SERVER}@canary/x@db.invalid/app",
    f"{SERVER}@canary?x@db.invalid/app",
    f"{SERVER}@canary#x@db.invalid/app",
    f"{SERVER}@canary:5432/app@db.invalid/app",
    f"{SERVER}@s?canary=canary@db.invalid/app",
    "postgresql://canaryuser@canary:pa@db.invalid/app",
    "postgresql://canaryuser:canary/app",
    "postgresql://canaryuser:canary@/app@db.invalid",
    "postgresql://canaryuser:pa@db.invalid:canary/app",
    "postgresql://canaryuser:pa@db.invalid:5432canary/app",
    "postgresql://canaryuser:pa@h1:5432,canary:x/app",
    "postgresql://db.invalid/app?host=canary%40db",
    "postgresql://db.invalid/app?host=h%2Ccanary%40db&port=1%2C2",
    "postgresql://canaryuser:pa@%2540canary%40db/app",
    "postgresql://db.invalid/app?user=canaryuser&password=pa&canary=x",
    "postgresql://db.invalid/app?password=pa&canary",
    "postgresql+asyncpg://canaryuser:canary@db.invalid/app",
    "mysql://canaryuser:canary@db.invalid/app",
    "sqlite://canaryuser:canary@db.invalid/app.db",
    "canaryuser:canary@db.invalid/app",
    "//canaryuser:canary@db.invalid/app",
    "canary",
)
COMMANDS = (
    ("doctor",),
    ("doctor", "--json"),
    ("pending",),
    ("show", "order_1"),
    ("init",),
    ("init", "--sql"),
    ("resume",),
    ("findings",),
    ("alerts",),
)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def told(error: BaseException) -> str:
    """All that a crash reporter could send of an error but for the frames of the caller."""
    everything = traceback.TracebackException.from_exception(error, capture_locals=True)
    ours = [frame for frame in everything.stack if "gateway_client" in frame.filename]
    return f"{error} {error!r} {error.__context__!r} {error.__cause__!r} {[frame.locals for frame in ours]}"


@pytest.mark.parametrize("url", SPILT)
def test_a_spilt_password_is_never_told(url: str) -> None:
    """D3: what is read of a password in the place of a host, port, database or parameter is in no error, no repr."""
    gateway = Stripe(API_KEY)
    for open_it in (
        lambda: Client(gateway, database=url),
        lambda: AsyncClient(gateway, database=url),
        lambda: Reader(url),
    ):
        with pytest.raises(ConfigurationError, match=r"^PAYCLI_DATABASE_URL .*Nothing was sent\.$") as refused:
            open_it()
        assert CANARY not in told(refused.value)


@pytest.mark.parametrize("url", SPILT)
def test_no_command_tells_a_spilt_password(shell: World, url: str) -> None:
    """D3: each command ends with exit 2, and no line of it holds a part of the user or password."""
    for command in COMMANDS:
        run = shell.paycli(*command, PAYCLI_DATABASE_URL=url)
        if command != ("init", "--sql"):  # it opens nothing, and needs the kind of database only
            assert (run.code, "internal error" in run.err) == (2, False)
        assert CANARY not in run.out + run.err


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://canaryuser:canary%40x@127.0.0.1:1/app",
        "postgresql://canaryuser:canary/#?x@127.0.0.1:1/app",
        "postgresql://127.0.0.1:1/app?user=canaryuser&password=canary",
    ],
)
def test_a_server_that_is_away_is_told_without_its_password(shell: World, url: str) -> None:
    """D3: of a right URL host, port and database are told, never the user or password; its repr masks them, too."""
    assert "canary" not in repr(parsed(url)).replace("canaryuser", "")
    for command in (("pending",), ("doctor",)):
        run = shell.paycli(*command, PAYCLI_DATABASE_URL=url)
        assert (run.code, "app on 127.0.0.1:1" in run.out + run.err) == (3, True)
        assert CANARY not in run.out + run.err


def test_an_engine_with_a_spilt_password() -> None:
    """D3: of an engine that the caller made from such a URL the place is not told."""
    engine = create_engine("postgresql+psycopg://u:pa@canary@127.0.0.1:1/app")
    assert Database(engine).place == "the database"


# PostgreSQL -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "arguments", "place"),
    [
        ("postgres://u:p@h/db", {"user": "u", "password": "p", "host": "h", "dbname": "db"}, "db on h"),
        ("postgres+psycopg://h:1/db", {"host": "h", "port": 1, "dbname": "db"}, "db on h:1"),
        ("postgresql://u@h/db", {"user": "u", "host": "h", "dbname": "db"}, "db on h"),
        (
            "postgresql://u:p%40ss%2Fx@h/db",
            {"user": "u", "password": "p@ss/x", "host": "h", "dbname": "db"},
            "db on h",
        ),
        (
            "postgresql://h1:5432,h2:5433/db",
            {"host": "h1,h2", "port": "5432,5433", "dbname": "db"},
            "db on h1:5432,h2:5433",
        ),
        ("postgresql://h1,h2/db", {"host": "h1,h2", "port": ",", "dbname": "db"}, "db on h1,h2"),
        ("postgresql://h1,h2:2/db", {"host": "h1,h2", "port": ",2", "dbname": "db"}, "db on h1,h2:2"),
        (
            "postgresql://[::1]:1,[::2]:2/db",
            {"host": "::1,::2", "port": "1,2", "dbname": "db"},
            "db on ::1:1,::2:2",
        ),
        ("postgresql://[::1]:5432/db", {"host": "::1", "port": 5432, "dbname": "db"}, "db on ::1:5432"),
        (
            "postgresql:///db?host=h1:1&host=h2:2",
            {"host": "h1,h2", "port": "1,2", "dbname": "db"},
            "db on h1:1,h2:2",
        ),
        ("postgresql:///db?host=h1,h2&port=7", {"host": "h1,h2", "port": "7,7", "dbname": "db"}, "db on h1:7,h2:7"),
        ("postgresql:///db?host=/var/run", {"host": "/var/run", "dbname": "db"}, "db on /var/run"),
        ("postgresql://%2Fvar%2Frun/db", {"host": "/var/run", "dbname": "db"}, "db on /var/run"),
        (
            "postgresql://%2Fvar%2Frun:6432,h:1/db",
            {"host": "/var/run,h", "port": "6432,1", "dbname": "db"},
            "db on /var/run:6432,h:1",
        ),
        ("postgresql://h:1/db?host=other", {"host": "other", "port": 1, "dbname": "db"}, "db on other:1"),
        ("postgresql://h/?dbname=db", {"host": "h", "dbname": "db"}, "db on h"),
        (
            "postgresql://h1,h2/db?target_session_attrs=read-write&sslmode=verify-full&connect_timeout=3",
            {
                "host": "h1,h2",
                "port": ",",
                "dbname": "db",
                "target_session_attrs": "read-write",
                "sslmode": "verify-full",
                "connect_timeout": "3",
            },
            "db on h1,h2",
        ),
    ],
)
def test_what_libpq_is_handed(url: str, arguments: dict[str, Any], place: str) -> None:
    """D4: `postgres` is PostgreSQL, several hosts go to libpq as it names them, and so do the parameters it knows."""
    read = parsed(url)
    _, handed = create_engine(read).dialect.create_connect_args(read)
    assert {name: value for name, value in handed.items() if name != "context"} == arguments  # that one is psycopg's
    assert backend_of(read).place(read) == place


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://h/db?pgbouncer=true", "does not know: pgbouncer"),
        ("postgresql://h/db?sslmode=require&ssl=true", "does not know: ssl"),
        ("postgresql://h/db?prepare_threshold=0", "does not know: prepare_threshold"),
        ("postgresql://h/db?autocommit=true", "does not know: autocommit"),
        ("postgresql://h/db?plugin=x", "does not know: plugin"),
        ("postgresql://h/db?connection_limit=5", "does not know: connection_limit"),
        ("postgresql://h/db?schema", "without a name or a value"),
        ("postgresql://h/db?sslmode=require&sslmode=disable", "a parameter twice"),
        ("postgresql://h1,h2/db?port=1,2,3", "cannot be read"),
        ("postgresql://h:0/db", "cannot be read"),
        ("postgresql://h:65536/db", "cannot be read"),
        ("postgresql://[nonsense]/db", "cannot be read"),
        ("postgresql+psycopg2://h/db", "names another driver"),
        ("postgresql+asyncpg://h/db", "names another driver"),
        ("postgres+asyncpg://h/db", "names another driver"),
        ("postgresql://h", "names no database"),
        ("postgresql://h/db?replication=database", "has the parameter replication"),
        ("postgresql://h/db?target_session_attrs=prefer-standby", "has the parameter target_session_attrs"),
        ("postgresql://h/db%00x", "a NUL character"),
        ("postgresql://u:p%00x@h/db", "a NUL character"),
        ("postgresql://h/db?application_name=a%00b", "a NUL character"),
        ("postgresql://h/db%ff", "a %-escape that is no UTF-8"),
        ("postgresql://h/db\n", "begins or ends with a space, or has a newline"),
        (" postgresql://h/db", "begins or ends with a space"),
    ],
)
@ON_A_FILE
def test_what_libpq_would_not_take(shell: World, url: str, says: str) -> None:
    """D4: an unknown parameter is exit 2 with its name; so is what is no address; nothing is connected or sent."""
    for command in (("pending",), ("doctor",)):
        run = shell.paycli(*command, PAYCLI_DATABASE_URL=url)
        assert (run.code, says in run.out + run.err) == (2, True)
    assert shell.sandbox.charges == ()


@pytest.mark.parametrize(
    "given",
    [
        *("sslmode=canary", "sslrootcert=system&sslmode=prefer", "target_session_attrs=canary", "options=canary"),
        *("options=-c%20canary=1", "options=-c%20statement_timeout=canary", "keepalives=canary"),
        *("gssencmode=canary", "client_encoding=canary", "load_balance_hosts=canary", "connect_timeout=canary"),
        *("require_auth=canary", "hostaddr=canary", "service=canary", "ssl_min_protocol_version=canary"),
        *("client_encoding=latin1", "channel_binding=canary"),
    ],
)
@ON_A_FILE
def test_a_value_that_is_refused(shell: World, given: str) -> None:
    """D4: a value that libpq or the server refuses is exit 2 with its parameter's name, not "unreachable" for ever."""
    url = f"{shown(postgres.fresh_database())}?{given}"
    name = given.rpartition("&")[2].partition("=")[0]
    for command in (("pending",), ("doctor",)):
        run = shell.paycli(*command, PAYCLI_DATABASE_URL=url)
        assert (run.code, name in run.out + run.err, CANARY in run.out + run.err) == (2, True, False), run.err


@pytest.mark.skipif(postgres.given_url() is not None, reason="the server that was given may have TLS")
def test_a_server_without_tls(shell: World) -> None:
    """D4: where the URL asks for TLS and the server has none, that is said."""
    run = shell.paycli("pending", PAYCLI_DATABASE_URL=f"{shown(postgres.fresh_database())}?sslmode=require")
    assert (run.code, "it has no TLS, and sslmode asks for it" in run.err) == (3, True)


@pytest.mark.parametrize("kind", [Database, async_database, Reader])
def test_what_the_url_says_counts(kind: Any) -> None:
    """D4: a time to connect that the URL names is the one that the driver is given; else it is ours."""
    for query, expected in (("", 10), ("?connect_timeout=3", "3")):
        made = kind(f"postgresql://127.0.0.1:1/app{query}")
        engine = getattr(made, "_database", made)._engine
        handed: list[object] = []

        def refuse(dialect: object, record: object, arguments: object, options: dict[str, object]) -> None:
            handed.append(options["connect_timeout"])  # noqa: B023 - called before the next round
            raise ConnectionRefusedError

        sync = getattr(engine, "sync_engine", engine)
        event.listen(sync, "do_connect", refuse)
        with pytest.raises(ConnectionRefusedError):
            sync.raw_connection()
        assert handed == [expected]


@pytest.mark.skipif(postgres.why_not() is not None, reason=str(postgres.why_not()))
def test_the_second_host_is_tried(shell: World) -> None:
    """D4: with `postgres://` and two hosts, of which the first refuses, a charge is made on the second."""
    url = postgres.fresh_database()
    two = shown(url.set(drivername="postgres")).replace("@", f"@{url.host}:1,", 1)
    assert f"{url.host}:1,{url.host}:{url.port}" in two
    shell.env["PAYCLI_DATABASE_URL"] = two
    assert shell.paycli("init").code == 0
    assert shell.charge("order_1").code == 0

    async def charged() -> object:
        async with AsyncClient(Stripe(API_KEY), database=two) as client:
            return await client.find("order_1")

    assert asyncio.run(charged()) is not None
    assert shell.sandbox.succeeded() == {"order_1": 1}


# SQLite ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite:///x%00.db", "a NUL character"),
        ("sqlite+pysqlcipher:///x.db", "names another driver"),
        ("sqlite+pysqlite_numeric:///x.db", "names another driver"),
        ("sqlite:///x.db?mode=ro", "a parameter that a file cannot have: mode"),
        ("sqlite:///x.db?immutable=1", "a parameter that a file cannot have: immutable"),
        ("sqlite:///x.db?timeout=1", "a parameter that a file cannot have: timeout"),
        ("sqlite:///x.db?", "ends with a ? and no parameter"),
        ("sqlite:///x.db?mode", "ends with a ? and no parameter"),
        ("sqlite:///x.db\n", "begins or ends with a space, or has a newline"),
        ("sqlite:///{folder}/x%ff.db", "a %-escape that is no UTF-8"),
        ("sqlite:///{folder}/x\udcff.db", "another control character"),
        ("sqlite:///", "in memory"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:///file::memory:", "by its path"),
        ("sqlite:///{folder}", "is a folder or a device"),
        ("sqlite:///{folder}/none/", "names a folder"),
        ("sqlite:////dev/null", "is a folder or a device"),
        ("sqlite:///{folder}/" + "x" * 300, "cannot be looked at"),
        ("sqlite://host/x.db", "a file has not"),
        ("sqlite://x.db", "a file has not"),
    ],
)
def test_what_is_no_file(shell: World, url: str, says: str) -> None:
    """F13: a driver, a parameter, a path that cannot be a store is exit 2 in words; nothing is ignored or made."""
    wrong = url.replace("{folder}", str(shell.folder))
    for command in (("pending",), ("init",), ("doctor",), ("resume",)):
        run = shell.paycli(*command, PAYCLI_DATABASE_URL=wrong)
        assert (run.code, says in run.out + run.err, "internal error" in run.err) == (2, True, False)
    assert list(shell.folder.iterdir()) == []


@pytest.mark.parametrize("scheme", ["sqlite", "sqlite+pysqlite", "sqlite+aiosqlite", "SQLite"])
def test_drivers_of_a_file(tmp_path: Path, scheme: str) -> None:
    """F13: Python's own drivers are taken, and a path may have an @ and a colon in it."""
    file = tmp_path / "a@b:c.db"
    database = Database(f"{scheme}:///{file}")
    database.create()
    database.close()
    assert file.is_file()
