"""The nightly story from top to bottom, as a generator of effects: no I/O, and nothing turns back.

Read the provider's lists; match what is there with our rows; finish what is pending; ask for what is not there; flag.
Every step may be done again: a killed run goes on where its pages end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial
from typing import cast

from gateway_client.charge import Charge
from gateway_client.errors import ProviderUnavailable
from gateway_client.flow.asking import Setup, bind_flow, meet, question
from gateway_client.flow.clearing import ask_for_intent
from gateway_client.flow.effects import Flow, Now, Settle, Wait
from gateway_client.flow.lookup import NOT_ASKED_FOR, Cycle, absence, read_lists
from gateway_client.gateways.base import Item, Missing, Page, Unreadable
from gateway_client.outcome import NAMES, Answer, CouldNotAsk, Processing, RequiresAction, Succeeded, Unknown
from reconcile import match, words
from reconcile.ages import AGES, Ages
from reconcile.effects import (
    Adopt,
    AttemptKey,
    CloseOver,
    CloseStale,
    EndRun,
    Flag,
    FlagDuplicates,
    FlagStale,
    Import,
    KeepItem,
    OpenedRun,
    OpenRun,
    Progress,
    ReadPairs,
    ReadUnfinished,
    ReadUnseen,
    Repair,
    RunLease,
    SavePage,
)
from reconcile.lease import renewing
from reconcile.match import Pair
from reconcile.window import window_of

_UNDER_WAY = (Processing, RequiresAction, Unknown)

IN_FLIGHT = timedelta(minutes=15)  # a send this young may still be answered: its own process records it
ASKS_MAX = 6  # tries of one question: the night is long
UNANSWERED_IN_A_ROW_MAX = 3  # objects that nobody tells of: then it is the provider, not one object
PAGES_MAX, BYTES_MAX = 20_000, 8 * 1024**3  # of the provider's lists in one call: two million objects; the next goes on
LOOKED_UP_AT_ONCE_MAX = 2000  # charges in memory that share one reading of the provider's lists


def reconcile_flow(setup: Setup, day: date, tz: str, lease: RunLease, ages: Ages = AGES) -> Flow[OpenedRun]:
    """One run of one window, or the rest of it; `ages`: how long charges may be pending.

    Raises RunHeld, ProviderUnavailable, ConfigurationError.
    """
    binding = yield from bind_flow(setup)
    unasked = yield from meet(setup, binding)
    if unasked is not None:
        raise ProviderUnavailable(f"the provider could not be asked: {unasked}. Nothing was changed; run it again.")
    now = yield from Now()
    run = yield from OpenRun(window_of(day, tz, now), lease, binding)
    yield from renewing(run, _reconcile(setup, run, ages))
    return run


def _reconcile(setup: Setup, run: OpenedRun, ages: Ages) -> Flow[None]:
    why = yield from _read_provider(setup, run)
    listed = why is None
    yield from _match(setup, run)
    # What follows concludes from what was not listed, so everything must have been; and it asks on, which is of no use
    # with a provider that has fallen silent.
    if listed:
        why = yield from _finish_pending(setup, run)
        unseen = yield from _ask_for_unseen(setup, run)
        why = why or unseen
    yield from _flag_sets(run, ages)
    yield from EndRun(run, why, listed)


# The provider's lists -----------------------------------------------------------------------------------------------


def _read_provider(setup: Setup, run: OpenedRun) -> Flow[str | None]:
    """Read every list of the window into the run's items; why that stopped, or None."""
    lists, read = setup.gateway.lists, _Read()
    for number in range(run.lists_read, len(lists)):
        after = run.cursor if number == run.lists_read else None
        why = yield from _read_list(setup, run, number, after, read)
        if why is not None:
            return f"{lists[number]}: {why}"
    return None


@dataclass
class _Read:
    """How much one call has read: an endless list must end somewhere, and what is on disk is gone on with."""

    pages: int = 0
    size: int = 0

    def too_much(self, page: Page) -> str | None:
        self.pages, self.size = self.pages + 1, self.size + page.size
        if self.pages < PAGES_MAX and self.size < BYTES_MAX:
            return None
        return (
            f"this call has read {self.pages} pages of {self.size / 1024**2:.0f} MiB, which is all that one call reads"
        )


def _read_list(setup: Setup, run: OpenedRun, number: int, after: str | None, read: _Read) -> Flow[str | None]:
    gateway, path = setup.gateway, setup.gateway.lists[number]
    window = run.window
    last_second = window.end - timedelta(seconds=1)  # `created` is in whole seconds, and the provider's bound is closed
    begun_again, stuck, cycle = False, 0, Cycle()
    while True:
        request = gateway.list_request(path, window.start, last_second, after)
        page = yield from question(setup, request, partial(gateway.read_page, path, after=after), ASKS_MAX)
        if isinstance(page, CouldNotAsk):
            if page.refused and after is not None and not begun_again:
                # The object that the cursor names is gone: repeats are dropped.
                after, begun_again, stuck, cycle = None, True, 0, Cycle()
                continue
            return page.reason
        if not page.answers(window.start, last_second):
            return NOT_ASKED_FOR
        stands_still = page.has_more and page.last_id in (None, after)
        cursor = after if stands_still else page.last_id
        inside = tuple(item for item in page.items if _inside(item, run))
        unread = tuple(one for one in page.unreadable if _inside(one, run))
        yield from SavePage(run, inside, unread, number + (not page.has_more), cursor if page.has_more else None)
        yield from Progress(len(page.items) + len(page.unreadable))
        if not page.has_more:
            return None
        enough = read.too_much(page)
        if enough is not None:
            return enough
        stuck = stuck + 1 if stands_still else 0
        if stuck == ASKS_MAX or (not stands_still and cycle.closed_by(page)):
            return "the provider's list does not advance"
        pause = setup.policy.delay_s(stuck, None)
        if stands_still and pause is not None:
            yield from Wait(*pause)
        after = cursor


def _inside(item: Item | Unreadable, run: OpenedRun) -> bool:
    return item.created_at is None or run.window.start <= item.created_at < run.window.end


# What the provider has ----------------------------------------------------------------------------------------------


def _match(setup: Setup, run: OpenedRun) -> Flow[None]:
    """Every attempt that the provider has something of: import it, settle it, compare it."""
    yield from Adopt(run)
    after: AttemptKey | None = None
    while pairs := (yield from ReadPairs(run, after)):
        for pair in pairs:
            yield from _agree(setup, run, pair)
        after = (pairs[-1].intent_id, pairs[-1].attempt)


def _agree(setup: Setup, run: OpenedRun, pair: Pair) -> Flow[None]:
    """Move our side of one attempt towards the provider's evidence, and flag what remains."""
    judge, charge = setup.gateway.judge, pair.charge
    if charge is None:
        missing = match.importable(pair, judge, run.started_at)
        charge = yield from Import(run, pair.intent_id, pair.attempt, missing, setup.gateway.api_version)
        if charge is None:
            return
    if not charge.final:
        proof = match.evidence(charge, pair.items, judge)
        # What is under way is asked for by its intent, later and once: its charge would say the same in other words.
        told_later = charge.provider_intent_id is not None and isinstance(proof, _UNDER_WAY)
        if proof is not None and not told_later:
            charge = yield from _repair(setup, run, charge, Answer(proof))
    elif None in (charge.provider_intent_id, charge.provider_charge_id):
        proof = match.evidence(charge, pair.items, judge)
        if proof is not None and NAMES[type(proof)] == charge.state:  # it names what the result itself had left out
            charge = yield from _repair(setup, run, charge, Answer(proof))
    found = tuple(match.disagreements(charge, pair.items, judge, run.started_at))
    if found:
        yield from Flag(run, found)


def _repair(setup: Setup, run: OpenedRun, charge: Charge, answer: Answer) -> Flow[Charge]:
    saves = setup.gateway.profile.saves_declines
    return (yield from Repair(run, Settle(charge.intent_id, charge.attempt, answer, saves)))


# What is pending ----------------------------------------------------------------------------------------------------


def _finish_pending(setup: Setup, run: OpenedRun) -> Flow[str | None]:
    """Every pending charge of any age: asked for by its intent, or looked up; why that stopped, or None."""
    why = yield from meet(setup, run.binding, anew=True)  # a key's life is over by the provider's time
    if why is not None:
        return why
    while (yield from CloseOver(run, setup.gateway.profile)):
        pass
    now = yield from Now()
    waiting: list[Charge] = []
    unanswered = 0
    cursor: AttemptKey | None = None
    while page := (yield from ReadUnfinished(run, cursor)):
        for charge in page:
            if charge.provider_intent_id is not None:
                failed = yield from _ask_for_intent(setup, run, charge)
                why, unanswered = why or failed, 0 if failed is None else unanswered + 1
            elif charge.last_sent_at is not None and now - charge.last_sent_at >= IN_FLIGHT:
                waiting.append(charge)
            if len(waiting) == LOOKED_UP_AT_ONCE_MAX:
                failed = yield from _look_up(setup, run, waiting)
                why, waiting = why or failed, []
            if unanswered == UNANSWERED_IN_A_ROW_MAX:
                return why
        cursor = (page[-1].intent_id, page[-1].attempt)
    failed = (yield from _look_up(setup, run, waiting)) if waiting else None
    return why or failed


def _ask_for_intent(setup: Setup, run: OpenedRun, charge: Charge) -> Flow[str | None]:
    answer = yield from ask_for_intent(setup, run.binding, charge, ASKS_MAX)
    if isinstance(answer, CouldNotAsk):
        # The provider's own word that there is none: asking again will not help, and the charge stays as it is.
        denied = answer.refused and answer.status == 404
        return None if denied else f"intent {charge.provider_intent_id}: {answer.reason}"
    yield from _repair(setup, run, charge, answer)
    return None


def _look_up(setup: Setup, run: OpenedRun, waiting: list[Charge]) -> Flow[str | None]:
    """One reading of the provider's lists, however long, for all that wait for proof."""
    scan = yield from read_lists(setup, run.binding, waiting)
    for charge in waiting:
        answer = scan.found.get(charge.idempotency_key)
        if answer is not None:
            yield from _repair(setup, run, charge, answer)
        else:
            yield from Repair(run, absence(setup, charge, scan))
    return scan.why_incomplete


# What is not there --------------------------------------------------------------------------------------------------


def _ask_for_unseen(setup: Setup, run: OpenedRun) -> Flow[str | None]:
    """Successes of ours that no list has shown, each asked for by its id; why that stopped, or None."""
    after: AttemptKey | None = None
    why, unanswered = None, 0
    while page := (yield from ReadUnseen(run, after)):
        for charge in page:
            failed = yield from _ask_for_charge(setup, run, charge)
            why, unanswered = why or failed, 0 if failed is None else unanswered + 1
            if unanswered == UNANSWERED_IN_A_ROW_MAX:
                return why
        after = (page[-1].intent_id, page[-1].attempt)
    return why


def _ask_for_charge(setup: Setup, run: OpenedRun, charge: Charge) -> Flow[str | None]:
    gateway, charge_id = setup.gateway, charge.provider_charge_id
    if charge_id is None:
        return (yield from _ask_for_success(setup, run, charge))
    request = gateway.retrieve_charge_request(charge_id)
    asked = question(setup, request, gateway.read_item, ASKS_MAX)
    item = cast("Item | Missing | CouldNotAsk", (yield from asked))
    if isinstance(item, Missing):
        yield from Flag(run, (words.missing_at_provider(charge),))
        return None
    if isinstance(item, CouldNotAsk):
        return f"charge {charge_id}: {item.reason}"
    if item.object_id != charge_id:
        return f"charge {charge_id}: the provider answered with another one"
    item = replace(item, key=charge.idempotency_key)  # ours by its id, whatever became of its metadata
    yield from KeepItem(run, item, charge.intent_id, charge.attempt)
    found = tuple(match.disagreements(charge, (item,), gateway.judge, run.started_at))
    if found:
        yield from Flag(run, found)
    return None


def _ask_for_success(setup: Setup, run: OpenedRun, charge: Charge) -> Flow[str | None]:
    """A success whose charge was never named: its intent is asked."""
    gateway = setup.gateway
    request = gateway.retrieve_request(charge.provider_intent_id or "")
    answer = yield from question(setup, request, lambda reply: gateway.read_intent(reply, charge), ASKS_MAX)
    if isinstance(answer, CouldNotAsk):
        if answer.refused and answer.status == 404:
            yield from Flag(run, (words.missing_at_provider(charge),))
            return None
        return f"intent {charge.provider_intent_id}: {answer.reason}"
    if isinstance(answer.outcome, Succeeded):
        yield from _repair(setup, run, charge, answer)  # its charge is named by now
    elif match.against(charge.state, answer.outcome):
        yield from Flag(run, (words.denied(charge, answer.outcome),))
    return None


# What is seen only in sets ------------------------------------------------------------------------------------------


def _flag_sets(run: OpenedRun, ages: Ages) -> Flow[None]:
    """More than one success for an intent; pending for too long, and pending no more."""
    intent: str | None = None
    while (intent := (yield from FlagDuplicates(run, intent))) is not None:
        pass
    row: AttemptKey | None = None
    while (row := (yield from FlagStale(run, ages, row))) is not None:
        pass
    yield from CloseStale(run, ages)
