"""Mistakes about the nightly run."""

from tests.mutants.mutant import Mutant

FLOW = "reconcile/flow.py"
READING = "reconcile/reading.py"
ITEMS = "reconcile/store/items.py"
PARTS = "reconcile/store/parts.py"
BASE = "gateway_client/gateways/base.py"
MATCH = "reconcile/match.py"
WINDOW = "reconcile/window.py"
RUNS = "reconcile/store/runs.py"
FINDINGS = "reconcile/store/findings.py"

COMPARED = "if one is not None and one.stated in rows:"


def _uncompared(*fields: str) -> str:
    """A match that leaves these fields out."""
    none = ", ".join(f"{field}=None" for field in fields)
    return f"if one is not None and one.stated._replace({none}) in {{row._replace({none}) for row in rows}}:"


MUTANTS = (
    Mutant("what agrees need not be of the same currency", ITEMS, COMPARED, _uncompared("currency")),
    Mutant(
        "what agrees need not be the very charge that the row names",
        ITEMS,
        COMPARED,
        _uncompared("provider_intent_id", "provider_charge_id"),
    ),
    Mutant(
        "a list is read when one of its parts is",
        READING,
        "places = [place for place in places if not place.part.done] + cut",
        "places = [place for place in places if not any(one.part.done for one in asked)] + cut",
        kept="more pages than",
    ),
    Mutant(
        "reconciliation skips the window's edge",
        READING,
        "last_second = part.end - SECOND",
        "last_second = part.end - 2 * SECOND",
        incident="singer-io/tap-stripe #45: what was created exactly on the break of two windows was in neither",
        planted="reconciliation skips the window's edge",
    ),
    Mutant(
        "half-open edge shifted: a day ends at 23:59:59",
        WINDOW,
        "return Window(day, tz, start, end, whole=True)",
        "return Window(day, tz, start, end - _SECOND, whole=True)",
        incident="joshuaswarren/remnic #1508: an exclusive end of 23:59:59 left out the last second of each day",
    ),
    Mutant(
        "a window without its first second",
        READING,
        "if one.created_at is None or window.start <= one.created_at < window.end]",
        "if one.created_at is None or window.start < one.created_at < window.end]",
        also=(
            BASE,
            "(start <= self.oldest and self.newest < beyond)",
            "(start < self.oldest and self.newest < beyond)",
        ),
    ),
    Mutant(
        "a run reads one page of each list",
        READING,
        "if not page.has_more:",
        "if True:",
        incident="invertase/stripe-firebase-extensions #452: lists of Stripe were not paged",
    ),
    Mutant(
        "a list half read counts as read",
        PARTS,
        '"done": part.done,\n        }\n        for part in read',
        '"done": True,\n        }\n        for part in read',
        kept="a run dies after",
    ),
    Mutant(
        "what could not be read once is never read again",
        RUNS,
        "if unread is not None and effect.listed:",
        "if False:",
        kept="B2: a night meets",
    ),
    Mutant(
        "what a run could not read is not remembered",
        RUNS,
        'why = "; ".join(filter(None, (effect.why_incomplete, unread))) or None',
        "why = effect.why_incomplete",
        kept="B2: a night cannot",
    ),
    Mutant(
        "a run goes on under a lease that it has lost",
        "reconcile/store/lease.py",
        'runs.c.leased_by == bindparam("of_lease"), runs.c.ended_at.is_(None)',
        'bindparam("of_lease").is_not(None), runs.c.ended_at.is_(None)',
    ),
    Mutant(
        "an incomplete run is called complete",
        FLOW,
        "yield from EndRun(run, why, listed, counts)",
        "yield from EndRun(run, None, listed, counts)",
        kept="a list falls silent",
    ),
    Mutant(
        "the rest of an unfinished morning is the whole day",
        RUNS,
        'return bool(row["window_start"] == window.start and (row["window_end"] == window.end or not window.whole))',
        'return bool(row["window_start"] == window.start)',
    ),
    Mutant(
        "a differing amount is not flagged",
        MATCH,
        "    _amount_differs,\n    _currency_differs,\n",
        "    _currency_differs,\n",
    ),
    Mutant(
        "a differing currency is not flagged",
        MATCH,
        "    _amount_differs,\n    _currency_differs,\n",
        "    _amount_differs,\n",
    ),
    Mutant(
        "a differing result is not flagged",
        MATCH,
        "    _currency_differs,\n    _status_differs,\n",
        "    _currency_differs,\n",
    ),
    Mutant(
        "a charge that is gone is not flagged",
        FLOW,
        "if isinstance(item, Missing):\n        yield from Flag(run, (words.missing_at_provider(charge),))\n",
        "if isinstance(item, Missing):\n",
    ),
    Mutant(
        "could not ask is not there any more",
        FLOW,
        "if isinstance(item, Missing):",
        "if isinstance(item, Missing | CouldNotAsk):",
        kept="a charge that is listed late",
    ),
    Mutant(
        "not listed is not there any more",
        FLOW,
        'item = cast("Item | Missing | CouldNotAsk", (yield from asked))',
        "asked.close()\n    item = Missing()",
    ),
    Mutant(
        "two charges of one intent are not flagged",
        FINDINGS,
        ".having(func.count(_SUCCESSES.c.charge_id.distinct()) > 1)",
        ".having(func.count(_SUCCESSES.c.charge_id.distinct()) > 2)",
    ),
    Mutant(
        "what is pending for a day is not told",
        FINDINGS,
        "record_finding(tx, words.stale(charge), Action.FLAGGED, effect.run.run_id)",
        "pass",
    ),
    Mutant(
        "what is still pending is told to be over",
        FINDINGS,
        "findings.c.code == Code.STALE_PENDING, findings.c.closed_at.is_(None), ~_STALE.exists()",
        "findings.c.code == Code.STALE_PENDING, findings.c.closed_at.is_(None)",
    ),
    Mutant(
        "a missing row is not imported",
        FLOW,
        "charge = yield from Import(run, pair.intent_id, pair.attempt, missing, setup.gateway.api_version)",
        "charge = None",
    ),
    Mutant(
        "successes that were not listed are not asked for",
        FLOW,
        "unseen = yield from _ask_for_unseen(setup, run)",
        "unseen = None",
    ),
)
