"""The commands that only read: show, pending, states. They need the database and no key, and ask nobody else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from cli import output, words
from cli.ages import OlderThan, read_limits
from cli.charging import IntentId, Json
from cli.settings import open_store, read_settings

if TYPE_CHECKING:
    from gateway_client import Charge
    from gateway_client.charge import Place
    from gateway_client.db import Database

_SEND = "send_no ended_at outcome reason status request_id original_request replayed elapsed_ms actor".split()
_EVENT = "event_no event state_before state_after reason request_id actor".split()
_PAGE_ROWS_MAX = 500


def show(intent_id: IntentId, as_json: Json = False) -> int:
    """Show every attempt of an intent, with its sends and events."""
    from gateway_client import UnknownIntent
    from gateway_client.intent import check_intent_id
    from gateway_client.store import read_attempts, read_history

    check_intent_id(intent_id)
    settings = read_settings()
    with closing(open_store(settings)) as database:
        found = database.transact(
            lambda tx: [(each, *read_history(tx, each)) for each in read_attempts(tx, intent_id)],
            write=False,
        )
    if not found:
        raise UnknownIntent(f"{intent_id} is not in {settings.place}")
    for one, sends, events in found:
        history = _history(sends, events)
        if as_json:
            output.json_line({**one.as_json(), "history": history})
        else:
            _show(one, history, newest=one == found[-1][0])
    return 0


def pending(older_than: OlderThan = None, as_json: Json = False) -> int:
    """List every pending charge, oldest first. Exit code: 1 when one is older than its state may be."""
    from gateway_client.charge import age, iso

    ages = read_limits(older_than).pending
    now = datetime.now(UTC)
    rows: list[tuple[str, ...]] = []
    count = over = 0
    with closing(open_store(read_settings())) as database:
        for one in _pending(database):
            count += 1
            over += now - one.created_at > ages[one.state]
            if as_json:
                output.json_line(one.as_json())
            else:
                passed, last = age(now - one.created_at), f"not to be sent after {iso(one.not_after)}"
                rest = f"next try {iso(one.resume_at)}" if words.resting(one) else None
                told = (one.reason, last if one.not_after else None, words.lease(one), rest)
                why = "; ".join(text for text in told if text)
                rows.append((passed, one.state, one.intent_id, str(one.attempt), words.money(one), why))
    if rows:
        output.table(("age", "state", "intent", "attempt", "amount", "reason"), rows, right=(0, 3, 4))
    output.say(f"{count} pending, {over} for too long" if count else "nothing is pending")
    return 1 if over else 0


def states() -> int:
    """Print the diagram of the states.

    It is made from the very table that the program runs on.
    """
    from gateway_client.state import diagram

    output.text_of(diagram())
    return 0


def _pending(database: Database) -> Iterator[Charge]:
    """Every pending charge, page by page: an outage can leave many."""
    from gateway_client.store.reading import read_page

    after: Place | None = None
    while True:
        page = database.transact(partial(read_page, after=after, rows_max=_PAGE_ROWS_MAX), write=False)
        yield from page
        if len(page) < _PAGE_ROWS_MAX:
            return
        after = page[-1].place


def _history(sends: Any, events: Any) -> list[dict[str, Any]]:
    """Sends and events in the order of their times; an event comes before the send that it let through."""
    entries = [("event", event["at"], event, _EVENT) for event in events]
    entries += [("send", send["begun_at"], send, _SEND) for send in sends]
    entries.sort(key=lambda entry: entry[1])  # stable: of one moment, events first
    return [{"kind": kind, "at": _plain(at), **_fields(row, names)} for kind, at, row, names in entries]


def _fields(row: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    return {name: _plain(row[name]) for name in names}


def _plain(value: Any) -> Any:
    from gateway_client.charge import iso

    return iso(value) if isinstance(value, datetime) else value


def _show(one: Charge, history: list[dict[str, Any]], *, newest: bool) -> None:
    for line in words.block(one, newest=newest):
        output.data(line)
    output.data(f"  key      {one.idempotency_key}")
    rows = []
    for entry in history:
        if entry["kind"] == "send":
            answer = " ".join(str(entry[name]) for name in ("status", "request_id") if entry[name] is not None)
            replayed = " (a replay of the first answer)" if entry["replayed"] else ""
            what = f"{entry['outcome'] or 'open: no outcome is on disk'} {answer}".strip() + replayed
            rows.append((f"    {entry['at']}", f"send {entry['send_no']}", entry["actor"], what))
        else:
            before, after = entry["state_before"], entry["state_after"]
            moved = after if before in (None, after) else f"{before} → {after}"
            why = f": {entry['reason']}" if entry["reason"] else ""
            rows.append((f"    {entry['at']}", entry["event"], entry["actor"], f"{moved}{why}"))
    output.table(("    time", "event", "by", "result"), rows)
