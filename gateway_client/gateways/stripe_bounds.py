"""Stripe's numbers in the published fault model; what follows from them is `bounds.py`'s."""

from __future__ import annotations

from datetime import timedelta

from gateway_client.bounds import Bounds

BOUNDS = Bounds(
    key_pruned_after=timedelta(hours=24),  # "at least 24 hours old", counted from first receipt (STRIPE.md §1.6)
    hold=timedelta(hours=1),
    first_byte=timedelta(seconds=10),
    execution=timedelta(seconds=90),  # Stripe cuts a request after 80 s
    clock_tolerance=timedelta(minutes=5),
    list_lag=timedelta(hours=2),  # lists are read-after-write (STRIPE.md §3); in incidents they were up to hours behind
    roll_forward=timedelta(hours=72),
)
