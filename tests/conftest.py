"""The suite never leaves this machine: a connection to anything but loopback fails the test that tries it.

And what costs time and shows nothing is done once: its files are in memory, certificates are loaded once a file.
"""

import ipaddress
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import postgres

SHARED_MEMORY = Path("/dev/shm")  # no power is cut here, so commits need no disk
ROOM = 1 << 30
TABLES_OF_NIGHTS = (
    *("test_reconcile_", "test_alerts", "test_cli_alerts", "test_cli_findings", "test_hostile_lists"),
    "test_promise",
)
SHORT = 3  # cases of a table that are all run

if "TMPDIR" not in os.environ and SHARED_MEMORY.is_dir() and os.access(SHARED_MEMORY, os.W_OK):  # noqa: SIM102
    if shutil.disk_usage(SHARED_MEMORY).free > ROOM:
        os.environ["TMPDIR"] = tempfile.tempdir = str(SHARED_MEMORY)  # for us, and for the processes that we start

# Of a parent that ignores Ctrl-C (`make test &`, some CI) every child of ours would ignore it, too, but for this: a
# signal that is handled here is at its default in whatever is executed.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest.register_assert_rewrite("tests.nightly_cases")  # its asserts tell what differs, as those of the tests do


@pytest.hookimpl(optionalhook=True)  # of a plugin, which may be switched off
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Of `-n auto`: two for each core, because many tests wait for processes, servers and timeouts of their own."""
    return 2 * (os.cpu_count() or 1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of a long table of nights or answers every case runs on a file, every fifth on PostgreSQL: what the provider says
    differs, not what a database does. `PAYCLI_TEST_WHOLE=1` runs them all."""
    if os.environ.get("PAYCLI_TEST_WHOLE"):
        return
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.path.name.startswith(TABLES_OF_NIGHTS) and "postgresql" in item.name:
            cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    tables = [table for table in cases.values() if len(table) > SHORT]
    left_out = {id(item) for table in tables for number, item in enumerate(table) if number % 5}
    config.hook.pytest_deselected(items=[item for item in items if id(item) in left_out])
    items[:] = [item for item in items if id(item) not in left_out]


def pytest_sessionstart(session: pytest.Session) -> None:
    """A server that the run was given and that cannot serve ends it at once: nothing is skipped, nor run elsewhere."""
    why = None if hasattr(session.config, "workerinput") else postgres.why_not()
    if why is not None:
        pytest.exit(f"the server of {postgres.GIVEN} cannot be used: {why}", returncode=1)


def _is_local(address: object) -> bool:
    """A Unix socket's path, or a host that is loopback."""
    if not isinstance(address, tuple):
        return True
    try:
        return address[0] == "localhost" or ipaddress.ip_address(address[0]).is_loopback
    except ValueError:
        return False  # a name: it would have to be looked up


@pytest.fixture(autouse=True, scope="session")
def no_internet() -> Iterator[None]:
    """Refuse every connection that is not loopback."""
    real = {name: getattr(socket.socket, name) for name in ("connect", "connect_ex")}

    def guarded(name: str) -> Any:
        def connect(self: socket.socket, address: Any) -> Any:
            if not _is_local(address):
                pytest.fail(f"a test tried to connect to {address}")
            return real[name](self, address)

        return connect

    with pytest.MonkeyPatch.context() as patch:
        for name in real:
            patch.setattr(socket.socket, name, guarded(name))
        yield
