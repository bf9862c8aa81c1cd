"""The app and its commands by name, and the one place where an exception becomes a sentence and an exit code.

What a command does is in the file of its group; nothing of `gateway_client` is imported here before a command runs.
"""

from __future__ import annotations

import errno
import gc
import logging
import sys
import traceback
from collections.abc import Callable
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, ParamSpec

import typer

from cli import alerting, charging, demo, doctor, looking, output, reconciling, setting_up, working

DONE, PERSON, WRONG, NOT_NOW = 0, 1, 2, 3
"""Done; done, something needs a person; wrong usage or settings, nothing was sent; safe to run again."""

GARBAGE_OBJECTS = 50_000  # made and not yet freed, before the collector looks at them

P = ParamSpec("P")

_HELP = "Charge exactly once through Stripe-like gateways. Every command is safe to run again."
app = typer.Typer(
    name="paycli",
    help=_HELP,
    epilog="Exit codes: 0 done; 1 done, something needs a person; 2 wrong usage or settings, nothing was sent; "
    "3 could not finish, safe to run again.",
    no_args_is_help=True,
    rich_markup_mode=None,  # no markup: what is shown may hold any text
    pretty_exceptions_enable=False,  # they show local variables, and one of them could be a key
)


def _settled(command: Callable[P, int | None]) -> Callable[P, None]:
    """The command, with its result or exception turned into an exit code."""

    @wraps(command)
    def settled(*arguments: P.args, **options: P.kwargs) -> None:
        try:
            code = command(*arguments, **options)
        except KeyboardInterrupt:
            output.say(
                "interrupted; what was begun is on disk: run this command again, or (of a charge) `paycli resume`"
            )
            code = NOT_NOW
        except Exception as error:
            code = _told(error)
        raise typer.Exit(code or DONE)

    return settled


def _told(error: Exception) -> int:
    """Say what went wrong in a sentence; the exit code that it stands for."""
    from gateway_client import errors  # loaded already when one of its exceptions is here

    match error:
        case errors.UsageError() | errors.ConfigurationError():
            code = WRONG
        case errors.NotNow():
            code = NOT_NOW
        case errors.ChargeOnceError():
            code = PERSON
        case OSError():
            output.abandon()  # whoever read our output has left, or its disk is full
            if error.errno != errno.EPIPE:
                output.error(
                    f"the output could not be written ({error.strerror}); what was done is on disk: see `paycli show`, "
                    "`paycli pending` and `paycli findings`"
                )
            return NOT_NOW
        case _:
            return _internal(error)
    output.error(str(error))
    return code


def _internal(error: Exception) -> int:
    """A bug: where it happened, and no message or variable, because either could hold a key or a customer's data."""
    output.error(f"internal error, {type(error).__name__}; this is a bug. What was begun is on disk. Where:")
    for frame in traceback.extract_tb(error.__traceback__):
        output.say(f"  {'/'.join(Path(frame.filename).parts[-2:])}, line {frame.lineno}, in {frame.name}")
    return PERSON


def _version(wanted: bool) -> None:
    if wanted:
        output.data(f"paycli {version('charge-once')}")
        raise typer.Exit


@app.callback(help=_HELP)
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version, and nothing else.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Take the options that are of no command."""


app.command()(_settled(setting_up.init))
app.command()(_settled(charging.charge))
app.command()(_settled(charging.resume))
app.command()(_settled(working.worker))
app.command()(_settled(charging.cancel))
app.command()(_settled(looking.show))
app.command()(_settled(looking.pending))
app.command()(_settled(reconciling.reconcile))
app.command()(_settled(reconciling.findings))
app.command()(_settled(reconciling.resolve))
app.command()(_settled(alerting.alerts))
app.command(cls=setting_up.SandboxCommand)(_settled(setting_up.sandbox))
app.command()(_settled(doctor.doctor))
app.command()(_settled(looking.states))
app.command()(_settled(demo.demo))


def run() -> None:
    """Run the console script `paycli`."""
    # What is imported stays: searching it for garbage, again and again, would be a tenth of a command's processor time.
    gc.set_threshold(GARBAGE_OBJECTS)
    for driver in ("psycopg", "sqlalchemy"):  # what they log of a lost connection is said in words of ours
        logging.getLogger(driver).addHandler(logging.NullHandler())
    output.never_fail_on_a_character(sys.stdout, sys.stderr)
    app()


if __name__ == "__main__":
    run()
