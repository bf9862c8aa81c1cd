"""`paycli reconcile` as a process: a full disk, Ctrl-C, a reader that left, a terminal."""

from __future__ import annotations

import os
import pty
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests.cli_world import World, world
from tests.sandbox_kit import create, in_process
from tests.test_hostile_cli import run_into


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        assert made.paycli("init").code == 0
        yield made


def test_no_room_for_the_copy_of_a_dry_run(machine: World) -> None:
    """A dry run that cannot copy the store says that the disk is full, exit 3: it is no bug of ours."""
    command, env = machine.command("reconcile", "--date", "today", "--dry-run")
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (40_000, 40_000))
    run = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False, preexec_fn=limit)
    assert (run.returncode, run.stdout, "internal error" in run.stderr) == (3, "", False)


def test_interrupted(machine: World) -> None:
    """Ctrl-C in the middle of paging is exit 3 in one line, and the next call goes on where it stopped (F14, F122)."""
    with in_process(machine.sandbox) as strangers:
        for number in range(101):
            assert create(strangers, without="metadata", key=f"key_{number}").status_code == 200
    machine.sandbox.slow_s = 20.0
    machine.sandbox.fault("slow", on="GET /v1/charges")
    command, env = machine.command("reconcile", "--date", "today")
    child = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with child:
        try:
            deadline = time.monotonic() + 20
            while machine.sandbox.requests[-1].path != "/v1/charges":
                assert time.monotonic() < deadline
                time.sleep(0.01)
            held = machine.paycli("reconcile", "--date", "today")
            child.send_signal(signal.SIGINT)
            out, err = child.communicate(timeout=20)
        finally:
            child.kill()
    assert (held.code, f":{child.pid}:" in held.err) == (3, True)
    assert (child.returncode, out, len(err.splitlines()), err[:13]) == (3, "", 1, "interrupted; ")
    asked = len(machine.sandbox.requests)
    run = machine.paycli("reconcile", "--date", "today", "--json")
    assert (run.code, run.err, run.objects[0]["foreign"]) == (0, "", 101)
    paths = ["/v1/account", "/v1/charges", "/v1/charges", "/v1/account"]  # the last: before anything is closed
    assert [one.path for one in machine.sandbox.requests[asked:]] == paths


def test_reader_that_left(machine: World) -> None:
    """When whoever reads its output has left, it is exit 3, quietly, and the run is on disk, complete."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        assert run_into(machine, writing, "reconcile", "--date", "today") == (3, "")
    finally:
        os.close(writing)
    assert machine.sql("SELECT complete FROM paycli_runs") == [(1,)]


def test_a_bar_on_a_terminal(machine: World) -> None:
    """On a terminal a bar says what is read and gives the cursor back; stdout has the data alone."""
    machine.sql("UPDATE paycli_store SET created_at = '2026-11-01 12:00:00.000000'")
    ours, theirs = pty.openpty()
    command, env = machine.command("reconcile", "--date", "2026-11-20", "--json")
    env |= {"TERM": "xterm"}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=theirs, text=True) as child:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # how Linux ends a terminal that nobody writes to any more
            while piece := os.read(ours, 4096):
                shown += piece
        out, _ = child.communicate(timeout=20)
    os.close(ours)
    machine.outputs += [out, shown.decode()]
    assert (child.returncode, out.count("\n"), b"objects of the provider's 2026-11-20" in shown) == (0, 1, True)
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l")
