"""The plan that says which request gets which fault: scripts first, then rates.

What the faults are is told in `faults.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from gateway_client.sandbox.faults import FAULTS, take_apart
from gateway_client.sandbox.names import fraction
from gateway_client.sandbox.wire import Request


@dataclass
class _Script:
    fault: str
    times: int
    on: str


class FaultPlan:
    """Decides the fault of each request as it arrives. Not thread-safe: its owner holds a lock.

    Rates apply to POST only, scripts to whatever their pattern matches. A draw depends on the seed, the request and how
    often it was seen, never on other requests: so threads cannot change it.
    """

    def __init__(self, seed: int, rates: Mapping[str, float]) -> None:
        self._seed = seed
        self._scripts: list[_Script] = []
        self.rates = rates

    @property
    def rates(self) -> Mapping[str, float]:
        return self._rates

    @rates.setter
    def rates(self, rates: Mapping[str, float]) -> None:
        for fault, rate in rates.items():
            take_apart(fault)
            if not 0 <= rate <= 1:
                raise ValueError(f"the rate of {fault} must be from 0 to 1, not {rate}")
        # A thousandth of slack, because ten times 0.1 is not quite 1.
        if sum(rates.values()) > 1.001:
            raise ValueError(f"the rates add up to {sum(rates.values()):g}; one request gets one fault, so at most 1")
        self._rates = dict(rates)
        # In an order of their own, so that a seed draws the same however the rates were written.
        self._order = (*filter(rates.__contains__, FAULTS), *sorted(rates.keys() - FAULTS.keys()))

    def script(self, fault: str, times: int, on: str) -> None:
        take_apart(fault)
        if times < 1:
            raise ValueError(f"times must be at least 1, not {times}")
        self._scripts.append(_Script(fault, times, on))

    def draw(self, request: Request, identity: str, nth: int) -> str | None:
        """The fault of the `nth` arrival of `identity`, which is the request's key, or all that it asks."""
        for script in self._scripts:
            if script.times and fnmatchcase(f"{request.method} {request.path}", script.on):
                script.times -= 1
                return script.fault
        if request.method != "POST":
            return None
        left = fraction(self._seed, "fault", identity, nth)
        for fault in self._order:
            left -= self._rates[fault]
            if left < 0:
                return fault
        return None
