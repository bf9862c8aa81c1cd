"""The lease of a run, renewed through everything that takes long: before each request, and before each wait. No I/O."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from gateway_client.errors import ChargeOnceError
from gateway_client.flow.effects import Ask, Effect, Flow, MeetProvider, Wait
from reconcile.effects import OfRun, OpenedRun, Renew

LEASE_SLACK_S = 30.0  # a lease lasts for one request, at most the client's `timeout_s`, and this much longer


def renewing(run: OpenedRun, flow: Flow[None]) -> Flow[None]:
    """Do what the flow does, with at most one request or wait between two renewals of the lease of its run."""
    step: Callable[[Any], Effect[Any]] = flow.send
    result: Any = None
    renewed = True
    while True:
        try:
            effect = step(result)
        except StopIteration:
            return
        try:
            if isinstance(effect, Ask | MeetProvider | Wait):
                if not renewed:
                    yield from Renew(run)
                result = yield from _sliced(run, effect) if isinstance(effect, Wait) else effect
                renewed = False
            else:
                result = yield from effect
                renewed = renewed or isinstance(effect, OfRun)
            step = flow.send
        except ChargeOnceError as error:
            step, result = flow.throw, error


def _sliced(run: OpenedRun, wait: Wait) -> Flow[float]:
    """Wait in parts that each fit into the lease; return the seconds waited."""
    parts = max(1, math.ceil(wait.seconds_max / LEASE_SLACK_S))
    waited = 0.0
    for part in range(parts):
        if part:
            yield from Renew(run)
        waited += yield from Wait(wait.seconds_min / parts, wait.seconds_max / parts)
    return waited
