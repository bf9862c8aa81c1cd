"""The bounds of the published fault model, and every length that is derived from them, with its sum. Pure.

A provider's numbers are in its gateway; what a length is for is said here once, and the documents print `table()`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Bounds:
    """What may take how long, at most. Outside of these the promise does not hold, and reconciliation tells."""

    key_pruned_after: timedelta  # from the first receipt of a key: later the same key may be a new request
    hold: timedelta  # a request on its way, from our last check of the time until the provider has it
    first_byte: timedelta  # from the commit that begins a send to its first byte: later it does not leave
    execution: timedelta  # how long the provider executes one request
    clock_tolerance: timedelta  # our estimate of the provider's time, its `Date`, and its `created`, each
    list_lag: timedelta  # how late an object is listed
    roll_forward: timedelta  # after a 500: until its charge may still appear

    @property
    def key_life(self) -> timedelta:
        """From the first send: how long the same key may be sent again."""
        return self.key_pruned_after - self.hold - self.first_byte - 2 * self.clock_tolerance

    @property
    def quiet(self) -> timedelta:
        """From the moment after which no send can begin: until what any send has done is listed."""
        return self.hold + self.first_byte + self.execution + self.list_lag + 2 * self.clock_tolerance

    @property
    def quiet_unproven(self) -> timedelta:
        """From the same moment, beside a send without a proven result: until the charge of a 500 is listed.

        Seen or not: a send may be delivered twice, and the 500 that we saw need not be the one that is rolled forward.
        """
        return self.quiet + self.roll_forward

    @property
    def look_back(self) -> timedelta:
        """How far before the first send a reading begins: the two clocks, and a third of them for good measure."""
        return 3 * self.clock_tolerance

    @property
    def look_ahead(self) -> timedelta:
        """How far after our estimate of the provider's time a reading ends."""
        return 2 * self.clock_tolerance

    def table(self) -> str:
        """The bounds and what is derived from them, as the documents show it."""
        given = {
            "a key is pruned": (self.key_pruned_after, "after its first receipt, at the earliest"),
            "hold": (self.hold, "a request on its way, from our last check of the time to its receipt"),
            "first byte": (self.first_byte, "from the commit of a send to its first byte; later it does not leave"),
            "execution": (self.execution, "of one request at the provider"),
            "clock tolerance": (self.clock_tolerance, "our estimate of its time, its `Date`, its `created`: each"),
            "list lag": (self.list_lag, "how late an object is listed"),
            "roll-forward": (self.roll_forward, "after a 500, until its charge may still appear"),
        }
        derived = {
            "key life": (self.key_life, "pruned − hold − first byte − 2 × clock tolerance"),
            "quiet time": (self.quiet, "hold + first byte + execution + list lag + 2 × clock tolerance"),
            "quiet time, unproven": (self.quiet_unproven, "quiet time + roll-forward"),
            "look-back": (self.look_back, "3 × clock tolerance"),
            "look-ahead": (self.look_ahead, "2 × clock tolerance"),
        }
        rows = ["| length | at most | what it is |", "|---|---|---|"]
        rows += [f"| {name} | {hours(length)} | {what} |" for name, (length, what) in given.items()]
        rows += ["", "| derived | is | from |", "|---|---|---|"]
        rows += [f"| {name} | {hours(length)} | {what} |" for name, (length, what) in derived.items()]
        return "\n".join(rows) + "\n"


def hours(length: timedelta) -> str:
    """A length as hours, minutes and seconds: 22:49:50."""
    seconds = int(length.total_seconds())
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
