"""An attempt as it is on disk: its row, the sends of it, and what an event makes of both. Pure.

Reading and writing it is `store/`'s; a flow only hands a record on, from the send that was begun to its outcome.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gateway_client.charge import Charge
from gateway_client.outcome import IN_DOUBT, NAMES, RESULTS, NotExecuted, ReplyClass
from gateway_client.state import LAWS, Event, Law, State

Row = Mapping[Any, Any]  # a row of the database, or one that was just written
Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Record:
    """A row of `pending_charges` with the sends of its attempt.

    Every transaction that writes one of them adds one to the row's `revision`, but for leases: while it is the same, so
    is all that a decision may rest on.
    """

    row: Row
    sends: tuple[Row, ...]

    @property
    def state(self) -> State:
        return State(self.row["state"])

    @property
    def law(self) -> Law:
        """What may change the state of its operation."""
        return LAWS[self.row["operation"]]

    @property
    def payment_id(self) -> str:
        """The intent of the payment that it is about: its own, or that of the charge that it acts upon."""
        found: str = self.row["parent_id"] or self.row["intent_id"]
        return found

    def in_doubt(self, apart_from: int | None = None) -> bool:
        """Another send is open, or ended without proof."""
        others = [send for send in self.sends if send["send_no"] != apart_from]
        return any(send["ended_at"] is None or send["outcome"] in IN_DOUBT for send in others)

    def left(self, apart_from: int | None = None) -> bool:
        """A send has left, or may have: all but those of which our own socket took nothing."""
        others = (send for send in self.sends if send["send_no"] != apart_from)
        return any(send["outcome"] != NAMES[NotExecuted] for send in others)

    def server_errors(self) -> int:
        """How many server errors are recorded: a saved one never changes, so more of them tell nothing."""
        return sum(send["reply"] == ReplyClass.SERVER_ERROR for send in self.sends)

    def moved(self, event: Event | None, now: datetime, changes: Values) -> Record:
        """Return the record after an event (None: only `changes`); this very one when nothing of it is new."""
        state = self.state if event is None else self.law.next(self.state, event)
        values = {**changes, "state": state} | ({} if state.pending else {"settled_at": now})
        if all(self.row[name] == value for name, value in values.items()):
            return self
        return Record({**self.row, **values}, self.sends)

    def changed(self, before: Record) -> dict[str, Any]:
        """Return the columns of the row that are not what they were."""
        row, old = self.row, before.row
        return {name: row[name] for name in row if row[name] != old[name]}

    def revised(self) -> Record:
        """Return the record as it is once it is written."""
        return Record({**self.row, "revision": self.row["revision"] + 1}, self.sends)

    def with_send(self, send: Row) -> Record:
        """Return the record with one send more, or with one as it is now."""
        others = [one for one in self.sends if one["send_no"] != send["send_no"]]
        return Record(self.row, tuple(sorted((*others, send), key=lambda one: one["send_no"])))

    def charge(self) -> Charge:
        """The snapshot callers get."""
        row = self.row
        left = [send for send in self.sends if send["outcome"] != NAMES[NotExecuted]]
        return Charge(
            intent_id=row["intent_id"],
            attempt=row["attempt"],
            state=self.state,
            idempotency_key=row["idempotency_key"],
            amount=row["amount"],
            currency=row["currency"],
            provider_intent_id=row["provider_intent_id"],
            provider_charge_id=row["provider_charge_id"],
            sends=len(self.sends),
            created_at=row["created_at"],
            first_sent_at=row["first_sent_at"],
            settled_at=row["settled_at"],
            reason=row["reason"],
            closed_at=row["closed_at"],
            quiet_from=row["quiet_from"],
            last_sent_at=max((send["begun_at"] for send in left), default=None),
            last_ended_at=max((send["ended_at"] for send in left if send["ended_at"] is not None), default=None),
            customer=row["customer"],
            payment_method=row["payment_method"] or None,
            not_after=row["not_after"],
            unproven=not all(send["proven"] and send["outcome"] in RESULTS for send in left),
            leased_by=row["leased_by"],
            leased_until=row["leased_until"],
            resume_at=row["resume_at"],
            operation=row["operation"],
            parent_id=row["parent_id"],
        )
