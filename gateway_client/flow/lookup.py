"""Looking up: one reading of the provider's lists for all charges that wait for proof, and what it settles.

Finding is evidence; not finding is only ever judged by `absence.py`. "Could not ask" is never "does not exist".
"""

from __future__ import annotations

from datetime import datetime, timedelta

from gateway_client.absence import Scan
from gateway_client.charge import Charge
from gateway_client.flow.asking import Setup, question
from gateway_client.flow.effects import Flow, Now, ProveAbsent, Settle
from gateway_client.outcome import Answer, CouldNotAsk

LOOK_UP_AHEAD = timedelta(minutes=1)  # the provider's `created` may be ahead of our estimate of its time


def look_up(setup: Setup, charges: list[Charge]) -> Flow[tuple[list[Charge], Scan]]:
    """Read the provider's lists once for all `charges`: what is found is settled, what is proven absent as well."""
    profile = setup.gateway.profile
    now = yield from Now()
    earliest = min(charge.first_sent_at or charge.created_at for charge in charges)
    created_from = earliest - profile.created_before_first_send
    wanted = {charge.idempotency_key: charge for charge in charges}
    evidence: dict[str, Answer] = {}
    strangers: set[tuple[int, str]] = set()
    why_incomplete: str | None = None
    for path in setup.gateway.lists:
        if len(evidence) < len(wanted):
            why = yield from _read_list(setup, path, created_from, now + LOOK_UP_AHEAD, wanted, evidence, strangers)
            why_incomplete = why_incomplete or why
    scan = Scan(created_from, now, why_incomplete, evidence, frozenset(strangers))
    results: list[Charge] = []
    for charge in charges:
        answer = evidence.get(charge.idempotency_key)
        if answer is not None:
            results.append((yield from settle(setup, charge, answer)))
        elif charge.last_sent_at is not None:
            results.append((yield from ProveAbsent(charge.intent_id, charge.attempt, profile, scan)))
        else:
            results.append(charge)
    return results, scan


def _read_list(
    setup: Setup,
    path: str,
    created_from: datetime,
    created_to: datetime,
    wanted: dict[str, Charge],
    evidence: dict[str, Answer],
    strangers: set[tuple[int, str]],
) -> Flow[str | None]:
    """Page through one list into `evidence` and `strangers`; why it was not read to its end, or None."""
    gateway = setup.gateway
    after: str | None = None
    for _ in range(gateway.profile.lookup_pages_max):
        request = gateway.list_request(path, created_from, created_to, after)
        page = yield from question(setup, request, lambda reply: gateway.read_page(path, reply, wanted))
        if isinstance(page, CouldNotAsk):
            return page.reason
        for item in page.items:
            if item.key is None:
                strangers.add((item.amount, item.currency))
            elif item.key not in evidence or item.moved:
                evidence[item.key] = item.answer  # of several objects with one key, a success counts
        if not page.has_more or len(evidence) == len(wanted):
            return None
        if page.last_id in (None, after):
            return "the provider's list does not advance"
        after = page.last_id
    return f"more than {gateway.profile.lookup_pages_max} pages; the nightly run reads further"


def may_send_after(scan: Scan, charge: Charge) -> bool:
    return not charge.final and scan.why_incomplete is None and charge.idempotency_key not in scan.found


def settle(setup: Setup, charge: Charge, answer: Answer, send_no: int | None = None) -> Flow[Charge]:
    """Record an answer about a charge: of one of its sends, or evidence from a question."""
    saves = setup.gateway.profile.saves_declines
    return (yield from Settle(charge.intent_id, charge.attempt, answer, saves, send_no))
