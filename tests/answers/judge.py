"""What must hold of a case: words against the provider's ledger.

Checks run after every action, and once more when all has come to rest. Raises Broken. Where the published model leaves
a residual, it is counted by name, and must be found by the night all the same.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from gateway_client.state import State
from tests.answers.network import CHARGES, INTENTS
from tests.answers.provider import ACCOUNT, Success

if TYPE_CHECKING:
    from tests.answers.case import Case

_ROWS = "SELECT attempt, state, provider_charge_id, idempotency_key FROM pending_charges ORDER BY attempt"
_FINDINGS = "SELECT attempt, code, charged, provider_charge_id FROM paycli_findings"
_SENDS = "SELECT proven, outcome FROM paycli_sends WHERE attempt = ? AND credential_id = ?"
_DOUBTS = (
    "SELECT send_no FROM paycli_sends WHERE attempt = ? AND coalesce(outcome, 'open') IN "
    "('open', 'unknown', 'in_flight', 'conflict')"
)
_REFUSALS = ("refused", "rejected")
_FLAGS = ("status_mismatch", "duplicate_charge", "missing_locally", "outcome_recovered", "amount_mismatch")


class Broken(Exception):
    """A check that does not hold."""

    def __init__(self, check: str, why: str) -> None:
        super().__init__(f"{check}: {why}")
        self.check, self.why = check, why


@dataclass(frozen=True, slots=True)
class Row:
    """One attempt in the store."""

    attempt: int
    state: State
    charge_id: str | None
    key: str


class Judge:
    """The checks of one case."""

    def __init__(self, case: Case) -> None:
        self._case = case
        # When each list was read in the call that made an attempt, and in the one that first sent it under another key.
        self.read_at: dict[tuple[int, str], dict[str, float]] = {}
        self.residuals: Counter[str] = Counter()
        self.finals: dict[int, tuple[State, float]] = {}

    # --- after every action

    def look(self) -> None:
        """What was said until now, against what is true now."""
        rows = self.rows()
        for row in rows:
            before = self.finals.get(row.attempt)
            if before is not None and before[0] is not row.state:
                raise Broken("final", f"attempt {row.attempt} was {before[0]} and is {row.state}")
            if before is not None or row.state.pending:
                continue
            self.finals[row.attempt] = (row.state, self._case.provider.now)
            self._check_word(row)
        self._charged_once(rows)

    def _check_word(self, row: Row) -> None:
        """A final word, when it is said: it has its ground at the provider, and no money has moved against it."""
        provider, network = self._case.provider, self._case.network
        charges = {one.payment.charge_id for one in provider.successes if one.payment.key == row.key}
        there = provider.of_key(row.key)
        match row.state:
            case State.SUCCEEDED:
                grounded = row.charge_id in charges
            case State.REJECTED:
                # Another delivery of it may be executed; another send of it may not be in doubt.
                doubts = self._case.store.read(_DOUBTS, row.attempt)
                grounded, charges = row.key in network.rejected and not doubts, set()
            case State.DECLINED:
                grounded = there is not None and there.reason is not None
            case State.CANCELED:
                grounded = row.key not in network.delivered if there is None else there.status == "canceled"
            case _:
                # A refused send's other delivery may have met a 500, which is rolled forward later.
                grounded = there is None or self._refused(row.attempt, there.credential)
                charges = set() if grounded else charges
        if not grounded or (row.state.refused and charges):
            raise Broken("word", f"attempt {row.attempt} is said to be {row.state} ({row.charge_id}), which is not so")

    def rows(self) -> list[Row]:
        read = self._case.store.read(_ROWS)
        return [Row(attempt, State(state), charge_id, key) for attempt, state, charge_id, key in read]

    def _charged_once(self, rows: list[Row]) -> None:
        successes = self._case.provider.successes
        for success in successes:
            if success.payment.account != ACCOUNT:
                raise Broken("account", f"attempt {success.attempt} was charged on {success.payment.account}")
        if len(successes) < 2:
            return
        states = {row.attempt: row.state for row in rows}
        ordered = sorted(successes, key=lambda success: success.attempt)
        for earlier, later in pairwise(ordered):
            why = self._residual(earlier, later, states)
            if why is None:
                raise Broken(
                    "twice",
                    f"{earlier.payment.charge_id} by attempt {earlier.attempt} (here {states.get(earlier.attempt)}), "
                    f"{later.payment.charge_id} by attempt {later.attempt}",
                )

    def _residual(self, earlier: Success, later: Success, states: dict[int, State]) -> str | None:
        """Which residual two charges are; None when they are a broken promise.

        A refused send may have been delivered twice; what its other delivery does after the provider was read for the
        next attempt, or for a send under another API key, is outside of the published model. So is what the lists show
        only afterwards.
        """
        of_earlier = (earlier.attempt, earlier.payment.credential)
        if earlier.attempt == later.attempt and of_earlier in self.read_at:
            earlier, later = later, earlier  # it was sent under the new key, and what the old key had left came last
        read_at = self.read_at.get((later.attempt, later.payment.credential), {})
        if INTENTS not in read_at or CHARGES not in read_at:
            return None  # it has not read at all
        if any(earlier.payment.listed_at <= at for at in read_at.values()):
            return None  # it was there to be read
        if earlier.attempt == later.attempt and earlier.payment.credential == later.payment.credential:
            return None
        state = states.get(earlier.attempt)
        if state is not State.REJECTED and not self._refused(earlier.attempt, earlier.payment.credential):
            return None
        when = "executed" if earlier.at > min(read_at.values()) else "listed"
        return f"another delivery of a refused send was {when} after the reading"

    def _refused(self, attempt: int, credential: str) -> bool:
        """Whether each send of an attempt under an API key was refused with the provider's own word."""
        sends = self._case.store.read(_SENDS, attempt, self._case.credential_id(credential))
        return all(outcome == "not_executed" or (proven and outcome in _REFUSALS) for proven, outcome in sends)

    # --- at rest

    def at_rest(self) -> None:
        """The end of a case: nothing is lost, every false word is a published residual, and is found."""
        rows = {row.attempt: row for row in self.rows()}
        flagged = {attempt for attempt, code, charged, _ in self._case.store.read(_FINDINGS) if code in _FLAGS}
        successes = self._case.provider.successes
        if len(successes) > 1:
            states = {attempt: row.state for attempt, row in rows.items()}
            ordered = sorted(successes, key=lambda success: success.attempt)
            for earlier, later in pairwise(ordered):
                self.residuals[f"twice: {self._residual(earlier, later, states)}"] += 1
        for success in successes:
            row = rows.get(success.attempt)
            if row is None:
                raise Broken("lost", f"{success.payment.charge_id} of attempt {success.attempt} has no row")
            if row.state is State.SUCCEEDED:
                continue
            if success.attempt not in flagged:
                raise Broken("lost", f"attempt {row.attempt} is {row.state}, charged, and no finding tells it")
            if not row.state.pending:
                self.residuals[f"{row.state}: {self._why_false(row, success)}"] += 1
        self.residuals["pending at rest"] += sum(row.state.pending for row in rows.values())

    def _why_false(self, row: Row, success: Success) -> str:
        """Which residual a false word is."""
        if row.state is State.REJECTED:
            return "another delivery of it was executed"
        if row.state is State.ABSENT and self._refused(success.attempt, success.payment.credential):
            return "another delivery of a refused send met a 500, and was rolled forward"
        raise Broken("word", f"attempt {row.attempt} is {row.state}, and it is charged in the end")
