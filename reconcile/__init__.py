"""The nightly reconciler: asks the provider what really happened, and repairs or flags where our rows disagree.

    run(client, day, tz, dry_run) -> RunResult

`window.py`, `match.py` and `flow.py` are pure: the window, an attempt of ours beside what the provider has of it, the
story. `store/` holds its SQL, `job.py` performs it. It imports `gateway_client`, never the other way round; charging
and `resume` do not need it.
"""

from reconcile.job import run
from reconcile.report import RunResult

__all__ = ["RunResult", "run"]
