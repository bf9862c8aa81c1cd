"""A worker of a schedule as it is seen from outside, and the checks S13, S22 and L4 to L7 of it.

What it has on lease, what is left in its bucket and when it may send next is counted here once more, from what it did
and was answered. The code under test never sees it. Without leases (S12) the checks of leases have nothing to say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

from gateway_client.gateways.base import NoReply, Reply
from tests.sim.ghost import Key, Row, Sent
from tests.sim.provider import TIMEOUT_S
from tests.sim.safety import SLACK_S, Broken

TOKENS_MAX, RETRY = 100, 10  # in tenths
OK = 200
WRONG_S_MAX = 300.0  # of a clock with which anything is sent
MINUTE_S, HELD_S_MAX = 60.0, 60.0
ASIDE_S_MAX = 60.0  # half of two minutes
BEGUN_S = 10.0
CALL_S_MAX = 2 * TIMEOUT_S + BEGUN_S  # the account's question, the way to the first byte, the send
EXACT_S = 5e-3  # how far two good clocks are apart: milliseconds are cut off


@dataclass
class Shift:
    """One worker, from its beginning to its end."""

    name: str
    rate: float
    leases: bool = True  # False: they are switched off
    clocks_right: bool = True
    stood_still: bool = False  # a machine did: its clocks do not tell that a lease is over
    told_to_end_by: int | None = None  # at which of its effects it is told to end
    told_to_end_at: float | None = None
    until: dict[Key, float] = field(default_factory=dict)  # the rows of its lease, and when that is over in truth
    batch: int = 0  # how many leases it had
    leased_at: float = -inf
    slept_s: float = 0.0  # in pauses, waits and questions whose key this is since then
    tokens: int = TOKENS_MAX
    failed: bool = False  # something was not answered since it took its rows
    asked_at: float | None = None  # the last question, while nobody answers
    free_at: float = -inf  # it was asked to wait until then (Retry-After)
    begun_at: float = -inf
    sends: Counter[tuple[int, Key]] = field(default_factory=Counter)  # in each lease
    last_sent: dict[Key, tuple[float, int]] = field(default_factory=dict)
    unrecorded: set[Key] = field(default_factory=set)  # whose last answer was not written down, as far as it knows
    told: set[Key] = field(default_factory=set)  # rows that it has said something of
    alive: bool = True
    sure: bool = True  # no commit of its leases was in doubt

    @property
    def empty(self) -> bool:
        """No token is left."""
        return self.tokens < RETRY

    def takes(self, keys: Iterable[Key], seconds: float, now: float) -> None:
        """Rows are leased."""
        self.until = dict.fromkeys(keys, now + seconds)
        self.leased_at, self.slept_s = now, 0.0
        self.batch += 1
        self.failed = False

    def asks(self, now: float, *, probe: bool) -> None:
        """A question leaves; `probe`: whose key this is, asked by a worker that sends nothing."""
        if probe:
            l5_goes_on_when_it_is_answered(self)
        if probe or self.asked_at is not None:
            s22_a_question_a_minute(self, now)
            self.asked_at = now
        else:
            self.slept_s = inf  # looking up takes as long as it takes, and the gate looks at the lease again

    def sends_one(self, sent: Sent) -> None:
        """A send leaves."""
        key = sent.attempt
        s13_within_its_lease(self, sent)
        s13_answered_within_its_lease(self, sent)
        s22_once_in_a_lease(self, sent)
        s22_set_aside(self, sent)
        self.sends[self.batch, key] += 1
        self.last_sent[key] = (sent.at, self.last_sent.get(key, (0.0, 0))[1] + 1)

    def begins(self, key: Key, now: float) -> None:
        """A send is written down."""
        s13_may_leave_within_its_lease(self, key, now)
        s22_no_send_without_a_token(self)
        s22_rate(self, now)
        s22_waits_as_it_was_asked_to(self, now)
        self.begun_at = now

    def saw(self, reply: Reply | NoReply, *, of_send: bool) -> None:
        """An answer, or none, has come."""
        self.failed |= isinstance(reply, NoReply) or reply.status != OK or not reply.body.startswith(b"{")
        if isinstance(reply, NoReply) or reply.status >= 500 or reply.status in (409, 429):
            self.tokens = max(0, self.tokens - RETRY)
        elif of_send:
            self.tokens = min(TOKENS_MAX, self.tokens + 1)

    def held(self, now: float, seconds: float) -> None:
        """The provider has asked for a pause."""
        self.free_at = max(self.free_at, now + min(seconds, HELD_S_MAX))

    def answered(self) -> None:
        """The provider answers the question after all."""
        self.tokens, self.asked_at = TOKENS_MAX, None


def s13_within_its_lease(shift: Shift, sent: Sent) -> None:
    """A worker's send leaves while its lease lasts, whatever it was paused for.

    A first lease may be written down by a clock that no answer of the provider has corrected yet; and a machine that
    stood still does not know that it did, until it asks for the time.
    """
    until = shift.until.get(sent.attempt)
    slack_s = 0.0 if shift.clocks_right else WRONG_S_MAX + SLACK_S
    if shift.leases and until is None:
        raise Broken("S13", f"{shift.name} sends {sent.attempt}, which it has not leased")
    if shift.leases and until is not None and sent.at >= until + slack_s and not shift.stood_still:
        raise Broken("S13", f"{shift.name} sends {sent.attempt} {sent.at - until:.1f} s after its lease was over")


def s13_may_leave_within_its_lease(shift: Shift, key: Key, now: float) -> None:
    """What a worker begins may be on its way for ten seconds, and its lease lasts as long."""
    left_s = shift.until.get(key, -inf) - now
    if shift.leases and shift.clocks_right and left_s < BEGUN_S - EXACT_S:
        raise Broken("S13", f"{shift.name} begins a send of {key} with {left_s:.1f} s of its lease left")


def s13_answered_within_its_lease(shift: Shift, sent: Sent) -> None:
    """What a worker sends without a pause is begun in the first half of its lease: a call fits into the other."""
    until = shift.until.get(sent.attempt, inf)
    if shift.leases and shift.clocks_right and until + shift.slept_s - sent.at < CALL_S_MAX - 1.0:
        raise Broken("S13", f"{shift.name} sends {sent.attempt} with {until - sent.at:.0f} s of its lease left")


def s13_one_holder(shift: Shift, others: Iterable[Shift], now: float) -> None:
    """Two workers never have one row at the same time."""
    for other in others:
        both = sorted(key for key in shift.until if other.until.get(key, -inf) > now + EXACT_S)
        if both and shift.leases and shift.clocks_right and other is not shift:
            raise Broken("S13", f"{shift.name} takes {both[0]}, which {other.name} has")


def s22_leaves_open_sends_alone(shift: Shift, sends: Iterable[Sent], now: float) -> None:
    """A worker takes no row whose answer may still come."""
    for sent in sends:
        waited_for = sent.open and sent.at > now - TIMEOUT_S
        if waited_for and sent.attempt in shift.until and shift.leases and shift.clocks_right:
            raise Broken("S22", f"{shift.name} takes {sent.attempt}, which {sent.call} has just sent")


def s22_once_in_a_lease(shift: Shift, sent: Sent) -> None:
    """A worker sends an attempt at most once for each time that it takes the row."""
    if shift.sends[shift.batch, sent.attempt]:
        raise Broken("S22", f"{shift.name} sends {sent.attempt} twice in one lease")


def s22_set_aside(shift: Shift, sent: Sent) -> None:
    """What a worker has sent in vain it leaves alone for a time that doubles; half of it when that is not recorded.

    What it could not give back it takes again at once.
    """
    at, times = shift.last_sent.get(sent.attempt, (-inf, 1))
    doubled = times - 1 - (times > 1 and sent.attempt in shift.unrecorded)
    least_s = min(2.0**doubled, ASIDE_S_MAX)
    if shift.leases and shift.clocks_right and shift.sure and sent.at - at < least_s - EXACT_S:
        raise Broken("S22", f"{shift.name} sends {sent.attempt} again after {sent.at - at:.1f} s")


def s22_no_send_without_a_token(shift: Shift) -> None:
    """With an empty bucket nothing is sent."""
    if shift.empty:
        raise Broken("S22", f"{shift.name} sends with {shift.tokens / 10} tokens left")


def s22_a_question_a_minute(shift: Shift, now: float) -> None:
    """While nobody answers, a worker asks once a minute."""
    if shift.asked_at is not None and now - shift.asked_at < MINUTE_S:
        raise Broken("S22", f"{shift.name} asks again after {now - shift.asked_at:.1f} s, and nobody answers")


def s22_rate(shift: Shift, now: float) -> None:
    """A worker's sends stay under its rate."""
    if shift.clocks_right and now - shift.begun_at < 1 / shift.rate - EXACT_S:
        raise Broken("S22", f"{shift.name} sends after {now - shift.begun_at:.2f} s, at {shift.rate} a second")


def s22_waits_as_it_was_asked_to(shift: Shift, now: float) -> None:
    """A worker waits for as long as the provider has asked for, up to a minute."""
    if shift.clocks_right and now < shift.free_at - EXACT_S:
        raise Broken("S22", f"{shift.name} sends {shift.free_at - now:.1f} s before the provider wants it to")


def l4_told_to_end(shift: Shift, what: str, since: float) -> None:
    """Whoever is told to end begins nothing more. `since`: from when on it could have heard."""
    if shift.told_to_end_at is not None and shift.told_to_end_at < since:
        raise Broken("L4", f"{shift.name} begins {what} {since - shift.told_to_end_at:.2f} s after it was told to end")


def l4_waits_no_more(shift: Shift) -> None:
    """Whoever is told to end hears it in the midst of a wait: no slice of one is begun afterwards."""
    if shift.told_to_end_at is not None:
        raise Broken("L4", f"{shift.name} waits on, and was told to end")


def l5_goes_on_when_it_is_answered(shift: Shift) -> None:
    """With tokens left, and after nothing but answers, no worker asks whether there is an answer."""
    if shift.asked_at is None and not shift.empty and not shift.failed:
        raise Broken("L5", f"{shift.name} does not go on, though it was answered")


def l6_rows_given_back(shift: Shift, store: Any) -> None:
    """Whoever ends properly leaves no row behind that others have to wait for."""
    left = store.read("SELECT intent_id, attempt FROM pending_charges WHERE leased_by = ?", shift.name)
    if left and shift.sure:
        raise Broken("L6", f"{shift.name} has ended, and still has {left}")


def l7_oldest_first(shift: Shift, keys: Sequence[Key], rows: dict[Key, Row]) -> None:
    """What was sent first is taken first, and what was never sent last."""
    firsts = [rows[key].first_sent_at or "never" for key in keys if key in rows]
    if firsts != sorted(firsts):
        raise Broken("L7", f"{shift.name} takes {list(keys)}, first sent at {firsts}")
