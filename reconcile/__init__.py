"""The nightly reconciler: asks the provider what really happened, and repairs or flags where our rows disagree.

    run(client, day, tz, dry_run) -> RunResult; `await run_async(…)` with an AsyncClient
    catch_up(client, tz, dry_run) -> RunResult of each day that waits for a complete run; due(client, tz) names them

Pure: `flow.py` is the story, of `effects.py`; `window.py` says which seconds, `match.py` what is proven of an attempt
by all that the provider has of it, `words.py` how that is told, `report.py` what a run came to. Not pure: `store/` has
the SQL, `job.py` performs a run, `missed.py` those of the days that were missed. `alerts.py` and `webhook.py` wake
somebody.

Where each code comes from:

    outcome_recovered                 store/repairs.py, a settled row or a proven absence
    missing_locally                   store/repairs.py, an imported row, or one that could not be
    amount_, currency_mismatch        match.py, one attempt; store/repairs.py, one that was asked for
    status_mismatch                   match.py
    missing_at_provider               flow.py, a 404
    duplicate_charge, stale_pending   store/findings.py, seen only in sets

It imports `gateway_client`, never the other way round; charging and `resume` do not need it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reconcile.job import run, run_async
    from reconcile.missed import Due, catch_up, due
    from reconcile.report import RunResult
else:  # as in `gateway_client`: `paycli alerts` reconciles nothing
    from gateway_client.on_demand import on_demand

    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "Due": "reconcile.missed",
            "RunResult": "reconcile.report",
            "catch_up": "reconcile.missed",
            "due": "reconcile.missed",
            "run": "reconcile.job",
            "run_async": "reconcile.job",
        },
    )

__all__ = ["Due", "RunResult", "catch_up", "due", "run", "run_async"]
