"""The commands of the night: reconcile, findings, resolve. What is found, and what becomes of it, is `reconcile`'s."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from cli import output
from cli.ages import OlderThan, read_limits
from cli.charging import Json
from cli.settings import open_client, open_store, read_settings

if TYPE_CHECKING:
    from gateway_client.db import Database
    from gateway_client.finding import Finding
    from reconcile import RunResult

REQUESTS_PER_S, WINDOWS = 20.0, 4
_SHOWN_MAX = 20  # findings in the summary; the rest are a command away
_PAGE_ROWS_MAX = 500


def reconcile(
    date: Annotated[
        str | None,
        typer.Option(metavar="DAY", help="As 2026-11-20, today or yesterday. Without it: every day that is due."),
    ] = None,
    tz: Annotated[str, typer.Option(metavar="ZONE", help="Whose day it is, as Europe/Berlin.")] = "UTC",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")] = False,
    rate: Annotated[float, typer.Option(metavar="N", help="Requests a second at most.")] = REQUESTS_PER_S,
    windows: Annotated[int, typer.Option(metavar="N", help="Parts of a long list that are read at once.")] = WINDOWS,
    older_than: OlderThan = None,
    as_json: Json = False,
) -> int:
    """Compare days with the provider: repair what its evidence repairs, flag the rest. It never moves money.

    Without --date: the days since the first complete run that are over and have none, and those begun and never
    completed, oldest first, at most 31 in one call; when there are none yesterday (today, of a younger store).

    Exit code, the worst of the days: 0 also after repairs; 1 while any finding is open; 3 when not everything could be
    read: run it again, it goes on where it stopped.
    """
    from reconcile import Due, due, run
    from reconcile.window import parse_day

    ages = read_limits(older_than).pending
    given = Due((parse_day(date, tz, datetime.now(UTC)),)) if date is not None else None
    worst = 0
    with closing(open_client(read_settings())) as client:
        wanted = given or due(client, tz)
        for day in wanted.days:
            with output.progress(f"objects of the provider's {day}", None) as advance:
                result = run(client, day, tz, dry_run, ages=ages, rate=rate, windows=windows, on_progress=advance)
            worst = max(worst, _told(result, as_json=as_json))
    if wanted.left:
        output.say(f"{wanted.left} more days are due: run `paycli reconcile --tz {tz}` again")
    return worst


def _told(result: RunResult, *, as_json: bool) -> int:
    """Tell what a run came to; its exit code."""
    if as_json:
        output.json_line(result.as_json())
    else:
        summary(result)
    if not result.complete:
        output.error(
            f"incomplete: {result.why_incomplete}. What was read is kept, and nothing was concluded from what was not. "
            f"Run `paycli reconcile --date {result.day} --tz {result.tz}`: it goes on where this one stopped."
        )
        return 3
    return 1 if result.open_findings else 0


def findings(
    closed: Annotated[bool, typer.Option("--all", help="Those repaired and closed, too.")] = False,
    as_json: Json = False,
) -> int:
    """List the open findings, oldest first, our side next to the provider's. Exit code: 1 when any is open."""
    count = 0
    found: list[Finding] = []
    with closing(open_store(read_settings())) as database:
        for one in findings_of(database, closed=closed):
            count += one.open
            if as_json:
                output.json_line(one.as_json())
            else:
                found.append(one)
    if found:
        table_of(found)
    output.say(f"{count} open; close one with `paycli resolve ID --because …`" if count else "no finding is open")
    return 1 if count else 0


def resolve(
    finding_id: Annotated[str, typer.Argument(metavar="ID", help="The finding's id, as `paycli findings` lists it.")],
    because: Annotated[str, typer.Option(metavar="TEXT", help="Why it is settled; kept with your name and the time.")],
) -> int:
    """Close a finding that a person has settled. It changes no charge and deletes nothing."""
    from gateway_client.intent import check_text
    from gateway_client.store.findings import close_finding

    check_text("ID", finding_id)
    check_text("--because", because)
    close = partial(close_finding, finding_id=finding_id, because=because)
    with closing(open_store(read_settings())) as database:
        one, ours = database.transact(close, time=lambda: datetime.now(UTC))
    if ours:
        output.data(f"closed {one.id} ({one.code} of {one.intent_id})")
    else:
        output.data(f"{one.id} was {_fate(one)}")
    return 0


def table_of(found: list[Finding], write: Callable[[str], None] = output.data) -> None:
    """Findings, our side next to the provider's."""
    rows = [(one.id, _code(one), one.intent_id, one.here, one.there, _fate(one)) for one in found]
    head, *lines = output.aligned((("id", "code", "intent", "here", "at the provider", "open for, or closed"), *rows))
    write(head)
    for line, one in zip(lines, found, strict=True):
        write(line)
        write(output.harmless(f"    {one.detail}"))


def _code(one: Finding) -> str:
    return f"{one.code}{', critical' if one.critical else ''}"


def findings_of(database: Database, *, closed: bool) -> Iterator[Finding]:
    """Every finding, page by page; those repaired and closed, too, when `closed`."""
    from gateway_client.store.findings import read_findings

    after: tuple[datetime, str] | None = None
    while True:
        page = database.transact(
            partial(read_findings, closed=closed, after=after, rows_max=_PAGE_ROWS_MAX), write=False
        )
        yield from page
        if len(page) < _PAGE_ROWS_MAX:
            return
        after = (page[-1].found_at, page[-1].id)


def _fate(one: Finding) -> str:
    """Since when it is open, or by whom and why it was closed."""
    from gateway_client.charge import age, iso

    if one.open:
        return age(datetime.now(UTC) - one.found_at)
    return f"closed {iso(one.closed_at)} by {one.closed_by}: {one.because}"


def summary(result: RunResult, write: Callable[[str], None] = output.data) -> None:
    """What a tired person needs, the verdict first."""
    from gateway_client.charge import iso

    state, so_far = ("complete", "") if result.complete else ("INCOMPLETE", " so far")
    write(f"{result.day} ({result.tz}): {state}{', a dry run: nothing was changed' if result.dry_run else ''}")
    write(f"  window    {iso(result.window_start)} to {iso(result.window_end)}")
    write(
        f"  provider  {result.provider_charges} charges{so_far}: {result.matched} matched, {result.foreign} foreign, "
        f"{result.provider_charges - result.matched - result.foreign} with a finding"
    )
    write(f"  here      {result.local_charges} charges")
    if result.unreadable:
        ids, more = result.unreadable_ids, result.unreadable - len(result.unreadable_ids)
        told = ", ".join(ids) + (f" and {more} more" if more else "")
        write(
            f"  unreadable {result.unreadable} object{'' if result.unreadable == 1 else 's'} of the provider's: {told}"
        )
    words = _DONE | ({"flagged": "would flag"} if result.dry_run else {})
    for action, word in words.items():
        _list([one for one in result.findings if one.action == action], word, write, dry_run=result.dry_run)
    closed = sum(one.action == "recorded" for one in result.findings)
    if closed:
        write(f"  found again, and closed by a person before: {closed}")
    if result.complete and not result.news:
        known = "all that is flagged was known before" if result.flagged else "nothing is flagged"
        write(f"  nothing changed: no repair was needed, and {known}")
    if result.open_findings:
        if result.dry_run:
            write(f"  findings would be open: {result.open_findings}")
        else:
            write(f"  findings open: {result.open_findings}; a person must look, `paycli findings`")


_DONE = {"repaired": "repaired", "would_repair": "would repair", "flagged": "flagged"}


def _list(found: list[Finding], word: str, write: Callable[[str], None], *, dry_run: bool) -> None:
    if not found:
        return
    write(f"  {word} {len(found)}:")
    rows = [(f"    {one.id}", _code(one), one.intent_id, f"here {one.here}", f"there {one.there}") for one in found]
    for line in output.aligned(rows[:_SHOWN_MAX]):
        write(line)
    if len(found) > _SHOWN_MAX:
        where = "--json has them all" if dry_run else "`paycli findings --all`"  # of a dry run nothing is kept
        write(f"    and {len(found) - _SHOWN_MAX} more: {where}")
