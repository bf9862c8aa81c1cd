"""What must hold of each part of a state and of the whole: the checks S1–S3, S7–S9 and S16 of FAULTS §2.

Each is made once for what it is about, and raises `Broken`. That the history tells of each change is looked at in
`contents.py`.
"""

from __future__ import annotations

from dataclasses import replace

from gateway_client.charge import Charge
from gateway_client.errors import (
    AccountRefused,
    AttemptRefused,
    NeedsPerson,
    OutcomeNotRecorded,
    ProviderUnavailable,
    StoreUnavailable,
)
from gateway_client.evidence import RULES, Step
from gateway_client.finding import Code
from gateway_client.flow.effects import Send
from gateway_client.state import PENDING
from reconcile.effects import OpenedRun
from tests.exhaust.actors import Place, Told
from tests.exhaust.contents import Contents
from tests.exhaust.ledger import Known, Ledger
from tests.sim.ghost import moved
from tests.sim.safety import Broken

TROUBLE = (StoreUnavailable, OutcomeNotRecorded, ProviderUnavailable, AccountRefused)
"""What a call may raise here: nobody is needed, nothing is misused, no clock is wrong."""
OF_NEXT_ATTEMPTS = (NeedsPerson, AttemptRefused)
"""And where another attempt is asked for: somebody has paid by the one before, or it is not known yet."""


BIG = 1 << 32  # more than there are states of the provider


class Checks:
    """The checks, and what they have looked at. `old`: the key's life was over before it all began."""

    def __init__(self, contents: Contents, ledger: Ledger, *, old: bool, attempts: int = 1) -> None:
        self._contents, self._ledger, self._old = contents, ledger, old
        self._trouble = TROUBLE if attempts == 1 else (*TROUBLE, *OF_NEXT_ATTEMPTS)
        self._seen: set[tuple[str, int, int]] = set()

    def _first_time(self, check: str, one: int, other: int = 0) -> bool:
        key = (check, one, other)
        new = key not in self._seen
        self._seen.add(key)
        return new

    def send(self, place: Place, contents: int, ledger: int) -> None:
        """S2: before a send, a row with its key and body, the time of the first send and an open send are on disk.

        S6: and of an earlier attempt nothing has moved money, nor can it any more.
        """
        if not self._first_time("send", place.number, contents * BIG + ledger):
            return
        assert isinstance(place.effect, Send)
        request = place.effect.request
        sent = (request.idempotency_key, request.body, request.api_version)
        rows = self._contents.rows(contents, "pending_charges")
        row = next((row for row in rows if (row["idempotency_key"], row["body"], row["api_version"]) == sent), None)
        if row is None:
            raise Broken("S2", "a send leaves, and no row has its key and body")
        if row["first_sent_at"] is None:
            raise Broken("S2", "a send leaves, and its first send has no time on disk")
        if all(send["ended_at"] is not None for send in self._contents.rows(contents, "paycli_sends")):
            raise Broken("S2", "a send leaves, and none is open on disk")
        for earlier in rows:
            if earlier["attempt"] < row["attempt"]:
                _nothing_of(earlier, self._ledger.states[ledger])

    def ledger(self, number: int) -> None:
        """S1: at most one charge of the intent has moved money. S3: every send repeats key, body and API version."""
        if self._first_time("ledger", number):
            paid_once(self._ledger.states[number])
            sent_alike(self._ledger.states[number])

    def history(self, before: int, after: int) -> None:
        """S9: a final state stays, and so does what is known of a send that ended."""
        if before == after or not self._first_time("history", before, after):
            return
        rows = {row["idempotency_key"]: row["state"] for row in self._contents.rows(after, "pending_charges")}
        by_the_table(self._contents, before, after)
        for row in self._contents.rows(before, "pending_charges"):
            now = rows.get(row["idempotency_key"])
            if row["state"] not in PENDING and now != row["state"]:
                raise Broken("S9", f"the row was {row['state']}, and becomes {now}")
        sends = {(send["attempt"], send["send_no"]): send for send in self._contents.rows(after, "paycli_sends")}
        for send in self._contents.rows(before, "paycli_sends"):
            if send["ended_at"] is not None and sends.get((send["attempt"], send["send_no"])) != send:
                raise Broken("S9", f"send {send['send_no']} had ended, and ends otherwise")

    def private(self, place: Place, before: int, after: int, told: Told) -> None:
        """What the search takes for nobody else's business changes nothing that is shared, nor tells of it."""
        name = type(place.effect).__name__
        if before != after:
            raise Broken("the search", f"{name} is not private: it has changed what others read")
        if not isinstance(told.value, OpenedRun | Exception) and told.value not in (None, 0, ()):
            raise Broken("the search", f"{name} is not private: it tells {told.value}")

    def truth(self, contents: int, ledger: int) -> None:
        """S7, S8, S16: no row has ended otherwise than the provider knows; and no finding says that it has."""
        if not self._first_time("truth", contents, ledger):
            return
        sends = self._contents.rows(contents, "paycli_sends")
        told = {send["attempt"]: 400 for send in sends if send["status"] == 400}
        known = self._ledger.states[ledger]
        for row in self._contents.rows(contents, "pending_charges"):
            true_end({**row, "told": told.get(row["attempt"])}, known, absent_allowed=self._old)
        for finding in self._contents.rows(contents, "paycli_findings"):
            late = finding["code"] == Code.STATUS_MISMATCH and 400 in told.values() and any(map(moved, known.charges))
            if finding["closed_at"] is None and finding["code"] != Code.STALE_PENDING and not late:
                raise Broken("L2", f"a finding is open, and nothing differs: {finding['detail']}")

    def told(self, result: object, contents: int | None) -> None:
        """S7, S8 of what a caller is told: an end that is on disk (of contents, when known), and no other error."""
        if isinstance(result, Exception):
            if not isinstance(result, self._trouble):
                raise Broken("S8", f"a call ends with {type(result).__name__}: {result}")
            return
        if contents is None or isinstance(result, OpenedRun):
            return
        states = [row["state"] for row in self._contents.rows(contents, "pending_charges")]
        for charge in (result,) if isinstance(result, Charge) else result:  # type: ignore[attr-defined]
            if charge.state not in PENDING and charge.state not in states:
                raise Broken("S7", f"a caller is told {charge.state}, and the row is {', '.join(states)}")

    def calm(self, contents: int) -> None:
        """L1: without a fault, no interleaving leaves anything pending."""
        for row in self._contents.rows(contents, "pending_charges"):
            if row["state"] in PENDING:
                raise Broken("L1", f"nothing went wrong, and the row stays {row['state']}")


def paid_once(known: Known) -> None:
    """S1, of a state of the provider."""
    times = sum(map(moved, known.charges))
    if times > 1:
        raise Broken("S1", f"the intent was charged {times} times")


def sent_alike(known: Known) -> None:
    """S3, of what has come to the provider."""
    if len(known.sent) > len({key for key, _, _ in known.sent}):
        raise Broken("S3", "two sends of the attempt differ")


def by_the_table(contents: Contents, before: int, after: int) -> None:
    """What is concluded without the provider's word, and each further attempt, is a line of the table of evidence."""
    was = {row["attempt"]: row for row in contents.rows(before, "pending_charges")}
    left = {send["attempt"] for send in contents.rows(before, "paycli_sends") if send["outcome"] != "not_executed"}
    for row in contents.rows(after, "pending_charges"):
        attempt, earlier = row["attempt"], was.get(row["attempt"])
        if earlier is None and attempt > 1:
            _line(Step.NEXT_ATTEMPT, was[attempt - 1]["state"])
        if earlier is None or earlier["state"] == row["state"]:
            continue
        if row["state"] == "absent":
            _line(Step.CONCLUDE_ABSENCE, earlier["state"])
        if row["state"] == "canceled":
            _line(Step.CANCEL_THERE, earlier["state"])  # nobody gives it up here, nor cancels it at the provider
        if row["state"] in ("absent", "canceled") and (row["closed_at"] is None or row["quiet_from"] is None):
            raise Broken("S16", f"the row is {row['state']}, and was not closed at a time that was asked for")
        if row["state"] == "canceled" and row["provider_intent_id"] is None and attempt in left:
            raise Broken("S8", "the row is canceled, a send of it has left, and nobody has read that it is")


def _line(step: Step, state: str) -> None:
    if not any(rule.step is step and state in rule.states for rule in RULES):
        raise Broken("S6", f"{step}: the table has no such line for {state}")


def _nothing_of(row: dict[str, object], known: Known) -> None:
    of = _of_attempt(row, known)
    if any(map(moved, of.charges)) or of.executing or of.held:
        raise Broken("S6", f"attempt {row['attempt']} is {row['state']}, and money has moved by it, or still may")


def charges_of(row: dict[str, object], known: Known) -> tuple[dict[str, object], ...]:
    """The provider's charges of one attempt."""
    return _of_attempt(row, known).charges


def _of_attempt(row: dict[str, object], known: Known) -> Known:
    """What the provider has of one attempt."""
    key = row["idempotency_key"]
    return replace(
        known,
        charges=tuple(one for one in known.charges if one["metadata"]["paycli_key"] == key),
        executing=tuple(one for one in known.executing if one.idempotency_key == key),
        held=tuple(one for one in known.held if one.idempotency_key == key),
    )


def true_end(row: dict[str, object], known: Known, *, absent_allowed: bool) -> None:
    """S7, S8 and S16, of a row beside a state of the provider."""
    known = _of_attempt(row, known)
    state, charge_id = row["state"], row["provider_charge_id"]
    if state == "prepared" and (known.charges or known.executing or known.held):
        raise Broken("S8", "the row is prepared, which says that nothing can have been executed; and it can")
    if state in PENDING:
        return
    charge = next((one for one in known.charges if one["id"] == charge_id), None)
    if state == "succeeded":
        if charge is None or not moved(charge) or (charge["amount"], charge["currency"]) != (2000, "usd"):
            raise Broken("S7", f"the row is succeeded, and {charge_id} is not there")
        return
    if state == "rejected" and row["told"] == 400:
        return  # the provider's word on one delivery; what the other one does is read before another attempt is made
    if any(map(moved, known.charges)):
        raise Broken("S8", f"the row is {state}, and money has moved")
    if state == "declined" and charge is not None and charge["status"] == "failed":
        return
    if state == "canceled" and row["idempotency_key"] in known.cancelled and not (known.executing or known.held):
        return
    if state == "absent" and absent_allowed and not (known.charges or known.executing or known.held):
        return
    raise Broken("S16" if state == "absent" else "S8", f"the row is {state}: nobody can know that by now")
