"""A breaker: when the provider refuses the account, or charge after charge in the same words, the others wait. No I/O.

What a refusal of one charge means is the gateway's to say; this only counts.
"""

from __future__ import annotations

from gateway_client.errors import AccountRefused
from gateway_client.flow.charging import Finished
from gateway_client.state import State

EQUAL_REFUSALS_MAX = 5  # rejections in a row with the same reason: then it is not the charges


class Breaker:
    """Counts what becomes of charge after charge; raises AccountRefused when the next one would fare the same."""

    def __init__(self) -> None:
        self._reason: str | None = None
        self._times = 0

    def check(self, done: Finished) -> None:
        """Take over how one charge ended. Raises AccountRefused; the charges themselves are as they are."""
        if done.refused is not None:
            raise AccountRefused(
                f"{done.refused}. {done.charge.intent_id} is {done.charge.state} and is sent again when this is "
                "mended; nothing else was sent."
            )
        if done.charge.state is State.REJECTED:
            self._times = self._times + 1 if done.charge.reason == self._reason else 1
            self._reason = done.charge.reason
        elif not done.charge.pending:
            self._times = 0
        if self._times >= EQUAL_REFUSALS_MAX:
            raise AccountRefused(
                f"the provider has rejected {self._times} charges in a row in the same words: {self._reason}. That is "
                "hardly about each of them, so nothing else was sent; look at the account, then run it again."
            )
