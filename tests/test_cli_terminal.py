"""What a person at a terminal gets and a pipe does not: colour, completion; and the version."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import pytest

from cli import output
from tests.cli_world import World, world

SECONDS_MAX = 120
ESCAPE = b"\x1b["


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def at_a_terminal(shell: World, *words: str, **env: str) -> bytes:
    """What a command writes to a terminal, its errors, too."""
    command, given = shell.command(*words)
    plain = {name: value for name, value in given.items() if name not in ("NO_COLOR", "TERM")}
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command, env={**plain, "TERM": "xterm", **env}, stdin=theirs, stdout=theirs, stderr=theirs
    ) as child:
        os.close(theirs)
        said = b""
        with suppress(OSError):  # EIO: the other end is closed
            while chunk := os.read(ours, 65536):
                said += chunk
        child.wait(SECONDS_MAX)
    os.close(ours)
    return said


def test_colour_is_for_people(shell: World) -> None:
    """D10: words of ours are coloured at a terminal, and not with NO_COLOR or in a pipe; what others wrote never is."""
    assert shell.paycli("init").code == 0
    doctor = at_a_terminal(shell, "doctor")
    assert b"\x1b[32mok         \x1b[0m  settings" in doctor
    assert b"\x1b[33mwarning    \x1b[0m  reconciliation" in doctor
    said = at_a_terminal(shell, "show", "a\x1b[31mb")
    assert b"\x1b[31merror:\x1b[0m " in said
    assert b"a\x1b[31mb" not in said
    assert ESCAPE not in at_a_terminal(shell, "doctor", NO_COLOR="1")
    piped = shell.paycli("doctor")
    assert "\x1b" not in piped.out + piped.err


@pytest.mark.parametrize(
    ("terminal", "env", "coloured"),
    [
        (True, {"TERM": "xterm"}, True),
        (True, {"TERM": "xterm", "NO_COLOR": ""}, True),
        (True, {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (True, {"TERM": "dumb"}, False),
        (False, {"TERM": "xterm"}, False),
    ],
)
def test_when_there_is_colour(
    terminal: bool,
    env: dict[str, str],
    coloured: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """D10: an empty NO_COLOR counts as not set; a terminal that knows no colour gets none."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    output.error("no")
    assert capsys.readouterr().err == ("\x1b[31merror:\x1b[0m no\n" if coloured else "error: no\n")


def test_what_others_wrote_is_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    """D10: on each way to a person or a pipe, what could steer a terminal is written out."""
    for write in (output.data, output.say, output.error, lambda text: output.judged("ok", text, output.GREEN)):
        write("a\x1b[31mb")
    captured = capsys.readouterr()
    assert (captured.out + captured.err).count("a\\x1b[31mb") == 4
    assert ESCAPE.decode() not in captured.out + captured.err


def test_version(shell: World) -> None:
    """D10: `paycli --version` prints the version of what is installed, on one line, exit 0, and opens nothing."""
    run = shell.paycli("--version", PAYCLI_DATABASE_URL="nonsense")
    assert (run.code, run.out, run.err) == (0, f"paycli {version('charge-once')}\n", "")


def test_completion(shell: World) -> None:
    """D10: `--show-completion` prints a script for the shell."""
    command, env = shell.command("--show-completion", "bash")
    given = env | {
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"
    }  # the shell that runs the tests is not asked for
    shown = subprocess.run(command, env=given, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
    assert (shown.returncode, "complete -o default" in shown.stdout) == (0, True)
