"""Mistakes about the nightly run."""

from tests.mutants.mutant import Mutant

FLOW = "reconcile/flow.py"
MATCH = "reconcile/match.py"
WINDOW = "reconcile/window.py"
RUNS = "reconcile/store/runs.py"
FINDINGS = "reconcile/store/findings.py"

MUTANTS = (
    Mutant(
        "reconciliation skips the window's edge",
        FLOW,
        "last_second = window.end - timedelta(seconds=1)",
        "last_second = window.end - timedelta(seconds=2)",
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
        FLOW,
        "return item.created_at is None or run.window.start <= item.created_at < run.window.end",
        "return item.created_at is None or run.window.start < item.created_at < run.window.end",
    ),
    Mutant(
        "a run reads one page of each list",
        FLOW,
        "if not page.has_more:",
        "if True:",
        incident="invertase/stripe-firebase-extensions #452: lists of Stripe were not paged",
    ),
    Mutant(
        "a list half read counts as read",
        FLOW,
        "yield from SavePage(run, inside, unread, number + (not page.has_more), cursor if page.has_more else None)",
        "yield from SavePage(run, inside, unread, number + 1, cursor if page.has_more else None)",
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
        RUNS,
        'runs.c.leased_by == bindparam("of_lease"), runs.c.ended_at.is_(None)',
        'bindparam("of_lease").is_not(None), runs.c.ended_at.is_(None)',
    ),
    Mutant(
        "an incomplete run is called complete",
        FLOW,
        "yield from EndRun(run, why, listed)",
        "yield from EndRun(run, None, listed)",
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
        "record_finding(session, words.stale(charge), Action.FLAGGED, now, effect.run.run_id)",
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
