"""Every SQL statement of the nightly run. One function is one transaction's work on a Session; no network, no clock.

`perform` first renews the lease of the run, which fails once another call has it, then does what the effect stands for.
What only looks at a run writes nothing, this neither. Who asks what is to be looked into (`alerts.py`) loads none of
it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reconcile.store.coverage import read_coverage
    from reconcile.store.performing import perform
    from reconcile.store.runs import forget_unfinished, read_beginning, read_result, release
else:
    from gateway_client.on_demand import on_demand

    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "forget_unfinished": "reconcile.store.runs",
            "perform": "reconcile.store.performing",
            "read_beginning": "reconcile.store.runs",
            "read_coverage": "reconcile.store.coverage",
            "read_result": "reconcile.store.runs",
            "release": "reconcile.store.runs",
        },
    )

__all__ = ["forget_unfinished", "perform", "read_beginning", "read_coverage", "read_result", "release"]
