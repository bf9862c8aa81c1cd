"""Every SQL statement of the nightly run. One function is one work in a Transaction; no network, no clock.

`performing.py` names the files whose functions perform a run's effects; each of those first renews the lease of the
run (`lease.py`), which fails once another call has it. What only looks at a run writes nothing, this neither. Who asks
what is to be looked into (`alerts.py`, `coverage.py`) loads none of it.
"""
