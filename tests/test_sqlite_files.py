"""A store's file or log that is another one than a process has open stops it before the next send."""

from __future__ import annotations

import os
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import event

from gateway_client import Client, Money, PaymentIntent, Sandbox, StoreUnavailable, Stripe
from tests.reconcile_child import ROOT

SECONDS_MAX = 60.0
ENV = {**os.environ, "PYTHONPATH": str(ROOT)}
SERVICE = """
import shutil, sys
from gateway_client import Client, Money, PaymentIntent, Stripe
from gateway_client.errors import ChargeOnceError
with Client(Stripe(sys.argv[2], api_base=sys.argv[3]), database=f"sqlite:///{sys.argv[1]}") as client:
    for line in sys.stdin:
        what, name = line.split()
        try:
            if what == "copy":
                shutil.copyfile(sys.argv[1], name)
                print("copied", flush=True)
            else:
                print(client.charge(PaymentIntent(name, Money(2000, "usd"), "pm_card_visa")).state, flush=True)
        except ChargeOnceError as error:
            print(type(error).__name__, str(error), flush=True)
"""


class Service:
    """A process that charges what it is told, on a store of its own."""

    def __init__(self, path: Path, url: str) -> None:
        self.path = path
        command = [sys.executable, "-c", SERVICE, str(path), Sandbox.api_key, url]
        self._process = subprocess.Popen(
            command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENV
        )

    def asked(self, what: str, name: object) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{what} {name}\n")
        self._process.stdin.flush()
        assert select.select([self._process.stdout], [], [], SECONDS_MAX)[0], "the service hangs"
        return self._process.stdout.readline().strip()

    def another_command(self) -> None:
        """`paycli pending`, which is the last to leave the file, as far as locks tell."""
        env = {**ENV, "PAYCLI_DATABASE_URL": f"sqlite:///{self.path}"}
        command = [sys.executable, "-m", "cli.main", "pending"]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, timeout=SECONDS_MAX, check=False)
        assert done.returncode == 0

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(SECONDS_MAX)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


def copied_by_itself(service: Service) -> None:
    """POSIX locks of a process are dropped when it closes the file; then somebody else deletes the log."""
    assert service.asked("copy", service.path.with_name("copy.db")) == "copied"
    service.another_command()


def log_deleted(service: Service) -> None:
    service.path.with_name(service.path.name + "-wal").unlink()


def log_made_anew(service: Service) -> None:
    copied_by_itself(service)
    with closing(sqlite3.connect(service.path)) as other:
        other.execute("CREATE TABLE theirs (name TEXT)")
        other.commit()
        shutil.copyfile(f"{service.path}-wal", f"{service.path}-kept")
    shutil.move(f"{service.path}-kept", f"{service.path}-wal")


def backup_put_back(service: Service) -> None:
    backup = service.path.with_name("backup.db")
    with closing(sqlite3.connect(service.path)) as ours, closing(sqlite3.connect(backup)) as made:
        ours.backup(made)
    backup.replace(service.path)


@pytest.mark.parametrize("disturb", [copied_by_itself, log_deleted, log_made_anew, backup_put_back])
def test_another_file_or_log_stops_before_a_send(tmp_path: Path, disturb: Callable[[Service], None]) -> None:
    """D8: a process whose file or log was replaced or removed sends nothing more and says what to do; then kill -9."""
    path = tmp_path / "store.db"
    provider = Sandbox()
    with provider.serve(port=0) as server:
        service = Service(path, server.url)
        try:
            assert service.asked("charge", "first") == "succeeded"
            disturb(service)
            said = service.asked("charge", "second")
            again = service.asked("charge", "third")
        finally:
            service.kill()
        for each in (said, again):
            assert each.split()[0] in ("StoreUnavailable", "ConfigurationError"), each
            assert "reconcile" in each, each
            assert "restart what uses it" in each, each
        assert [charge["metadata"]["paycli_intent"] for charge in provider.charges] == ["first"]
        after = Service(path, server.url)
        try:
            assert after.asked("charge", "second") == "succeeded"
        finally:
            after.kill()


@pytest.mark.parametrize("gone", ["log", "file"])
def test_another_log_before_the_commit_is_told(tmp_path: Path, gone: str) -> None:
    """D8: a commit that went to a file or log that nobody will open is told, before anything is sent for it."""
    path, provider = tmp_path / "store.db", Sandbox()
    url = f"sqlite:///{path}"
    with Client(Stripe(Sandbox.api_key), database=url, transport=provider.transport()) as client:
        client.charge(PaymentIntent("first", Money(2000, "usd"), "pm_card_visa"))
        engine = client._database._engine

        def remove(connection: object) -> None:
            Path(f"{path}-wal" if gone == "log" else path).unlink()

        event.listen(engine, "commit", remove, once=True)
        with pytest.raises(StoreUnavailable, match="The commit is perhaps in none of them, and nothing more was sent"):
            client.charge(PaymentIntent("second", Money(2000, "usd"), "pm_card_visa"))
    assert [charge["metadata"]["paycli_intent"] for charge in provider.charges] == ["first"]


def test_a_copy_by_sqlite_disturbs_nobody(tmp_path: Path) -> None:
    """D8: the documented way to copy a store, `VACUUM INTO` by another process, stops no charge."""
    path, copy = tmp_path / "store.db", tmp_path / "copy.db"
    with Sandbox().serve(port=0) as server:
        service = Service(path, server.url)
        try:
            assert service.asked("charge", "first") == "succeeded"
            command = [sys.executable, "-m", "sqlite3", str(path), f"VACUUM INTO '{copy}'"]
            script = f"import sqlite3; sqlite3.connect({str(path)!r}).execute({command[-1]!r})"
            subprocess.run([sys.executable, "-c", script], check=True, timeout=SECONDS_MAX)
            assert service.asked("charge", "second") == "succeeded"
        finally:
            service.kill()
    with closing(sqlite3.connect(copy)) as made:
        assert made.execute("SELECT intent_id, state FROM pending_charges").fetchall() == [("first", "succeeded")]
