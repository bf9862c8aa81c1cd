"""How often and how long: pure numbers for the retry loop of `flow.py`. Nothing here sleeps or draws chance."""

from __future__ import annotations

from dataclasses import dataclass

from gateway_client.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Limits of one call of `charge`; what is left over is finished by `resume`. Seconds, real numbers.

    Delays double from `delay_s_first` up to `delay_s_max`; the driver draws each between half of it and all of it
    (jitter, so that a herd spreads). A provider's Retry-After is honoured when it fits `retry_after_s_max`; a longer
    one ends the call.
    """

    sends_max: int = 4
    delay_s_first: float = 0.5
    delay_s_max: float = 8.0
    in_flight_s_max: float = 30.0  # how long a 409 ("being executed now") is waited out; these sends are not counted
    retry_after_s_max: float = 30.0

    def __post_init__(self) -> None:
        """Refuse limits that would send never, or wait without end."""
        if type(self.sends_max) is not int or not 1 <= self.sends_max <= 100:
            raise InvalidInput("sends_max", "must be a whole number from 1 to 100")
        for field in ("delay_s_first", "delay_s_max", "in_flight_s_max", "retry_after_s_max"):
            if not 0 <= getattr(self, field) <= 600:
                raise InvalidInput(field, "must be a number of seconds from 0 to 600")

    def delay_s(self, sends: int, retry_after_s: float | None) -> float | None:
        """The longest wait before the next send, after `sends` so far; None when the provider asks for too long."""
        if retry_after_s is not None and retry_after_s > self.retry_after_s_max:
            return None
        ours = min(self.delay_s_max, self.delay_s_first * 2.0 ** min(sends - 1, 30))
        return max(ours, retry_after_s or 0.0)
