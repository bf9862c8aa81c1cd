"""The catalogue of what is told while charging: one record for a send, one for a change of state. Nothing else.

Records go to the logger `gateway_client` (a NullHandler is all that importing sets up) and to an optional hook, for
metrics and traces. They never hold a body, a key or metadata. A logger or hook that fails never fails a charge.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, fields

from gateway_client.state import State

logger = logging.getLogger("gateway_client")
logger.addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True)
class SendEnded:
    """A send came back, or did not."""

    intent_id: str
    attempt: int
    send_no: int
    state: State  # of the charge, afterwards
    outcome: str
    status: int | None
    request_id: str | None
    elapsed_ms: int


@dataclass(frozen=True, slots=True)
class StateChanged:
    """A charge changed its state, and the change is on disk."""

    intent_id: str
    attempt: int
    before: State | None  # None: the row is new
    state: State
    event: str
    request_id: str | None
    elapsed_ms: int | None


Record = SendEnded | StateChanged
Hook = Callable[[Record], None]


def emit(records: Iterable[Record], hook: Hook | None) -> None:
    """Log each record and hand it to the hook."""
    logged = logger.isEnabledFor(logging.INFO)
    for record in records:
        # The charge is already on disk: a full log disk or a bug in a hook must not turn it into an error.
        if logged:
            with suppress(Exception):
                _log(record)
        if hook is not None:
            with suppress(Exception):
                hook(record)


def _log(record: Record) -> None:
    name = "send ended" if isinstance(record, SendEnded) else "state changed"
    given = ((field.name, getattr(record, field.name)) for field in fields(record))
    told = {field: value for field, value in given if value is not None}
    words = " ".join(f"{field}={value}" for field, value in told.items())
    logger.info("%s %s", name, words, extra={"charge": told})
