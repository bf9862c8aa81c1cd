"""What workers ask of the database: which attempts they may work on, and what the others wait for. Plain data."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from gateway_client.charge import Charge
from gateway_client.flow.effects import DatabaseEffect


@dataclass(frozen=True)
class Lease(DatabaseEffect[tuple[Charge, ...]]):
    """Take pending charges that are due, oldest deadline first, and that no other worker is at."""

    worker: str
    rows_max: int
    seconds: float
    open_s: float  # an open send younger than this is somebody's, who waits for its answer


@dataclass(frozen=True)
class Release(DatabaseEffect[None]):
    """Give leased attempts back, by their idempotency keys: (key, seconds to leave it alone or None)."""

    worker: str
    rows: tuple[tuple[str, float | None], ...]


@dataclass(frozen=True)
class Waiting:
    """How many pending charges there are, by what workers wait for; of leases and back-offs the first and last end."""

    due: int  # taken by the next who asks
    leased: int
    leased_until: tuple[datetime, datetime] | None
    backed_off: int
    backed_off_until: tuple[datetime, datetime] | None
    answers: int  # of a send that is open: it may still be answered


@dataclass(frozen=True)
class CountWaiting(DatabaseEffect[Waiting]):
    """Count the pending charges: who found none that is due hears why."""

    writes = False

    open_s: float  # as of a Lease
