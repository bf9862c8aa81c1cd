"""How often and how long: pure numbers for the loop in `flow/charging.py` and for `wire.py`. Nothing here sleeps."""

from __future__ import annotations

from dataclasses import dataclass

from gateway_client.errors import InvalidInput

TIMEOUT_S_MAX = 600.0  # of one exchange
BEGUN_S_MAX = 10.0  # between the commit of BeginSend and the first byte; a paused process must not send an old decision


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Limits of one call of `charge`; what is left over is finished by `resume`. Seconds, real numbers.

    Delays double from `delay_s_first` up to `delay_s_max`; each is drawn between half of it and all of it, so that a
    herd spreads. A provider's Retry-After is the least wait if it fits `retry_after_s_max`; a longer one ends the call.
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

    def delay_s(self, tries: int, retry_after_s: float | None) -> tuple[float, float] | None:
        """The least and the longest wait after `tries` tries, in seconds; None when the provider asks for too long."""
        least = retry_after_s or 0.0
        if least > self.retry_after_s_max:
            return None
        ours = min(self.delay_s_max, self.delay_s_first * 2.0 ** min(tries - 1, 30))
        return max(least, ours / 2), max(least * 1.1, ours)


def checked_timeout(timeout_s: float) -> float:
    """Return the seconds for one exchange. Raises InvalidInput."""
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or not 0 < timeout_s <= TIMEOUT_S_MAX:
        raise InvalidInput("timeout_s", f"must be more than 0 and at most {TIMEOUT_S_MAX:.0f} seconds")
    return float(timeout_s)
