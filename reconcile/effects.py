"""What the nightly story may ask of the store, beyond what charging asks: plain data, each one transaction.

`store/` performs them, and with every effect of a run renews the lease of the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from gateway_client.charge import Charge
from gateway_client.finding import Found
from gateway_client.flow.effects import DatabaseEffect, ProveAbsent, Settle, T
from gateway_client.gateways.base import Binding, Listing, Profile
from gateway_client.proof import Item
from reconcile.ages import Ages
from reconcile.match import Importable, Pair
from reconcile.report import RunResult
from reconcile.window import Window

AttemptKey = tuple[str, int]
"""An intent id and an attempt: what rows are paged by."""


@dataclass(frozen=True, slots=True)
class RunLease:
    """What a call works on a run with: a name that no other call has, and how long each renewal lasts."""

    leased_by: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a run's window in one of the provider's lists, half-open in whole seconds, and how far it is read."""

    list_no: int
    part_no: int
    start: datetime
    end: datetime
    pages: int = 0
    cursor: str | None = None  # the last object that is on disk
    done: bool = False  # it was read to its end, or other parts are read in its place


@dataclass(frozen=True, slots=True)
class OpenedRun:
    """A run that this call has leased: its frozen window, and how far the provider's lists have been read."""

    run_id: str
    lease: RunLease
    binding: Binding
    window: Window
    started_at: datetime
    parts: tuple[Part, ...]


class RunEffect(DatabaseEffect[T]):
    """An effect of a nightly run."""


@dataclass(frozen=True)
class OpenRun(RunEffect[OpenedRun]):
    """Begin a run of the window, or go on with the one that was left unfinished. Raises RunHeld."""

    window: Window
    lease: RunLease
    binding: Binding
    lists: int  # how many the provider has


@dataclass(frozen=True)
class OfRun(RunEffect[T]):
    """Work of an opened run."""

    run: OpenedRun


@dataclass(frozen=True)
class LookAtRun(OfRun[T]):
    """A question about a whole day: a transaction that writes nothing, so that no charge has to wait for its end.

    It renews no lease: the effect before it does.
    """

    writes = False


@dataclass(frozen=True)
class ForgetRuns(OfRun[bool]):
    """Forget some of what ended runs have listed, but for this one; False when nothing of it is left."""


@dataclass(frozen=True)
class SavePages(OfRun[None]):
    """Keep what pages hold, and in the same commit how far their parts are read, and into which one was cut."""

    pages: tuple[Listing, ...]
    parts: tuple[Part, ...]
    cut: tuple[Part, ...] = ()


@dataclass(frozen=True)
class Renew(OfRun[None]):
    """Renew the lease, and nothing else: before a request or a wait that no transaction of the run came before."""


@dataclass(frozen=True)
class LetGo(OfRun[None]):
    """Give the lease back, of a run that we could not finish."""


@dataclass(frozen=True)
class Adopt(OfRun[None]):
    """Match by the provider's ids what carries no metadata of ours (any more)."""


@dataclass(frozen=True)
class ReadPairs(OfRun[tuple[Pair, ...]]):
    """The next attempts that the provider has something of, each with our row."""

    after: AttemptKey | None


@dataclass(frozen=True)
class Repair(OfRun[Charge]):
    """Settle a charge by evidence; a state that moved is a finding, in the same commit."""

    by: Settle | ProveAbsent

    @property
    def decides_about(self) -> str | None:
        return self.by.decides_about


@dataclass(frozen=True)
class Import(OfRun[Charge | None]):
    """Write the row that is missing here. None when it cannot be: another attempt of the intent stands in its place."""

    intent_id: str
    attempt: int
    importable: Importable
    api_version: str

    @property
    def decides_about(self) -> str | None:
        return self.intent_id


@dataclass(frozen=True)
class Flag(OfRun[None]):
    """Keep findings that a person must look at."""

    found: tuple[Found, ...]


@dataclass(frozen=True)
class CloseOver(OfRun[int]):
    """Close attempts that are never sent again, so that their absence can be proven, or end them; their number."""

    profile: Profile


@dataclass(frozen=True)
class ReadUnfinished(OfRun[tuple[Charge, ...]]):
    """What is pending, of any age; but for conflicts whose numbers were seen to differ in this run."""

    after: AttemptKey | None


@dataclass(frozen=True)
class ReadUnseen(LookAtRun[tuple[Charge, ...]]):
    """Successes of ours whose charge was not listed: those first sent in the window; `others`: sent again or settled
    since, or beside another success that was listed.
    """

    others: bool
    after: Charge | None  # the last of the page before


@dataclass(frozen=True)
class KeepItem(OfRun[None]):
    """Keep an object that was asked for by its id, as one of this attempt."""

    item: Item
    intent_id: str
    attempt: int


@dataclass(frozen=True)
class FlagDuplicates(OfRun[str | None]):
    """Flag successes beyond the first of an intent; the last intent looked at, None at the end."""

    after: str | None


@dataclass(frozen=True)
class FlagStale(OfRun[AttemptKey | None]):
    """Flag what is pending for longer than its state may be; the last row looked at, None at the end."""

    ages: Ages
    after: AttemptKey | None


@dataclass(frozen=True)
class CloseStale(OfRun[None]):
    """Close the findings about pending charges that are no longer pending for too long."""

    ages: Ages


@dataclass(frozen=True, slots=True)
class Counts:
    """How many charges a run has listed, and how many of them are matched and foreign."""

    provider_charges: int
    matched: int
    foreign: int


@dataclass(frozen=True)
class Count(LookAtRun[Counts]):
    """Count the charges that the run has listed, and those that it has no finding about."""


@dataclass(frozen=True)
class EndRun(OfRun[None]):
    """End the run; an incomplete one is left for the next call to go on with.

    It is that, too, where an object that cannot be read may be ours; when all was `listed`, the next call reads anew.
    """

    why_incomplete: str | None
    listed: bool
    counts: Counts


@dataclass(frozen=True)
class ReadBeginning(RunEffect[datetime | None]):
    """From when on the store can know of a charge; None when it belongs to nobody yet."""

    writes = False


@dataclass(frozen=True)
class ReadResult(RunEffect[RunResult]):
    """Read a run as it ended, or as far as it came."""

    run_id: str
    dry_run: bool

    writes = False
