"""The nightly story from top to bottom, as a generator of effects: no I/O, and nothing turns back.

Read the provider's lists (`reading.py`, where all that agrees with our rows is done with); match the rest of what is
there with our rows; finish what is pending; ask for what is not there; flag.
Every step may be done again: a killed run goes on where its pages end.
"""

from __future__ import annotations

from datetime import date, timedelta
from functools import partial
from typing import cast

from gateway_client.charge import Charge
from gateway_client.errors import ProviderUnavailable
from gateway_client.flow.asking import Setup, bind_flow, meet, question
from gateway_client.flow.clearing import ask_for_intent
from gateway_client.flow.effects import Flow, Now, Settle
from gateway_client.flow.lookup import absence, read_lists
from gateway_client.gateways.base import Missing
from gateway_client.outcome import (
    NAMES,
    Answer,
    CouldNotAsk,
    Processing,
    ReplyClass,
    RequiresAction,
    Succeeded,
    Unknown,
)
from gateway_client.proof import Item
from reconcile import match, words
from reconcile.ages import AGES, Ages
from reconcile.effects import (
    Adopt,
    AttemptKey,
    CloseOver,
    CloseStale,
    Count,
    EndRun,
    Flag,
    FlagDuplicates,
    FlagStale,
    ForgetRuns,
    Import,
    KeepItem,
    OpenedRun,
    OpenRun,
    ReadPairs,
    ReadUnfinished,
    ReadUnseen,
    Repair,
    RunLease,
)
from reconcile.lease import renewing
from reconcile.match import Pair
from reconcile.reading import ASKS_MAX, read_provider
from reconcile.throttle import PACE, Pace, throttled
from reconcile.window import window_of

_UNDER_WAY = (Processing, RequiresAction, Unknown)

IN_FLIGHT = timedelta(minutes=15)  # a send this young may still be answered: its own process records it
UNANSWERED_IN_A_ROW_MAX = 3  # objects that nobody tells of: then it is the provider, not one object
LOOKED_UP_AT_ONCE_MAX = 2000  # charges in memory that share one reading of the provider's lists


def reconcile_flow(
    setup: Setup, day: date, tz: str, lease: RunLease, ages: Ages = AGES, pace: Pace = PACE
) -> Flow[OpenedRun]:
    """One run of one window, or the rest of it; `ages`: how long charges may be pending; `pace`: how fast it asks.

    Raises RunHeld, ProviderUnavailable, ConfigurationError.
    """
    binding = yield from bind_flow(setup)
    unasked = yield from meet(setup, binding)
    if unasked is not None:
        raise ProviderUnavailable(f"the provider could not be asked: {unasked}. Nothing was changed; run it again.")
    now = yield from Now()
    run = yield from OpenRun(window_of(day, tz, now), lease, binding, len(setup.gateway.evidence.paths))
    yield from renewing(run, throttled(pace.rate, _reconcile(setup, run, ages, pace.windows)))
    return run


def _reconcile(setup: Setup, run: OpenedRun, ages: Ages, windows: int) -> Flow[None]:
    while (yield from ForgetRuns(run)):
        pass
    why = yield from read_provider(setup, run, windows)
    listed = why is None
    yield from _match(setup, run)
    # What follows concludes from what was not listed, so everything must have been; and it asks on, which is of no use
    # with a provider that has fallen silent.
    if listed:
        why = yield from _finish_pending(setup, run)
        unseen = yield from _ask_for_unseen(setup, run)
        why = why or unseen
    yield from _flag_sets(run, ages)
    counts = yield from Count(run)
    yield from EndRun(run, why, listed, counts)


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
    live, charge = run.binding.live, pair.charge
    if charge is None:
        missing = match.importable(pair, live)
        charge = yield from Import(run, pair.intent_id, pair.attempt, missing, setup.gateway.api_version)
        if charge is None:
            return
    if charge.pending:
        proof = match.evidence(charge, pair.items, live)
        # What is under way is asked for by its intent, later and once: its charge would say the same in other words.
        told_later = charge.provider_intent_id is not None and isinstance(proof, _UNDER_WAY)
        if proof is not None and not told_later:
            charge = yield from _repair(setup, run, charge, Answer(proof))
    elif None in (charge.provider_intent_id, charge.provider_charge_id):
        proof = match.evidence(charge, pair.items, live)
        if proof is not None and NAMES[type(proof)] == charge.state:  # it names what the result itself had left out
            charge = yield from _repair(setup, run, charge, Answer(proof))
    found = tuple(match.disagreements(charge, pair.items, live, run.started_at))
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
        denied = answer.refused and answer.reply is ReplyClass.NOT_FOUND
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
    why, unanswered = None, 0
    for others in (False, True):
        after: Charge | None = None
        while page := (yield from ReadUnseen(run, others, after)):
            for charge in page:
                failed = yield from _ask_for_charge(setup, run, charge)
                why, unanswered = why or failed, 0 if failed is None else unanswered + 1
                if unanswered == UNANSWERED_IN_A_ROW_MAX:
                    return why
            after = page[-1]
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
    # Ours by its id, whatever became of its metadata.
    yield from KeepItem(run, item, charge.intent_id, charge.attempt)
    found = tuple(match.disagreements(charge, (item,), run.binding.live, run.started_at))
    if found:
        yield from Flag(run, found)
    return None


def _ask_for_success(setup: Setup, run: OpenedRun, charge: Charge) -> Flow[str | None]:
    """A success whose charge was never named: its intent is asked."""
    gateway = setup.gateway
    request = gateway.retrieve_request(charge.provider_intent_id or "")
    read = partial(gateway.read_intent, expected=setup.expected(charge))
    answer = yield from question(setup, request, read, ASKS_MAX)
    if isinstance(answer, CouldNotAsk):
        if answer.refused and answer.reply is ReplyClass.NOT_FOUND:
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
