"""The warm parent of a campaign's processes: callers, and `paycli` where a fresh one would only cost time.

Run as `python -m tests.chaos.parent`; it reads one JSON object a line and answers each. It has no threads and no open
connections, so that its children may do as they like. What callers say comes out of it as well, a line each.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import reconcile  # noqa: F401 - loaded once for all
from cli.main import run
from gateway_client import worker  # noqa: F401 - likewise
from gateway_client.clock import SystemClock
from tests.chaos.caller import call, say


def fork(child: Callable[[], object]) -> int:
    """Let a child do that; its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 70  # of a bug here
    try:
        child()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def paycli(out: str, err: str, words: list[str], given: Mapping[str, str], ahead_s: float) -> None:
    """As the installed command, on a clock that is so far ahead."""
    for number, path in enumerate((os.devnull, out, err)):
        opened = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        os.dup2(opened, number)
    time = SystemClock.time
    SystemClock.time = lambda clock: time(clock) + ahead_s  # type: ignore[method-assign,assignment]
    os.environ.update(given)
    sys.argv = ["paycli", *words]
    run()


def ended(pid: int) -> int | None:
    """How it ended, as `subprocess` has it; None while it lives."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def main() -> None:
    for line in sys.stdin:
        what, *words = json.loads(line)
        answer: Any = None
        match what:
            case "caller":
                answer = fork(lambda of=words: call(*of))  # type: ignore[misc]
            case "paycli":
                answer = fork(lambda of=words: paycli(*of))  # type: ignore[misc]
            case "ended":
                answer = ended(words[0])
        say("answer", answer)


if __name__ == "__main__":
    with suppress(BrokenPipeError, KeyboardInterrupt):  # Ctrl-C is the campaign's, which ends us
        main()
