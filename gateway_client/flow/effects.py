"""What a flow may ask the world for. Each effect is plain data; a driver performs it and hands back its result.

`result = yield from SomeEffect(...)` is typed by the effect's parameter. The story that yields them is `charging.py`;
the drivers are in `client.py`; what a database effect does is one function of a Session in `store/`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from typing import Any, ClassVar, Generic, TypedDict, TypeVar

from gateway_client.absence import Scan
from gateway_client.charge import Charge, Place
from gateway_client.frozen import Frozen
from gateway_client.gateways.base import Account, Binding, NoReply, Profile, Reply, Request
from gateway_client.intent import PaymentIntent
from gateway_client.operation import Upon
from gateway_client.outcome import Answer, CouldNotAsk
from gateway_client.record import Record
from gateway_client.state import CHARGE

T = TypeVar("T")


class Effect(Generic[T]):
    """Something the driver does for the flow; `T` is what comes back."""

    def __iter__(self) -> Generator[Effect[Any], Any, T]:
        result: T = yield self
        return result


Flow = Generator[Effect[Any], Any, T]


# The database: each is one transaction ------------------------------------------------------------------------------


class DatabaseEffect(Effect[T]):
    """Performed inside one transaction, with no network in it, by the function that says `@performs` of its class."""

    writes: ClassVar[bool] = True
    # Done twice it is as if it was done once, so that a commit nobody has confirmed is tried again.
    repeatable: ClassVar[bool] = True

    @property
    def decides_about(self) -> str | None:
        """The intent that it decides about, if it is one: of others that decide about it, one after the other does."""
        return None


@dataclass(frozen=True)
class OfAttempt(DatabaseEffect[T]):
    """An effect on one attempt: of a charge, or of another operation upon the charge of an intent."""

    intent_id: str
    attempt: int
    operation: str = field(default=CHARGE, kw_only=True)
    parent_id: str | None = field(default=None, kw_only=True)

    @property
    def decides_about(self) -> str | None:
        return self.parent_id or self.intent_id


class Named(TypedDict):
    """What names an attempt in an effect."""

    intent_id: str
    attempt: int
    operation: str
    parent_id: str | None


def named(charge: Charge) -> Named:
    """Name an attempt for an effect on it."""
    return {
        "intent_id": charge.intent_id,
        "attempt": charge.attempt,
        "operation": charge.operation,
        "parent_id": charge.parent_id,
    }


@dataclass(frozen=True)
class ReadBinding(DatabaseEffect[Binding | None]):
    """Whom the store belongs to; None while nobody has written it."""

    writes = False


@dataclass(frozen=True)
class Bind(DatabaseEffect[Binding]):
    """Bind an unbound store, which gets its id; another process may have been first: the stored binding comes back."""

    binding: Binding


@dataclass(frozen=True)
class Draft:
    """What a new attempt freezes in its row."""

    idempotency_key: str
    body: str = field(repr=False)
    api_version: str
    seal: str | None = None  # over what is frozen, when a secret is set


@dataclass(frozen=True)
class ClearFirst:
    """Attempt n+1 may be made once attempt n is cleared at the provider: its intent cancelled, or still absent.

    `before`: still older ones of which no intent is known, and which only a reading shows to be charged by now.
    """

    charge: Charge
    before: tuple[Charge, ...] = ()


@dataclass(frozen=True)
class Claim(DatabaseEffect["Charge | Begun | ClearFirst"]):
    """Find the row of an attempt (None: the newest), or insert it. `cleared_attempt` is cleared already.

    `begin_with` names a credential: the first send of a row that is inserted is begun with it, in the same commit, if
    the gate lets it through. Not while whose credential it is, or the provider's time, is not known.
    """

    intent: PaymentIntent
    attempt: int | None
    draft: Callable[[int], Draft]
    profile: Profile
    binding: Binding  # of the store that it was drafted for
    cleared_attempt: int | None = None
    begin_with: str | None = None

    @property
    def decides_about(self) -> str | None:
        return self.intent.intent_id


@dataclass(frozen=True)
class ClaimUpon(DatabaseEffect["Charge | Begun"]):
    """Find the row of an act upon a charge (attempt None: the newest), or insert it. `begin_with`: as of a Claim."""

    operation: str
    upon: Upon
    attempt: int | None
    draft: Callable[[int, Charge], Draft]  # of an attempt, upon a charge as it is
    profile: Profile
    binding: Binding
    begin_with: str | None = None

    @property
    def decides_about(self) -> str | None:
        return self.upon.parent_id


class Next(Enum):
    """What to do with a charge that the gate does not let through."""

    NOTHING = auto()
    RETRIEVE = auto()  # the provider's intent is known: ask for it
    LOOK_UP = auto()  # search the provider's lists for our key
    LOOK_UP_THEN_SEND = auto()  # sent under another credential: search first, send only when nothing is there
    ASK_TIME = auto()  # a send has left before: ask the provider for its time, for this machine may have stood still


@dataclass(frozen=True)
class Begun:
    """A send that is on disk. `age_s` tells the seconds since the gate judged it; the driver sets it."""

    charge: Charge
    send_no: int
    body: str = field(repr=False)
    api_version: str
    record: Record = field(repr=False)  # the row and its sends as this commit has left them
    age_s: Callable[[], float] = lambda: 0.0


@dataclass(frozen=True)
class Held:
    """The gate refused a send; the charge is as it is."""

    charge: Charge
    next: Next


@dataclass(frozen=True)
class BeginSend(OfAttempt[Begun | Held]):
    """The gate: every condition of a send, checked on the locked row, and the send written down in the same commit.

    A send that was begun twice is not as if it was begun once: its call ends, and nothing has left.
    """

    repeatable = False

    binding: Binding
    profile: Profile
    credential_id: str
    altered: Callable[
        [Frozen, str | None], str | None
    ]  # what of a row and its seal is not as it was frozen; None: all is
    time_asked: bool  # the provider was asked for its time just now: without that no send follows another
    read_at: datetime | None = None  # when a complete reading of the lists was begun that found nothing
    lease_of: str | None = None  # a worker, which sends nothing once its lease is over; safety never rests on it


@dataclass(frozen=True)
class Settle(OfAttempt[Charge]):
    """Record an answer: of one send (`send_no`), or evidence from a question (None).

    `seen` is the row as the begin of that send has left it: nothing is read when nobody has written it since.
    """

    answer: Answer
    saves_declines: bool
    send_no: int | None = None
    seen: Record | None = field(default=None, repr=False)


@dataclass(frozen=True)
class GiveUp(DatabaseEffect[Charge]):
    """A person gives the newest attempt up: cancelled when it was never sent, else closed until proof comes."""

    intent_id: str
    because: str
    profile: Profile

    @property
    def decides_about(self) -> str | None:
        return self.intent_id


@dataclass(frozen=True)
class EndLate(OfAttempt[Charge]):
    """End an attempt that is not to be sent any more (`not_after`): canceled when nothing has left, else closed."""


@dataclass(frozen=True)
class NoteQuiet(OfAttempt[Charge]):
    """Note from when no send of a closed attempt can begin: the provider's time, asked for after it was closed."""


@dataclass(frozen=True)
class ProveAbsent(OfAttempt[Charge]):
    """Conclude absence from a scan, if the four conditions hold for the row as it is now."""

    profile: Profile
    scan: Scan
    closed: bool  # it was closed when the scan asked for the time: no send of it can have begun since


@dataclass(frozen=True)
class ReadPending(DatabaseEffect[tuple[Charge, ...]]):
    """Pending charges, oldest first, after one of them."""

    writes = False

    after: Place | None
    rows_max: int


# The provider, the clock, the caller --------------------------------------------------------------------------------


@dataclass(frozen=True)
class MeetProvider(Effect[Account | CouldNotAsk]):
    """Ask whose credential this is, and what time it is there: once in a process, again after an hour of silence.

    `anew`: now, whatever is known. Before a send that follows another, and before anything is concluded from lists.
    """

    anew: bool = False


@dataclass(frozen=True)
class Send(Effect[Reply | NoReply]):
    """One HTTP try of an attempt. Not performed when too long ago was it begun."""

    request: Request
    begun: Begun


@dataclass(frozen=True)
class Ask(Effect[Reply | NoReply]):
    """A request that moves no money: a question, or a cancellation."""

    request: Request


@dataclass(frozen=True)
class AskAll(Effect[tuple[Reply | NoReply, ...]]):
    """Ask several questions at once, none of which moves money or waits for another; their replies, in their order."""

    requests: tuple[Request, ...]


@dataclass(frozen=True)
class Now(Effect[datetime]):
    """The provider's time."""


@dataclass(frozen=True)
class Wait(Effect[float]):
    """Wait, somewhere between two numbers of seconds; the seconds waited come back."""

    seconds_min: float
    seconds_max: float


@dataclass(frozen=True)
class Tell(Effect[None]):
    """Tell the caller about one charge that was looked at, what a worker waits for, how far a run has come."""

    what: Charge | str | int
    listener: Callable[[Any], None]
