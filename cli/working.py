"""The command that works on pending charges until it is told to end: `paycli worker`."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import output, words
from cli.charging import Json, pending_left
from cli.settings import open_client, read_settings

if TYPE_CHECKING:
    from gateway_client import Charge

SENDS_PER_S = 25.0


def worker(
    rate: Annotated[float, typer.Option(metavar="N", help="Sends a second at most, of this worker.")] = SENDS_PER_S,
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="End once no charge is due: for cron, beside others or alone.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Finish pending charges, beside any number of other workers, until SIGTERM or Ctrl-C.

    What it has begun then is finished or left resumable, within PAYCLI_TIMEOUT_S and a moment.

    Exit code: 0 when it was told to end; 3 when the provider refuses the account, which ends it. With --until-idle, as
    `resume`: 0 nothing pending is left, 1 something is, 3 also when the provider or the database could not be asked.
    """
    from gateway_client import Worker

    settings = read_settings()
    told = _Told(as_json)
    with open_client(settings) as client:
        working = Worker(client, rate=rate, news=told)
        told.note(f"working, at most {rate:g} sends a second")
        with _ends(working.stop) as asked:
            try:
                working.run(until_idle=until_idle)
            finally:
                told.status.clear()
    left = until_idle and not asked and pending_left(settings)
    told.note(f"ended: worked on {told.worked_on}, finished {told.finished}")
    return 1 if left else 0


class _Told:
    """What the worker tells, to people or to programs."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self.status = output.StatusLine()
        self.worked_on = self.finished = 0

    def __call__(self, news: Charge | str) -> None:
        if isinstance(news, str):
            self.note(news)
            return
        self.worked_on += 1
        self.finished += not news.pending
        self.status.clear()
        if self._as_json:
            _log("charge", news.as_json())
        else:
            output.data(words.line(news))
        self.status.show(f"worked on {self.worked_on}, finished {self.finished}")

    def note(self, text: str) -> None:
        """What it waits for, when it begins and when it ends."""
        self.status.clear()
        if self._as_json:
            _log("note", {"text": text})
        else:
            output.say(text)


def _log(event: str, fields: dict[str, Any]) -> None:
    from gateway_client.charge import iso

    output.json_line({"at": iso(datetime.now(UTC)), "event": event, **fields})


@contextmanager
def _ends(stop: Callable[[], None]) -> Iterator[list[int]]:
    """SIGTERM and the first Ctrl-C ask the worker to end; the second Ctrl-C interrupts it. Yields those that came.

    A Ctrl-C that our parent ignores (a job in the background) stays ignored: it is meant for somebody else.
    """
    came: list[int] = []

    def handle(number: int, frame: object) -> None:
        if number == signal.SIGINT and came:
            raise KeyboardInterrupt
        came.append(number)
        stop()

    heard = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        heard.append(signal.SIGINT)
    earlier = {number: signal.signal(number, handle) for number in heard}
    try:
        yield came
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
