"""The command line on a terminal that breaks: arguments that are no text, pipes that close, disks that are full."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli_world import CARD, World, world


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        made.paycli("init")
        yield made


def run_into(shell: World, stdout: int, *arguments: str | bytes) -> tuple[int, str]:
    """The exit code and the talk of a process that writes its data to this file descriptor."""
    _, env = shell.command()
    command = [sys.executable, "-m", "cli.main", *arguments]
    run = subprocess.run(command, env=env, stdout=stdout, stderr=subprocess.PIPE, timeout=60, check=False)
    err = run.stderr.decode()
    shell.outputs.append(err)
    return run.returncode, err


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_argument_that_is_no_text(shell: World, options: tuple[str, ...]) -> None:
    """An intent id that is not UTF-8 is wrong usage in one line, exit 2, not a bug of ours."""
    code, err = run_into(shell, subprocess.DEVNULL, "show", b"\xff\xfe", *options)
    assert (code, len(err.splitlines())) == (2, 1)
    assert err.startswith("error: ")
    assert "internal error" not in err


def test_cancel_and_charge_of_what_is_no_text(shell: World) -> None:
    """The other commands refuse such an id just so, and ask nobody."""
    for arguments in (("charge", b"\xff\xfe", *CARD), ("cancel", b"\xff\xfe", "--because", "x")):
        code, err = run_into(shell, subprocess.DEVNULL, *arguments)
        assert (code, len(err.splitlines()), "internal error" in err) == (2, 1, False)
    assert not any(sent.method == "POST" for sent in shell.sandbox.requests)


def test_reader_that_left(shell: World) -> None:
    """When the reader of `resume --json` has left, it is exit 3, quietly, and what was done is on disk."""
    shell.sandbox.fault("lost_request")
    assert shell.charge("order_42").code == 1
    reading, writing = os.pipe()
    os.close(reading)
    try:
        code, err = run_into(shell, writing, "resume", "--json")
    finally:
        os.close(writing)
    assert code == 3
    assert "Traceback" not in err
    assert "Exception ignored" not in err
    assert [one["state"] for one in shell.paycli("show", "order_42", "--json").objects] == ["succeeded"]
    assert shell.sandbox.succeeded() == {"order_42": 1}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_full_disk(shell: World, options: tuple[str, ...]) -> None:
    """A charge whose result cannot be printed says that the result is on disk and how to see it, exit 3."""
    with Path("/dev/full").open("wb") as full:
        code, err = run_into(shell, full.fileno(), "charge", "order_42", *CARD, *options)
    assert code == 3
    assert "on disk" in err
    assert "paycli show" in err
    assert "Exception ignored" not in err
    assert shell.sandbox.succeeded() == {"order_42": 1}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_full_disk_for_both(shell: World) -> None:
    """Data and talk on the same full disk: nothing can be read, and the exit code is still 3."""
    _, env = shell.command()
    command = [sys.executable, "-m", "cli.main", "charge", "order_42", *CARD]
    with Path("/dev/full").open("wb") as full:
        run = subprocess.run(command, env=env, stdout=full, stderr=full, timeout=60, check=False)
    assert run.returncode == 3
    assert shell.sandbox.succeeded() == {"order_42": 1}
