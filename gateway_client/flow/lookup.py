"""Looking up: one reading of the provider's lists for all charges that wait for proof, and what it settles.

Finding is evidence; not finding is only ever judged by `absence.py`. "Could not ask" is never "does not exist".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property, partial

from gateway_client.absence import Scan, Stranger
from gateway_client.bounds import Bounds
from gateway_client.charge import EVER, Charge
from gateway_client.flow.asking import Setup, meet, question
from gateway_client.flow.effects import Begun, Flow, NoteQuiet, Now, ProveAbsent, Settle, named
from gateway_client.gateways.base import (
    Binding,
    Listing,
    Missing,
    NoReply,
    Page,
    Reply,
    Retrieval,
    Unreadable,
    offered,
)
from gateway_client.outcome import Answer, CouldNotAsk, Succeeded
from gateway_client.proof import Expected, Item, prove

NOT_ASKED_FOR = "the page holds objects of another time than was asked for"
PAGES_WITHOUT_PROGRESS_MAX = 500  # that go no further back in time: as many objects no account makes in one second
PAGES_MAX = 100_000  # of one list that is read to its end: ten million objects are no account, but an endless list


def look_up(setup: Setup, binding: Binding, charges: list[Charge]) -> Flow[tuple[list[Charge], Scan]]:
    """Read the provider once for all `charges`: what is found is settled, what is proven absent as well.

    Whose absence is not proven, or what may not be sent after this reading, is told why.
    """
    scan = yield from read_provider(setup, binding, charges)
    results: list[Charge] = []
    for charge in charges:
        answer = scan.found.get(charge.idempotency_key)
        if answer is not None:
            settled = yield from settle(setup, charge, answer)
            quiet_known = not settled.pending or settled.quiet_from is not None
            if charge.closed_at is not None and scan.time_asked and not quiet_known:
                settled = yield from NoteQuiet(**named(charge))
            results.append(settled)
        elif charge.last_sent_at is not None or not may_send_after(setup, scan, charge):
            results.append((yield from absence(setup, charge, scan)))
        else:
            results.append(charge)
    return results, scan


def by_evidence(setup: Setup, charges: Iterable[Charge]) -> list[list[Charge]]:
    """Group attempts that one look-up can serve: those in the provider's lists, and those that are asked for."""
    groups: dict[bool, list[Charge]] = {}
    for charge in charges:
        groups.setdefault(offered(setup.gateway, charge.operation).retrieval is None, []).append(charge)
    return list(groups.values())


def read_provider(setup: Setup, binding: Binding, charges: Sequence[Charge]) -> Flow[Scan]:
    """What the provider has of attempts, by the evidence that is declared for them, one kind; it changes none."""
    if offered(setup.gateway, charges[0].operation).retrieval is None:
        return (yield from read_lists(setup, binding, charges))
    return (yield from _ask_for_each(setup, binding, charges))


def _ask_for_each(setup: Setup, binding: Binding, charges: Sequence[Charge]) -> Flow[Scan]:
    """Ask for attempts one by one. What could not be asked makes the reading incomplete, for all of them."""
    why = yield from meet(setup, binding, anew=True)
    time_asked = why is None
    now = yield from Now()
    found: dict[str, Answer] = {}
    for charge in charges:
        if why is None:
            told = yield from _ask_for(setup, charge)
            if isinstance(told, CouldNotAsk):
                why = f"{charge.operation} {charge.intent_id}: {told.reason}"
            elif not isinstance(told, Missing):
                found[charge.idempotency_key] = told
    return Scan(EVER, now, why, EVER if why is None else now, found, frozenset(), time_asked)


def _ask_for(setup: Setup, charge: Charge) -> Flow[Answer | Missing | CouldNotAsk]:
    retrieval = offered(setup.gateway, charge.operation).retrieval
    assert retrieval is not None, "its evidence is in the lists"
    read: Callable[[Reply | NoReply], Answer | Missing | CouldNotAsk] = partial(
        _read, retrieval, setup.expected(charge)
    )
    asked: Flow[Answer | Missing | CouldNotAsk] = question(setup, retrieval.request(charge), read)
    return (yield from asked)


def _read(retrieval: Retrieval, expected: Expected, reply: Reply | NoReply) -> Answer | Missing | CouldNotAsk:
    return retrieval.read(reply, expected)


def read_lists(setup: Setup, binding: Binding, charges: Sequence[Charge]) -> Flow[Scan]:
    """What the provider's lists hold of all `charges`, back to before the first of them; it changes no charge.

    Its time is asked for first: whatever is concluded from the lists counts from then. Each list is read to its end,
    however busy the account is.
    """
    bounds = setup.gateway.profile.bounds
    unasked = yield from meet(setup, binding, anew=True)
    now = yield from Now()
    created_from = min(_looked_up_from(charge, bounds) for charge in charges)
    wanted = {charge.idempotency_key: charge for charge in charges}
    reading = _Reading(binding, wanted, created_from, now + bounds.look_ahead)
    if unasked is not None:
        reading.stopped(unasked, None)
        return replace(reading.scan(begun_at=now), time_asked=False)
    for path in setup.gateway.evidence.paths:
        if not reading.all_found:
            yield from _read_list(setup, path, reading)
    return reading.scan(begun_at=now)


def may_send_after(setup: Setup, scan: Scan, charge: Charge) -> bool:
    """True when the lists were read back to before the charge, and hold nothing of it; the gate decides the rest."""
    read = scan.read_back_to <= _looked_up_from(charge, setup.gateway.profile.bounds)
    there = any(charge.idempotency_key in seen for seen in (scan.found, scan.claimed, scan.unreadable))
    return read and charge.pending and not there


def _looked_up_from(charge: Charge, bounds: Bounds) -> datetime:
    return (charge.first_sent_at or charge.created_at) - bounds.look_back


@dataclass
class _Reading:
    """What is known so far while the lists are read."""

    binding: Binding
    wanted: dict[str, Charge]
    created_from: datetime
    created_to: datetime
    found: dict[str, Answer] = field(default_factory=dict)
    strangers: set[Stranger] = field(default_factory=set)
    claimed: set[str] = field(default_factory=set)
    unreadable: dict[str, str] = field(default_factory=dict)
    why_incomplete: str | None = None
    read_back_to: datetime = EVER

    @property
    def all_found(self) -> bool:
        return len(self.found) == len(self.wanted)

    def add(self, page: Page) -> None:
        """Take over what matters of a page; of several objects with one key, a success counts."""
        for item in page.items:
            charge = self.wanted.get(item.key or "")
            if charge is not None:
                outcome = prove(Expected.of(charge, live=self.binding.live), item)
                if charge.idempotency_key not in self.found or isinstance(outcome, Succeeded):
                    self.found[charge.idempotency_key] = replace(page.answer, outcome=outcome)
            else:
                self._add_foreign(item)
        for one in page.unreadable:
            self._add_unreadable(one)

    def _add_unreadable(self, one: Unreadable) -> None:
        """One that may be ours may be of any attempt, unless its names say in full of which it is."""
        if one.may_be_of(self.binding):
            told = one.namespace == self.binding.namespace and self.binding.computes(one)
            for key in self.wanted if not told else {one.key or ""} & self.wanted.keys():
                self.unreadable.setdefault(key, one.object_id)

    def _add_foreign(self, item: Item) -> None:
        """Metadata can be edited by hand: what names one of ours without its key, or lost a name, may be ours."""
        if self._of_another_service(item):
            return
        keys = self._by_intent.get(item.intent_id or "", {})
        self.claimed.update(key for key, attempt in keys.items() if item.attempt in (None, attempt))
        names = (item.namespace, item.intent_id, item.attempt, item.key)
        nameless = None in names or item.namespace != self.binding.namespace
        if item.moved and nameless and (item.amount, item.currency) in self._sums:
            payer = (one if one in self._payers else None for one in (item.customer, item.payment_method))
            self.strangers.add(Stranger(item.amount, item.currency, *payer))

    def _of_another_service(self, item: Item) -> bool:
        """Whether its names are those that another namespace of the account computes."""
        return item.namespace != self.binding.namespace and self.binding.computes(item)

    @cached_property
    def _payers(self) -> frozenset[str | None]:
        """The customers and payment methods of what is looked for: others' are not kept, however many there are."""
        return frozenset(one for charge in self.wanted.values() for one in (charge.customer, charge.payment_method))

    @cached_property
    def _sums(self) -> frozenset[tuple[int | None, str | None]]:
        """What a stranger's success may be of to be one that is looked for; None is what the provider does not tell."""
        return frozenset(
            (amount, currency)
            for charge in self.wanted.values()
            for amount in (charge.amount, None)
            for currency in (charge.currency, None)
        )

    @cached_property
    def _by_intent(self) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {}
        for charge in self.wanted.values():
            found.setdefault(charge.intent_id, {})[charge.idempotency_key] = charge.attempt
        return found

    def stopped(self, why: str, read_back_to: datetime | None) -> None:
        """A list was not read to its end, only back to some moment (None: not at all)."""
        self.why_incomplete = self.why_incomplete or why
        self.read_back_to = max(self.read_back_to, read_back_to or self.created_to)

    def scan(self, begun_at: datetime) -> Scan:
        return Scan(
            created_from=self.created_from,
            begun_at=begun_at,
            why_incomplete=self.why_incomplete,
            read_back_to=max(self.read_back_to, self.created_from),
            found=self.found,
            strangers=frozenset(self.strangers),
            claimed=frozenset(self.claimed),
            unreadable=self.unreadable,
        )


class Cycle:
    """Whether a list comes to no end: its cursors go round, of which one is remembered (Brent), or its time stands."""

    def __init__(self) -> None:
        self._mark: str | None = None
        self._steps, self._power = 0, 1
        self._read_back_to: datetime | None = None
        self._stood = 0

    def closed_by(self, page: Page | Listing) -> bool:
        """True when the cursors have come round again, in their third round at the latest, or time stands for long."""
        cursor, at = page.last_id, page.read_back_to
        if cursor == self._mark:
            return True
        if at is not None and (self._read_back_to is None or at < self._read_back_to):
            self._read_back_to, self._stood = at, 0
        self._stood += 1
        if self._stood > PAGES_WITHOUT_PROGRESS_MAX:
            return True
        self._steps += 1
        if self._steps == self._power:
            self._mark, self._steps, self._power = cursor, 0, self._power * 2
        return False


def _read_list(setup: Setup, path: str, reading: _Reading) -> Flow[None]:
    """Page through one list, newest first."""
    gateway = setup.gateway
    after: str | None = None
    read_back_to: datetime | None = None
    cycle = Cycle()
    for _ in range(PAGES_MAX):
        request = gateway.list_request(path, reading.created_from, reading.created_to, after)
        page = yield from question(setup, request, partial(gateway.read_page, path, after=after))
        if isinstance(page, CouldNotAsk):
            return reading.stopped(f"{path}: {page.reason}", read_back_to)
        if not page.answers(reading.created_from, reading.created_to):
            return reading.stopped(f"{path}: {NOT_ASKED_FOR}", read_back_to)
        reading.add(page)
        if not page.has_more or reading.all_found:
            return None
        if page.last_id in (None, after) or cycle.closed_by(page):
            return reading.stopped(f"{path}: the provider's list does not advance", read_back_to)
        after, read_back_to = page.last_id, page.read_back_to
    return reading.stopped(f"{path}: more than {PAGES_MAX} pages", read_back_to)


def absence(setup: Setup, charge: Charge, scan: Scan) -> ProveAbsent:
    """The proof that a scan is of the absence of a charge, which is given as it was before the scan began."""
    closed = charge.closed_at is not None and scan.time_asked
    return ProveAbsent(**named(charge), profile=setup.gateway.profile, scan=scan, closed=closed)


def settle(setup: Setup, charge: Charge, answer: Answer, begun: Begun | None = None) -> Flow[Charge]:
    """Record an answer about a charge: of the send that was `begun`, or evidence from a question."""
    send_no, seen = (None, None) if begun is None else (begun.send_no, begun.record)
    saves = setup.gateway.profile.saves_declines
    return (yield from Settle(**named(charge), answer=answer, saves_declines=saves, send_no=send_no, seen=seen))
