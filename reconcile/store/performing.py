"""Every effect of a run with the function that performs it: importing this registers them."""

from reconcile.store import counts, findings, forgetting, items, lease, repairs, runs  # noqa: F401
