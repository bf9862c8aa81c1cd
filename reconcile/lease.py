"""The lease of a run, renewed through everything that takes long: before each request, and before each wait. No I/O."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from gateway_client.flow.effects import Ask, AskAll, Effect, Flow, MeetProvider, Wait
from reconcile.effects import LookAtRun, OfRun, OpenedRun, Renew
from reconcile.wrapping import wrapped

LEASE_SLACK_S = 30.0  # a lease lasts for one request, at most the client's `timeout_s`, and this much longer


def renewing(run: OpenedRun, flow: Flow[None]) -> Flow[None]:
    """Do what the flow does, with at most one request, wait or look between two renewals of the lease of its run."""
    return wrapped(flow, _Renewal(run).perform)


@dataclass
class _Renewal:
    """Whether the lease was renewed since the last thing that took long."""

    _run: OpenedRun
    _fresh: bool = True

    def perform(self, effect: Effect[Any]) -> Flow[Any]:
        """Do an effect, after a renewal when it takes long."""
        if not isinstance(effect, Ask | AskAll | MeetProvider | Wait | LookAtRun):
            result = yield from effect
            self._fresh = self._fresh or isinstance(effect, OfRun)
            return result
        if not self._fresh:
            yield from Renew(self._run)
        result = yield from _sliced(self._run, effect) if isinstance(effect, Wait) else effect
        self._fresh = False
        return result


def _sliced(run: OpenedRun, wait: Wait) -> Flow[float]:
    """Wait in parts that each fit into the lease; return the seconds waited."""
    parts = max(1, math.ceil(wait.seconds_max / LEASE_SLACK_S))
    waited = 0.0
    for part in range(parts):
        if part:
            yield from Renew(run)
        waited += yield from Wait(wait.seconds_min / parts, wait.seconds_max / parts)
    return waited
