"""How a run reads the provider's lists: page by page, each on disk before the next is asked for. No I/O.

A long list is cut into parts by time, and several parts are read at once. Each has a cursor of its own
on disk, so that a killed run goes on where each of them stopped. The parts tile the window in whole seconds, as the
provider's `created` is, and a list is read when all of its parts are: an object belongs to one part by its `created`,
and one that is shown twice all the same is kept once. So it does not matter in which order a list is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import pairwise

from gateway_client.flow.asking import Setup, refuse_credential
from gateway_client.flow.effects import Ask, AskAll, Flow, Wait
from gateway_client.flow.lookup import NOT_ASKED_FOR, Cycle
from gateway_client.gateways.base import Listing, NoReply, Reply, Request
from gateway_client.outcome import CouldNotAsk
from reconcile.effects import OpenedRun, Part, SavePages

ASKS_MAX = 6  # tries of one question: the night is long
PAGES_MAX, BYTES_MAX = 100_000, 64 * 1024**3  # of the lists in one call: ten million objects; the next goes on
PARTS_FOR_EACH = 4  # of the parts that are read at once: a busy hour leaves the others something to do
SECOND = timedelta(seconds=1)


def read_provider(setup: Setup, run: OpenedRun, windows: int) -> Flow[str | None]:
    """Read every list of the window into the run's items; why that stopped, or None."""
    read = _Read()
    for number, path in enumerate(setup.gateway.evidence.paths):
        places = [_Place(part) for part in run.parts if part.list_no == number]
        whole = len(places) == 1
        places = [place for place in places if not place.part.done]
        why = yield from _read_list(setup, run, path, places, read, windows, whole=whole)
        if why is not None:
            return f"{path}: {why}"
    return None


@dataclass
class _Read:
    """How much one call has read: an endless list must end somewhere, and what is on disk is gone on with."""

    pages: int = 0
    size: int = 0

    def too_much(self, pages: Sequence[Listing]) -> str | None:
        self.pages, self.size = self.pages + len(pages), self.size + sum(page.size for page in pages)
        if self.pages < PAGES_MAX and self.size < BYTES_MAX:
            return None
        return (
            f"this call has read {self.pages} pages of {self.size / 1024**2:.0f} MiB, which is all that one call reads"
        )


@dataclass
class _Place:
    """Where one part is read, and whether it advances."""

    part: Part
    begun_again: bool = False
    stuck: int = 0
    cycle: Cycle = field(default_factory=Cycle)
    stands: bool = False  # its list does not advance

    def lost(self, answer: CouldNotAsk) -> bool:
        """Begin the part again, once, where the object that its cursor names is gone: repeats are kept once."""
        if not answer.refused or self.part.cursor is None or self.begun_again:
            return False
        self.part = replace(self.part, cursor=None)
        self.begun_again, self.stuck, self.cycle = True, 0, Cycle()
        return True

    def advance(self, page: Listing) -> None:
        """Go to the end of a page."""
        still = page.has_more and page.last_id in (None, self.part.cursor)
        self.stuck = self.stuck + 1 if still else 0
        self.part = replace(self.part, pages=self.part.pages + 1)
        if not page.has_more:
            self.part = replace(self.part, cursor=None, done=True)
        elif not still:
            self.part = replace(self.part, cursor=page.last_id)
            self.stands = self.cycle.closed_by(page)
        self.stands = self.stands or self.stuck == ASKS_MAX


def _read_list(
    setup: Setup,
    run: OpenedRun,
    path: str,
    places: list[_Place],
    read: _Read,
    windows: int,
    *,
    whole: bool,
) -> Flow[str | None]:
    """Read the parts of one list to their ends, some at once; a `whole` list is cut after as many pages."""
    while places:
        asked = places[:windows]
        answers = yield from _ask(setup, path, _parts(asked))
        why, pages, moved = _taken(run, asked, answers)
        cut: list[_Place] = []
        if whole and moved and moved[0].part.pages == windows > 1 and not moved[0].part.done:
            whole = False
            cut = [_Place(part) for part in _cut(moved[0].part, windows * PARTS_FOR_EACH)]
            moved[0].part = replace(moved[0].part, done=True)
        if moved:
            kept = tuple(_inside(page, run) for page in pages)
            yield from SavePages(run, kept, _parts(moved), _parts(cut))
        places = [place for place in places if not place.part.done] + cut
        why = why or (read.too_much(pages) if places else None)
        if why is None and any(place.stands for place in moved):
            why = "the provider's list does not advance"
        if why is not None:
            return why
        pause = setup.policy.delay_s(max((place.stuck for place in asked), default=0), None)
        if pause is not None and any(place.stuck for place in asked):
            yield from Wait(*pause)
    return None


def _taken(
    run: OpenedRun, asked: list[_Place], answers: Sequence[Listing | CouldNotAsk]
) -> tuple[str | None, list[Listing], list[_Place]]:
    """Why a part cannot be read on, the pages of the others, and their places."""
    why, pages, moved = None, [], []
    for place, answer in zip(asked, answers, strict=True):
        if isinstance(answer, CouldNotAsk):
            why = why or (None if place.lost(answer) else answer.reason)
        elif not answer.answers(place.part.start, place.part.end - SECOND):
            why = why or NOT_ASKED_FOR
        else:
            place.advance(answer)
            pages.append(answer)
            moved.append(place)
    return why, pages, moved


def _parts(places: list[_Place]) -> tuple[Part, ...]:
    return tuple(place.part for place in places)


def _request(setup: Setup, path: str, part: Part) -> Request:
    last_second = part.end - SECOND  # `created` is in whole seconds, and the provider's bound is closed
    return setup.gateway.list_request(path, part.start, last_second, part.cursor)


def _ask(setup: Setup, path: str, parts: Sequence[Part]) -> Flow[list[Listing | CouldNotAsk]]:
    """Ask for a page of each part, a few times those that are not answered; a refused credential ends everything."""
    answers: list[Listing | CouldNotAsk] = [CouldNotAsk("not asked")] * len(parts)
    waiting, tries = list(range(len(parts))), 0
    while waiting:
        replies = yield from _replies([_request(setup, path, parts[at]) for at in waiting])
        tries += 1
        again, pauses = [], []
        for at, reply in zip(waiting, replies, strict=True):
            answer = answers[at] = setup.gateway.read_listing(path, reply, _place_of(parts[at]))
            if isinstance(answer, CouldNotAsk):
                refuse_credential(answer)
                pause = setup.policy.delay_s(tries, answer.retry_after_s)
                if not answer.refused and pause is not None and tries < ASKS_MAX:
                    again.append(at)
                    pauses.append(pause)
        waiting = again
        if pauses:
            yield from Wait(*max(pauses))
    return answers


def _place_of(part: Part) -> str | None:
    """Where a page of a part begins: no page of another part begins there."""
    return part.cursor or (f"part_{part.part_no}" if part.part_no else None)


def _replies(requests: list[Request]) -> Flow[tuple[Reply | NoReply, ...]]:
    if len(requests) > 1:
        return (yield from AskAll(tuple(requests)))
    return ((yield from Ask(requests[0])),)


def _cut(part: Part, count: int) -> list[Part]:
    """Cut a part into so many, or as many as it has seconds, one after the other without a gap."""
    seconds = int((part.end - part.start) / SECOND)
    edges = [part.start + SECOND * (seconds * at // count) for at in range(count + 1)]
    spans = [(start, end) for start, end in pairwise(edges) if start < end]
    return [Part(part.list_no, number, start, end) for number, (start, end) in enumerate(spans, 1)]


def _inside(page: Listing, run: OpenedRun) -> Listing:
    """What of a page was made in the window, or does not say when."""
    window = run.window
    if page.within(window.start, window.end):
        return page
    found = [page.in_our_words(place) for place in range(page.count)]
    inside = [one for one in found if one.created_at is None or window.start <= one.created_at < window.end]
    return replace(page, count=len(inside), plain={}, in_our_words=inside.__getitem__)
