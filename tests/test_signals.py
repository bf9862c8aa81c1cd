"""That a parent which ignores Ctrl-C changes nothing: not for what the tests start, nor for a command of `paycli`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli_world import CARD, ROOT, World, world

SECONDS_MAX = 120
ASK = "import signal; print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def ignoring(command: list[str], env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command as a job in the background of a shell that has no job control is run."""
    script = "trap '' INT; exec \"$@\""
    return subprocess.run(
        ["sh", "-c", script, "sh", *command], env=env, capture_output=True, text=True, timeout=SECONDS_MAX, check=False
    )


def test_children_of_tests_hear_ctrl_c() -> None:
    """D9: what a test starts has Ctrl-C at its default, also when pytest was started with it ignored."""
    assert ignoring([sys.executable, "-c", ASK]).stdout == "True\n"
    program = f"import tests.conftest, subprocess, sys; subprocess.run([sys.executable, '-c', {ASK!r}])"
    done = ignoring([sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {program}"])
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_commands_in_the_background(shell: World) -> None:
    """D9: with Ctrl-C ignored each command does what it does else, and says nothing of it."""
    for words in (
        ("init",),
        ("charge", "order_1", *CARD),
        ("resume",),
        ("worker", "--until-idle"),
        ("pending",),
        ("reconcile", "--date", "today"),
    ):
        command, env = shell.command(*words)
        done = ignoring(command, env)
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert shell.sandbox.succeeded() == {"order_1": 1}
