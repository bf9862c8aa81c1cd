"""How fast a worker may send: one token bucket and one rate. Pure: what was answered and what time it is comes in.

The bucket keeps retries from becoming a storm: each send or question that fails takes the token of the retry that it
needs, each charge that the provider answers gives a tenth back. An empty one stops the sending until the provider has
answered a question. The rate spreads a queue that an outage has left behind.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from gateway_client.errors import InvalidInput
from gateway_client.outcome import FAILURES, ReplyClass

TOKENS_MAX = 100  # ten, counted in tenths: money is not all that must be exact
_SUCCESS, _RETRY = 1, 10
SENDS_PER_S = 25.0  # of one worker; four of them use Stripe's hundred
PROBE_S = 60.0  # while nobody answers, one question in this time
_HOLD_MAX = timedelta(seconds=PROBE_S)


class Pace:
    """What one worker has seen of the provider, and when it may send next."""

    def __init__(self, sends_per_s: float = SENDS_PER_S) -> None:
        self._gap = timedelta(seconds=1 / checked_rate(sends_per_s))
        self._tokens = TOKENS_MAX
        self._free_at: datetime | None = None

    @property
    def empty(self) -> bool:
        """True when no retry is left: the provider is asked a question before anything is sent."""
        return self._tokens < _RETRY

    def saw(self, reply: ReplyClass, *, of_send: bool) -> None:
        """Count an exchange; a question that is answered proves little, and gives nothing back."""
        if reply in FAILURES:
            self._tokens = max(0, self._tokens - _RETRY)
        elif of_send:
            self._tokens = min(TOKENS_MAX, self._tokens + _SUCCESS)

    def drained(self) -> None:
        """The provider is down for sure."""
        self._tokens = 0

    def answered(self) -> None:
        """The provider has answered the question that was asked because the bucket was empty."""
        self._tokens = TOKENS_MAX

    def wait_s(self, now: datetime) -> float:
        """How long the next send has to wait for its turn; a clock that was set back delays it by a minute at most."""
        if self._free_at is None:
            return 0.0
        return max(timedelta(0), min(self._free_at - now, max(self._gap, _HOLD_MAX))).total_seconds()

    def sent(self, now: datetime) -> None:
        """A send was begun."""
        self._free_at = now + self._gap

    def held(self, now: datetime, seconds: float) -> None:
        """The provider asks for a pause (Retry-After)."""
        until = now + min(timedelta(seconds=seconds), _HOLD_MAX)
        self._free_at = max(self._free_at or until, until)


def checked_rate(sends_per_s: float) -> float:
    """Sends a second, or InvalidInput."""
    number = isinstance(sends_per_s, int | float) and not isinstance(sends_per_s, bool)
    if not number or not math.isfinite(sends_per_s) or not 0.01 <= sends_per_s <= 1000:
        raise InvalidInput("rate", "must be a number of sends a second from 0.01 to 1000")
    return float(sends_per_s)
