"""The faults by name, and the plan that says which request gets which: scripts first, then rates.

What a fault does to a request is told in `sandbox.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from gateway_client.sandbox.names import fraction
from gateway_client.sandbox.wire import Request

FAULTS: dict[str, str] = {
    "refused": "the connection is refused before anything is read (on a port: reset); not executed",
    "lost_request": "the request arrives, is never executed, and the connection breaks",
    "lost_reply": "executed and saved, but the answer never arrives",
    "error_500": "a saved 500 and nothing charged, now or ever",
    "error_500_charged": "a saved 500, although it charged",
    "error_500_later": "a saved 500; the charge appears after roll_forward_s (2 days) on the sandbox's clock",
    "unavailable_503": "a 503, neither executed nor saved",
    "in_use_409": "a 409 idempotency_key_in_use, neither executed nor saved",
    "rate_limited_429": "a 429 before the idempotency layer, neither executed nor saved",
    "slow": "executes for slow_s (1 s) with its key in use, then answers",
    "cut_body": "executed and saved; the answer's body breaks off in the middle",
    "html_body": "executed and saved; a 200 with an HTML page arrives instead of the answer",
    "duplicate": "delivered twice; the second delivery is answered from the first one's saved answer",
    "late": "the connection breaks now; the request is executed after late_s (600 s) on the sandbox's clock",
    "wrong_amount": "executed and saved rightly, but the answer that arrives names another amount",
    "redirect_302": "a redirect to another address, neither executed nor saved",
}
"""Name -> what happens. On a GET nothing is executed or saved, so a fault shows only what the client would see."""


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
            _known(fault)
            if not 0 <= rate <= 1:
                raise ValueError(f"the rate of {fault} must be from 0 to 1, not {rate}")
        # A thousandth of slack, because ten times 0.1 is not quite 1.
        if sum(rates.values()) > 1.001:
            raise ValueError(f"the rates add up to {sum(rates.values()):g}; one request gets one fault, so at most 1")
        self._rates = dict(rates)

    def script(self, fault: str, times: int, on: str) -> None:
        _known(fault)
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
        for fault in FAULTS:
            left -= self._rates.get(fault, 0.0)
            if left < 0:
                return fault
        return None


def _known(fault: str) -> None:
    if fault not in FAULTS:
        raise ValueError(f"no fault is called {fault!r}; there are {', '.join(FAULTS)}")
