"""How old things may be before a person looks, as variables and options say."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from reconcile.ages import Ages
    from reconcile.alerts import Limits

_DURATION = re.compile(r"([0-9]{1,9})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

OPTIONS = ("--older-than", "--findings-older-than", "--reconcile-older-than")
VARIABLES = ("PAYCLI_OLDER_THAN", "PAYCLI_FINDINGS_OLDER_THAN", "PAYCLI_RECONCILE_OLDER_THAN")

OlderThan = Annotated[
    list[str] | None,
    typer.Option(metavar="TIME", help="How long a charge may be pending: 24h; in one state only: processing=10d."),
]


def read_limits(
    older_than: Sequence[str] | None = None,
    findings: str | None = None,
    reconciled: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Limits:
    """The limits: an option counts before its variable, and that before the default. An empty variable is not set."""
    from gateway_client import ConfigurationError, InvalidInput
    from reconcile.alerts import Limits

    env = os.environ if environ is None else environ
    of_pending, of_findings, of_runs = (env.get(name) or None for name in VARIABLES)
    try:
        limits = _changed(
            Limits(), VARIABLES, (of_pending or "").split(",") if of_pending else (), of_findings, of_runs
        )
    except InvalidInput as error:
        raise ConfigurationError(f"{error.field} {error.problem}. Nothing was sent.") from None
    return _changed(limits, OPTIONS, older_than or (), findings, reconciled)


def _changed(
    limits: Limits, names: Sequence[str], older_than: Sequence[str], findings: str | None, reconciled: str | None
) -> Limits:
    of_pending, of_findings, of_runs = names
    return replace(
        limits,
        pending=_ages(of_pending, older_than, limits.pending),
        findings=duration(of_findings, findings) if findings is not None else limits.findings,
        reconciled=duration(of_runs, reconciled) if reconciled is not None else limits.reconciled,
    )


def _ages(name: str, texts: Sequence[str], ages: Ages) -> Ages:
    """Each text in its turn: a time for every state, or for one."""
    from gateway_client import InvalidInput
    from gateway_client.state import PENDING, State
    from reconcile.ages import every

    for text in texts:
        state, of_one_state, time = text.rpartition("=")
        if not of_one_state:
            ages = every(duration(name, time))
        elif state in PENDING:
            ages = {**ages, State(state): duration(name, time)}
        else:
            raise InvalidInput(name, f"must name a pending state, such as processing=10d: one of {', '.join(PENDING)}")
    return ages


def duration(name: str, text: str) -> timedelta:
    """A time span that somebody gave to an option or a variable, such as 24h."""
    from gateway_client import InvalidInput

    match = _DURATION.fullmatch(text)
    if match is None:
        raise InvalidInput(name, "must be a number with s, m, h or d, such as 90s, 15m, 24h or 7d")
    return timedelta(seconds=int(match[1]) * _SECONDS[match[2]])
