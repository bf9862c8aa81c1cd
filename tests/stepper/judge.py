"""What must hold of each end: by the rows themselves, and beside the same functions done one after the other."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import Any

from sqlalchemy.exc import DBAPIError

from gateway_client.errors import StoreUnavailable
from gateway_client.flow.effects import Begun
from gateway_client.outcome import NAMES, Succeeded
from gateway_client.state import REFUSED, State
from tests.stepper.doing import Raised
from tests.stepper.ground import Image

BY_THE_DATABASE = frozenset({"first_sent_db_at", "leased_until", "resume_at", "backed_off_until"})
"""What holds the time of the database's clock: only whether there is one is compared."""

_TIMES = re.compile(r"\d{4}-\d\d-\d\d[T ][\d:.]+Z?(?: UTC)?|in \d+ s")


@dataclass(frozen=True)
class End:
    """How a run has ended: all rows, and what each caller was told."""

    rows: Any
    results: tuple[Any, ...]

    def __hash__(self) -> int:
        return hash(repr(self))


def end_of(image: Image, results: Sequence[Any]) -> End:
    """An end as it is compared."""
    return End({name: [plain(row) for row in rows] for name, rows in image.items()}, tuple(map(plain, results)))


def plain(value: Any) -> Any:
    """A value as it is compared: without what the database's clock says, or which objects it is made of."""
    if isinstance(value, Raised):
        return type(value.error).__name__, _TIMES.sub("…", str(value.error))
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        value = {one.name: getattr(value, one.name) for one in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): one is not None if name in BY_THE_DATABASE else plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return None if callable(value) else value


def broken(before: Image, after: Image, results: Sequence[Any], revised: int) -> list[str]:
    """What does not hold of the rows of an end, whatever one after the other would have come to."""
    return [
        *_left_to_the_caller(results),
        *_live(after),
        *_history(after),
        *_sends(before, after, results),
        *_revisions(before, after, revised),
    ]


def _left_to_the_caller(results: Sequence[Any]) -> list[str]:
    """No deadlock and no key that is taken is left to a caller: the library does such a work again."""
    errors = (result.error for result in results if isinstance(result, Raised))
    return [f"left to the caller: {one!r}"[:200] for one in errors if isinstance(one, DBAPIError | StoreUnavailable)]


def _live(after: Image) -> list[str]:
    refused = {str(state) for state in REFUSED}
    rows = (row for row in after["pending_charges"] if row["state"] not in refused)
    live = Counter((row["operation"], row["intent_id"]) for row in rows)
    return [f"{' '.join(which)} has {times} live attempts" for which, times in live.items() if times > 1]


def _history(after: Image) -> list[str]:
    """Each attempt's history has no gaps, each event begins where the last one ended, and the last one is the row's."""
    wrong = []
    for row in after["pending_charges"]:
        key = (row["intent_id"], row["operation"], row["attempt"])
        events = [one for one in after["paycli_events"] if (one["intent_id"], one["operation"], one["attempt"]) == key]
        if [one["event_no"] for one in events] != list(range(1, len(events) + 1)):
            wrong.append(f"the history of {key} has gaps")
        states = [one["state_after"] for one in events]
        if [one["state_before"] for one in events] != [None, *states[:-1]]:
            wrong.append(f"the history of {key} jumps")
        if not events or states[-1] != row["state"]:
            wrong.append(f"{key} is {row['state']}, and its history ends otherwise")
    return wrong


def _sends(before: Image, after: Image, results: Sequence[Any]) -> list[str]:
    """Each send that was let through has a row of its own, nothing else has, and what is paid is not sent again."""
    names = ("intent_id", "operation", "attempt", "send_no")
    old = {tuple(send[name] for name in names) for send in before["paycli_sends"]}
    new = Counter({tuple(send[name] for name in names): 1 for send in after["paycli_sends"]})
    new.subtract(dict.fromkeys(old, 1))
    let = [(one.charge, one.send_no) for one in results if isinstance(one, Begun)]
    begun = Counter((charge.intent_id, charge.operation, charge.attempt, number) for charge, number in let)
    wrong = [] if +new == begun else [f"sends let through: {dict(begun)}, on disk: {dict(+new)}"]
    paid = {
        (row["intent_id"], row["operation"]) for row in before["pending_charges"] if row["state"] == State.SUCCEEDED
    }
    return wrong + [f"{which[0]} was paid, and is sent again" for which in begun if which[:2] in paid]


def _revisions(before: Image, after: Image, revised: int) -> list[str]:
    """Each write of a row, or of its sends, has given it another revision."""
    old = {(row["intent_id"], row["operation"], row["attempt"]): row for row in before["pending_charges"]}
    gained = 0
    for row in after["pending_charges"]:
        was = old.get((row["intent_id"], row["operation"], row["attempt"]))
        gained += row["revision"] - (was["revision"] if was is not None else 1 + _claimed_and_sent(row, after))
        if was is not None and was["revision"] == row["revision"] and _written(was) != _written(row):
            return [f"{row['intent_id']} was written, and has its old revision"]
    return [] if gained == revised else [f"revisions gained: {gained}, rows written: {revised}"]


def _written(row: Mapping[str, Any]) -> dict[str, Any]:
    leases = ("leased_by", "leased_until", "resume_at")
    return {name: value for name, value in row.items() if name not in leases}


def _claimed_and_sent(row: Mapping[str, Any], after: Image) -> bool:
    """A row that was inserted with its first send has its second revision from the beginning."""
    events = [
        one
        for one in after["paycli_events"]
        if (one["intent_id"], one["operation"], one["attempt"]) == (row["intent_id"], row["operation"], row["attempt"])
        and one["event_no"] <= 2
    ]
    return [one["event"] for one in events] == ["claimed", "send begun"] and events[0]["at"] == events[1]["at"]


def outcomes_lost(after: Image, settled: Sequence[tuple[Any, Any]]) -> list[str]:
    """Each outcome that a caller was told is recorded is on its send, on its row, or in a finding."""
    wrong = []
    for effect, result in settled:
        if isinstance(result, Raised):
            continue
        name = NAMES[type(effect.answer.outcome)]
        ended = [
            send
            for send in after["paycli_sends"]
            if (send["intent_id"], send["operation"], send["attempt"], send["send_no"])
            == (effect.intent_id, effect.operation, effect.attempt, effect.send_no)
        ]
        if ended and ended[0]["ended_at"] is None:
            wrong.append(f"{name} of send {effect.send_no} is not on disk")
        if isinstance(effect.answer.outcome, Succeeded):
            charge = effect.answer.outcome.provider_charge_id
            rows = [row for row in after["pending_charges"] if row["attempt"] == effect.attempt]
            conflict = any(row["state"] == State.CONFLICT for row in rows) or any(
                one["closed_at"] is None for one in after["paycli_findings"]
            )  # a person looks, and says what is believed
            known = [one["provider_charge_id"] for one in (*rows, *after["paycli_findings"])]
            if charge not in known and not conflict:
                wrong.append(f"the success {charge} is neither on the row nor in a finding")
    return wrong
