"""A run that is given a server by `PAYCLI_TEST_POSTGRES` uses it, leaves it as it was, and fails when it cannot."""

import os
import subprocess
import sys
import time

import pytest
from sqlalchemy import NullPool, create_engine

from tests import postgres
from tests.readme import ROOT

SECONDS_MAX = 120
SECRET = "CanaryInTheURL42"
A_TEST_ON_A_SERVER = "tests/test_postgres_clocks.py::test_a_key_is_sent_while_both_say_that_it_lives[sync]"


def run(given: str) -> tuple[int, str, set[str]]:
    """Another run, of one test that needs a server: its exit status, what it said, and databases that it made here."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", A_TEST_ON_A_SERVER]
    environment = {**os.environ, postgres.GIVEN: given}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        made, last = set[str](), time.monotonic() + SECONDS_MAX
        try:
            while process.poll() is None and time.monotonic() < last:
                made |= {name for name in databases() if str(process.pid) in name}
                time.sleep(0.02)
        finally:
            process.kill()
        said = process.stdout.read() if process.stdout else ""
    return process.returncode, said, made


def test_it_is_used_and_left_as_it_was() -> None:
    """The databases of the run are made on the server that was given, and are gone when the run is over."""
    code, said, made = run(postgres.shown(postgres.server_url()))
    assert (code, "1 passed" in said, len(made)) == (0, True, 2)  # a template and a copy of it
    assert made & databases() == set()


def databases() -> set[str]:
    engine = create_engine(postgres.server_url(), poolclass=NullPool)
    with engine.connect() as connection:
        return {str(name) for (name,) in connection.exec_driver_sql("SELECT datname FROM pg_database")}


def test_one_that_cannot_be_reached_ends_the_run() -> None:
    """Where nobody listens the run fails at once, says why without a password, and skips nothing."""
    code, said, _ = run(f"postgresql://somebody:{SECRET}@127.0.0.1:1/postgres")
    assert (code, "passed" in said, "skipped" in said) == (1, False, False)
    assert "the server of PAYCLI_TEST_POSTGRES cannot be used: connection failed" in said
    assert SECRET not in said


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("", None),
        ("nonsense", "it is no database URL"),
        ("mysql://here/there", "it is no database URL"),
        ("sqlite:///store.db", "it is no PostgreSQL"),
    ],
)
def test_what_is_no_server(given: str, why: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What names no PostgreSQL is refused in words."""
    monkeypatch.setenv(postgres.GIVEN, given)
    assert postgres.why_not() == why


def test_a_server_that_is_not_ours_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is too old, or on which we may not make databases, is refused in words."""
    url = postgres.server_url()
    monkeypatch.setenv(postgres.GIVEN, postgres.shown(url))
    assert postgres.why_not() is None
    monkeypatch.setattr(postgres, "VERSION_MIN", 990_000)
    assert "needed is 99 or newer" in str(postgres.why_not())
