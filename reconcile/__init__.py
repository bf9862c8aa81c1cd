"""The nightly reconciler: asks the provider what really happened, and repairs or flags where our rows disagree.

Nothing is here yet. The place is kept for `window.py`, `match.py` and `flow.py` (pure: the window, provider charge ×
local charge → findings, the story), `tables.py` and `store.py` (runs, items, findings), and `report.py`, `alerts.py`
and `job.py`. It imports `gateway_client`, never the other way round; charging and `resume` do not need it.
"""
