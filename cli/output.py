"""The one place that prints: data on stdout, talk and errors on stderr, nothing in either that steers a terminal.

No markup is interpreted: what is printed may have come from anywhere. Only words of ours are coloured, and only on a
terminal without NO_COLOR.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TextIO

# Control characters (escape codes begin with one), lone surrogates, and what reverses the direction of a line.
_HARMFUL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


RED, GREEN, YELLOW = "31", "32", "33"


def _colours(stream: TextIO) -> bool:
    """Whether who reads it is a person who has not asked for none (no-color.org)."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and stream.isatty()


def _painted(word: str, colour: str | None, stream: TextIO) -> str:
    return word if colour is None or not _colours(stream) else f"\x1b[{colour}m{word}\x1b[0m"


def harmless(text: str) -> str:
    """The text with every character that could act on a terminal written out, as \\x1b."""
    return _HARMFUL.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def data(text: str) -> None:
    """One line for stdout, at once: a process that is killed next has said what it did."""
    print(harmless(text), flush=True)  # noqa: T201 - here, and nowhere else


def judged(word: str, rest: str, colour: str | None) -> None:
    """One line for stdout that begins with a word of ours, in a colour where there are any."""
    print(_painted(word, colour, sys.stdout) + harmless(rest), flush=True)  # noqa: T201


def text_of(lines: str) -> None:
    """Several lines for stdout."""
    for line in lines.splitlines():
        data(line)


def json_line(fields: Mapping[str, Any]) -> None:
    """One object for programs, on one line of plain ASCII."""
    data(json.dumps(fields).replace("\x7f", "\\u007f"))


def say(text: str) -> None:
    """One line of talk, for stderr; where nobody can read it, the exit code still speaks."""
    with suppress(OSError):
        print(harmless(text), file=sys.stderr, flush=True)  # noqa: T201


def error(message: str) -> None:
    """Why a command could not do what was asked."""
    with suppress(OSError):
        print(_painted("error:", RED, sys.stderr), harmless(message), file=sys.stderr, flush=True)  # noqa: T201


def abandon() -> None:
    """Print no more data: whatever is still buffered goes nowhere, so that ending the program cannot fail on it."""
    with suppress(OSError):  # io.UnsupportedOperation is one: stdout may be no file at all
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def table(
    headers: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    right: Sequence[int] = (),
    write: Callable[[str], None] = data,
) -> None:
    """Aligned columns, never cut: a pipe has no width. `right` are the columns of numbers."""
    for line in aligned((headers, *rows), right=right):
        write(line)


def aligned(rows: Sequence[Sequence[object]], *, right: Sequence[int] = ()) -> Iterator[str]:
    """The lines of a table."""
    cells = [tuple(harmless(str(cell)) for cell in row) for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(rows[0]))]
    for row in cells:
        padded = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(padded).rstrip()


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on stderr while something is done, when a person is looking; `total` is None when nobody knows the end.

    What is yielded moves it.
    """
    if not sys.stderr.isatty():
        yield lambda steps: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("   {task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(harmless(what), total=total)
        yield lambda steps: bar.advance(task, steps)


class StatusLine:
    """One line on stderr that is written anew, when a person is looking; `clear` it before anything else is printed."""

    def __init__(self) -> None:
        self._wanted, self._shown = sys.stderr.isatty(), False

    def show(self, text: str) -> None:
        """Replace what is shown."""
        if self._wanted:
            self._write("\r\x1b[2K" + harmless(text))
            self._shown = True

    def clear(self) -> None:
        """Take it away."""
        if self._shown:
            self._write("\r\x1b[2K")
            self._shown = False

    def _write(self, text: str) -> None:
        with suppress(OSError):
            print(text, end="", file=sys.stderr, flush=True)  # noqa: T201


def never_fail_on_a_character(*streams: TextIO | Any) -> None:
    """Let a terminal that cannot show a character get its number: the charge is made by then, and must be reported."""
    for stream in streams:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
