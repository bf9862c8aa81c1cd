"""Nightly runs in real processes, on a real database and a real port: ended by SIGKILL, held off, stopped, forked.

Who is forked, and how, is in `reconcile_child.py`; in one process: `test_reconcile_kills.py` and `_leases.py`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import chain, count, repeat

import pytest

from gateway_client.sandbox.wire import Request
from tests.kill_yard import DATABASES
from tests.reconcile_child import Report
from tests.reconcile_yard import PAGES, Yard, who_works, yard

PROCESSES_MAX = 40
SECONDS_MAX = 20.0
HOST = socket.gethostname()


ON_A_FILE = pytest.mark.parametrize("busy", ["sqlite"], indirect=True)  # a dozen processes each; commits are on both


def _apart() -> tuple[str, ...] | None:
    """What runs a command with process numbers of its own, as a container has; None where that is not allowed."""
    for command in (("unshare", "--pid", "--fork"), ("unshare", "--user", "--map-root-user", "--pid", "--fork")):
        with suppress(OSError):
            if subprocess.run([*command, "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0:
                return (*command, "--kill-child")
    return None


APART = _apart()


@pytest.fixture(scope="module", params=DATABASES)
def busy(request: pytest.FixtureRequest) -> Iterator[Yard]:
    with yard(request.param) as made:
        yield made


# Ended --------------------------------------------------------------------------------------------------------------


def ended(busy: Yard, points: Iterator[dict[str, int]]) -> list[Report]:
    """One process after the other goes on, each ended at its own point, until the run has come to its end."""
    busy.put_up()
    reports: list[Report] = []
    while not reports or busy.sql("SELECT ended_at FROM paycli_runs") in ([], [(None,)]):
        assert len(reports) < PROCESSES_MAX, "no process comes to its end"
        busy.outlive_the_lease()
        reports.append(busy.process(**next(points)))
    assert {report["signal"] for report in reports[:-1]} == {signal.SIGKILL}
    return reports


@ON_A_FILE
def test_ended_by_the_provider(busy: Yard) -> None:
    """Each process is ended when it has kept one page, later ones amid the repairs; the end is the same (F08)."""
    reports = ended(busy, ({"request": number} for number in chain(repeat(2, PAGES), count(2))))
    assert len(reports) > PAGES + 4  # some were amid the repairs
    assert reports[-1]["said"] is not None
    assert busy.told(reports[-1]["said"]) == busy.undisturbed
    assert busy.left() == busy.expected


def test_ended_in_commits(busy: Yard) -> None:
    """Processes end themselves in a commit, each in a later one, pages and repairs alike; the end is the same (F08)."""
    assert len(ended(busy, ({"commit": number} for number in count(2)))) > 12
    assert busy.left() == busy.expected


@ON_A_FILE
def test_paycli_is_ended(busy: Yard) -> None:
    """A `paycli reconcile` that is killed after a page is finished by the next one, which says all of it (F08)."""
    busy.put_up()
    assert busy.paycli(request=2)[0] == -signal.SIGKILL
    busy.outlive_the_lease()
    code, out, err = busy.paycli()
    assert (code, err) == (1, "")
    assert busy.told(json.loads(out)) == busy.undisturbed
    assert busy.left() == busy.expected


# Held off, stopped, forked ------------------------------------------------------------------------------------------


@contextmanager
def process_inside_a_page(busy: Yard) -> Iterator[tuple[int, Callable[[], Report]]]:
    """A process stands in the midst of a page: its number, and what lets it go on, to its end."""
    busy.put_up()
    inside, go_on = threading.Event(), threading.Event()

    def asked(request: Request) -> None:
        if not inside.is_set():
            inside.set()
            go_on.wait(SECONDS_MAX)

    busy.door.asked = asked
    pid = busy.forks.start({"day": str(busy.day)})
    assert inside.wait(SECONDS_MAX)
    reports: list[Report] = []

    def rest() -> Report:
        go_on.set()
        reports.append(busy.forks.end())
        return reports[-1]

    try:
        yield pid, rest
    finally:
        if not reports:
            rest()


def test_second_process(busy: Yard) -> None:
    """`paycli reconcile` beside another process that is at it: exit 3, who it is, and nothing changed (F114)."""
    with process_inside_a_page(busy) as (pid, rest):
        before = busy.rows()
        code, out, err = busy.paycli()
        assert (code, out, busy.rows()) == (3, "", before)
        assert who_works(err.removeprefix("error: ").strip())[:4] == (str(busy.day), "UTC", HOST, pid)
        report = rest()
    assert report["said"] is not None
    assert busy.told(report["said"]) == busy.undisturbed
    assert busy.left() == busy.expected


def test_stopped_process(busy: Yard) -> None:
    """A process that is stopped, taken over and continued says so, and has changed nothing since (F11, F114)."""
    with process_inside_a_page(busy) as (pid, rest):
        os.kill(pid, signal.SIGSTOP)  # it waits for us, so it lives
        try:
            busy.outlive_the_lease()
            code, out, _ = busy.paycli()
            assert (code, busy.told(json.loads(out))) == (1, busy.undisturbed)
            after = busy.rows()
        finally:
            os.kill(pid, signal.SIGCONT)
        report = rest()
    assert report["said"] is not None
    assert (report["said"]["error"], busy.rows()) == ("RunHeld", after)
    assert busy.left() == busy.expected


@pytest.mark.skipif(APART is None, reason="this kernel lets nobody make a namespace")
def test_two_containers_of_one_host_name(busy: Yard) -> None:
    """D5: two containers with the same host name, each with process numbers of its own: the live run is kept."""
    assert APART is not None
    busy.put_up()
    inside, go_on = threading.Event(), threading.Event()

    def asked(request: Request) -> None:
        if not inside.is_set():
            inside.set()
            go_on.wait(SECONDS_MAX)

    busy.door.asked = asked
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(busy.paycli, *APART)
        try:
            assert inside.wait(SECONDS_MAX)
            before = busy.rows()
            code, out, err = busy.paycli(*APART)
            assert (code, out, busy.rows()) == (3, "", before)
            assert who_works(err.removeprefix("error: ").strip())[:3] == (str(busy.day), "UTC", HOST)
        finally:
            go_on.set()
        code, out, err = first.result(2 * SECONDS_MAX)
    assert (code, err) == (1, "")
    assert busy.told(json.loads(out)) == busy.undisturbed
    assert busy.left() == busy.expected


@ON_A_FILE
def test_run_in_a_forked_child(busy: Yard) -> None:
    """A child forked in the midst of a run is another process: held off from that day, free for others (F15, F114)."""
    day_before = str(busy.day - timedelta(days=1))
    for child_day in (str(busy.day), day_before):
        busy.put_up()
        pid = busy.forks.start({"day": str(busy.day), "child_day": child_day})
        report = busy.forks.end()
        assert report["child"] is not None
        assert report["said"] is not None
        if child_day == day_before:
            assert report["child"]["complete"]
        else:
            assert report["child"]["error"] == "RunHeld"
            assert who_works(report["child"]["message"])[:4] == (str(busy.day), "UTC", HOST, pid)
            assert busy.left() == busy.expected
            assert busy.told(report["said"]) == busy.undisturbed
        assert report["said"]["complete"]
