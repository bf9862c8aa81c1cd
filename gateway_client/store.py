"""Every SQL statement of the charging half. One function is one transaction's work on a Session; no network, no clock.

`perform` maps each database effect to its function. States are only ever set through the table in `state.py`, each
change with its event row in the same commit. Opening, locking and committing are `db.py`'s.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import RowMapping, func, insert, or_, select, tuple_, update
from sqlalchemy.orm import Session

from gateway_client.absence import why_not_absent
from gateway_client.charge import Charge
from gateway_client.effects import (
    BeginSend,
    Begun,
    Bind,
    CancelFirst,
    Claim,
    DatabaseEffect,
    GiveUp,
    Held,
    Next,
    ProveAbsent,
    ReadBinding,
    ReadPending,
    Settle,
    T,
)
from gateway_client.errors import (
    AttemptRefused,
    ClockRefused,
    ConfigurationError,
    IntentConflict,
    NeedsPerson,
    UnknownIntent,
)
from gateway_client.gateways.base import Binding
from gateway_client.intent import differences
from gateway_client.outcome import IN_DOUBT, NAMES, Answer, Conflict, NotExecuted, Outcome, Succeeded
from gateway_client.state import PENDING, SENDABLE, Event, State, contradicts, event_of, next_state
from gateway_client.tables import Event as EventRow
from gateway_client.tables import Finding, PendingCharge, Send, Store, table
from gateway_client.telemetry import Record, SendEnded, StateChanged

store, charges, sends = table(Store), table(PendingCharge), table(Send)
events, findings = table(EventRow), table(Finding)

CLOCK_BEHIND_MAX = timedelta(minutes=1)  # two hosts, each corrected by a Date of whole seconds, differ by a little
RECORDS = "charge_once_records"  # where a transaction leaves what is told once it is committed


def perform(session: Session, effect: DatabaseEffect[T], now: datetime) -> T:  # noqa: PLR0911 - one effect a line
    """Do one database effect at the provider's time `now`."""
    return cast("T", _perform(session, effect, now))


def _perform(session: Session, effect: DatabaseEffect[Any], now: datetime) -> object:  # noqa: PLR0911
    match effect:
        case ReadBinding():
            return read_binding(session)
        case Bind():
            return bind(session, effect.binding, now)
        case Claim():
            return claim(session, effect, now)
        case BeginSend():
            return begin_send(session, effect, now)
        case Settle():
            return settle(session, effect, now)
        case GiveUp():
            return give_up(session, effect, now)
        case ProveAbsent():
            return prove_absent(session, effect, now)
        case ReadPending():
            return read_pending(session, effect)
    raise TypeError(f"not a database effect: {type(effect).__name__}")


@dataclass(frozen=True, slots=True)
class _Record:
    """A row of `pending_charges`, locked, with the sends of its attempt."""

    row: RowMapping
    sends: tuple[RowMapping, ...]

    @property
    def state(self) -> State:
        return State(self.row["state"])

    def in_doubt(self, apart_from: int | None = None) -> bool:
        """Another send is open, or ended without proof."""
        others = [send for send in self.sends if send["send_no"] != apart_from]
        return any(send["ended_at"] is None or send["outcome"] in IN_DOUBT for send in others)

    def server_errors(self) -> int:
        """How many 500s are recorded: the saved answer never changes, so more of them tell nothing."""
        return sum(send["status"] == 500 for send in self.sends)

    def charge(self) -> Charge:
        """The snapshot callers get."""
        row = self.row
        left = [send for send in self.sends if send["outcome"] != NAMES[NotExecuted]]
        failed = [send["ended_at"] for send in self.sends if send["status"] is not None and send["status"] >= 500]
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
            last_sent_at=max((send["begun_at"] for send in left), default=None),
            last_server_error_at=max(failed, default=None),
        )


# The store itself ---------------------------------------------------------------------------------------------------


def read_binding(session: Session) -> Binding | None:
    """Whom the store belongs to."""
    row = session.execute(select(store)).mappings().first()
    return None if row is None else Binding(row["provider"], row["mode"], row["account"], row["namespace"])


def bind(session: Session, binding: Binding, now: datetime) -> Binding:
    """Write the one row of the store, unless another process was first."""
    found = read_binding(session)
    if found is not None:
        return found
    session.execute(
        insert(store).values(
            id=1,
            provider=binding.provider,
            mode=binding.mode,
            account=binding.account,
            namespace=binding.namespace,
            created_at=now,
            latest_seen_at=now,
        )
    )
    return binding


# Claim --------------------------------------------------------------------------------------------------------------


def claim(session: Session, effect: Claim, now: datetime) -> Charge | CancelFirst:
    """The row of an attempt: found, or inserted when the attempts before it allow it."""
    intent = effect.intent
    query = select(charges).where(charges.c.intent_id == intent.intent_id).order_by(charges.c.attempt)
    rows = session.execute(query.with_for_update()).mappings().all()
    attempts = {row["attempt"]: row for row in rows}
    newest = max(attempts, default=0)
    attempt = effect.attempt or newest or 1
    found = attempts.get(attempt)
    if rows:
        _refuse_other_payment(effect, rows[0], found)
    if found is not None:
        return _read(session, found).charge()
    if attempt != newest + 1:
        raise AttemptRefused(
            f"{intent.intent_id}: attempt {attempt} was asked for, the newest is {newest or 'none'}. Nothing was sent."
        )
    if rows:
        previous = _read(session, attempts[newest])
        _refuse_while_needed(session, previous)
        known = previous.row["provider_intent_id"] is not None and previous.state is not State.CANCELED
        if known and effect.canceled_attempt != newest:
            return CancelFirst(previous.charge())
    draft = effect.draft(attempt)
    session.execute(
        insert(charges).values(
            intent_id=intent.intent_id,
            attempt=attempt,
            state=State.PREPARED,
            idempotency_key=draft.idempotency_key,
            amount=intent.amount.amount,
            currency=intent.amount.currency,
            customer=intent.customer,
            payment_method=intent.payment_method,
            body=draft.body,
            body_sha256=_sha256(draft.body),
            api_version=draft.api_version,
            created_at=now,
        )
    )
    _note(session, (intent.intent_id, attempt), now, None, "claimed", State.PREPARED)
    return _locked(session, intent.intent_id, attempt).charge()


def _refuse_other_payment(effect: Claim, first: RowMapping, found: RowMapping | None) -> None:
    """Amount, currency and customer are the intent's; the payment method is the attempt's while it may still count."""
    intent = effect.intent
    method = None
    if found is not None and not State(found["state"]).refused:
        method = found["payment_method"]
    differ = differences(
        intent,
        amount=first["amount"],
        currency=first["currency"],
        customer=first["customer"],
        payment_method=method,
    )
    if differ:
        raise IntentConflict(
            f"{intent.intent_id} already stands for another payment: {'; '.join(differ)}. Nothing was sent. "
            "One intent is one payment: use another intent id for another one."
        )


def _refuse_while_needed(session: Session, previous: _Record) -> None:
    """Attempt n+1 exists only after a definite refusal of n, with nothing left to explain."""
    name = f"{previous.row['intent_id']} attempt {previous.row['attempt']}"
    if previous.state is State.SUCCEEDED:
        raise AttemptRefused(f"{name} succeeded: the customer has paid, no other attempt is made. Nothing was sent.")
    if not previous.state.final:
        raise AttemptRefused(
            f"{name} is {previous.state}, not refused: another attempt could charge twice. Run `paycli resume`, or give "
            "it up with `paycli cancel`. Nothing was sent."
        )
    _refuse_open_finding(session, previous.row["intent_id"])


def _refuse_open_finding(session: Session, intent_id: str) -> None:
    query = select(findings).where(findings.c.intent_id == intent_id, findings.c.closed_at.is_(None))
    finding = session.execute(query).mappings().first()
    if finding is not None:
        raise NeedsPerson(
            f"{intent_id} has an open finding {finding['id']} ({finding['code']}): {finding['detail']} Nothing was sent."
        )


# BeginSend: the gate ------------------------------------------------------------------------------------------------


def begin_send(session: Session, effect: BeginSend, now: datetime) -> Begun | Held:
    """Let one send through, written down with its time in this commit, or say what to do instead (DESIGN §6)."""
    _check_store(session, effect, now)
    record = _close_if_over(session, effect, _locked(session, effect.intent_id, effect.attempt), now)
    row, charge = record.row, record.charge()
    if record.state.final:
        return Held(charge, Next.NOTHING)
    if row["provider_intent_id"] is not None:
        return Held(charge, Next.RETRIEVE)
    if (
        record.state not in SENDABLE
        or row["closed_at"] is not None
        or record.server_errors() >= effect.profile.server_errors_max
    ):
        return Held(charge, Next.LOOK_UP)
    other_credential = record.sends and record.sends[-1]["credential_id"] != effect.credential_id
    if other_credential and record.in_doubt() and not effect.looked_up:
        return Held(charge, Next.LOOK_UP_THEN_SEND)
    _check_row(effect, row)
    _refuse_open_finding(session, effect.intent_id)
    send_no = len(record.sends) + 1
    session.execute(
        insert(sends).values(
            intent_id=effect.intent_id,
            attempt=effect.attempt,
            send_no=send_no,
            credential_id=effect.credential_id,
            begun_at=now,
        )
    )
    first = {"first_sent_at": now} if row["first_sent_at"] is None else {}
    after = _move(session, record, Event.SEND_BEGUN, now, first)
    return Begun(after.charge(), send_no, row["body"], row["api_version"])


def _check_store(session: Session, effect: BeginSend, now: datetime) -> None:
    """The store is still whom we think, and time has not gone back behind what it has seen."""
    row = session.execute(select(store)).mappings().one()
    if Binding(row["provider"], row["mode"], row["account"], row["namespace"]) != effect.binding:
        raise ConfigurationError("the store was bound anew under this process: restart it. Nothing was sent.")
    latest = row["latest_seen_at"]
    if now < latest - CLOCK_BEHIND_MAX:
        raise ClockRefused(
            f"it is {now:%Y-%m-%d %H:%M:%S} UTC here, but this store has already seen {latest:%Y-%m-%d %H:%M:%S}: "
            "a clock was set back. Nothing was sent."
        )
    if now > latest + timedelta(seconds=1):  # a write for each second is enough, however many charges it has
        session.execute(update(store).values(latest_seen_at=now))


def _close_if_over(session: Session, effect: BeginSend, record: _Record, now: datetime) -> _Record:
    """Close the attempt for good once its key's life is over: after that the same key could be a new request."""
    row = record.row
    first = row["first_sent_at"]
    over = first is not None and now - first >= effect.profile.key_life
    if not over or row["closed_at"] is not None or record.state.final:
        return record
    return _move(session, record, None, now, {"closed_at": now}, note="closed: the key's life is over")


def _check_row(effect: BeginSend, row: RowMapping) -> None:
    """What would be sent is what was frozen, under the key that every process computes."""
    key = effect.binding.key("charge", row["intent_id"], row["attempt"])
    if key != row["idempotency_key"] or _sha256(row["body"]) != row["body_sha256"]:
        raise ConfigurationError(
            f"{row['intent_id']} attempt {row['attempt']}: the stored key or body is not the one that was frozen. The row "
            "was changed by hand, or belongs to another store. Nothing was sent."
        )


# Settle -------------------------------------------------------------------------------------------------------------


def settle(session: Session, effect: Settle, now: datetime) -> Charge:
    """Record what an answer proves. The same answer again changes nothing; a contradiction becomes a finding."""
    record = _locked(session, effect.intent_id, effect.attempt)
    answer, outcome = effect.answer, effect.answer.outcome
    if effect.send_no is not None:
        record = _end_send(session, record, effect.send_no, answer, now)
    if record.state.final:
        if contradicts(record.state, outcome):
            _find(session, record, answer, now)
        return record.charge()
    event = event_of(outcome, in_doubt=record.in_doubt(effect.send_no), saves_declines=effect.saves_declines)
    changes: dict[str, object] = {"reason": getattr(outcome, "reason", None)}
    if not isinstance(outcome, Conflict):  # the ids in such an answer belong to something else
        changes |= _provider_ids(record.row, outcome)
    if event is Event.NOT_EXECUTED and all(send["outcome"] == NAMES[NotExecuted] for send in record.sends):
        # Nothing has left yet: else an outage longer than the key's life would close charges that never left.
        changes["first_sent_at"] = None
    return _move(session, record, event, now, changes, answer=answer).charge()


def _end_send(session: Session, record: _Record, send_no: int, answer: Answer, now: datetime) -> _Record:
    session.execute(
        update(sends)
        .where(*_of(sends, record.row), sends.c.send_no == send_no, sends.c.ended_at.is_(None))
        .values(
            ended_at=now,
            outcome=answer.name,
            reason=getattr(answer.outcome, "reason", None),
            status=answer.status,
            request_id=answer.request_id,
            original_request=answer.original_request,
            replayed=answer.replayed,
            elapsed_ms=answer.elapsed_ms,
        )
    )
    return _read(session, record.row)


def _provider_ids(row: RowMapping, outcome: Outcome) -> dict[str, object]:
    """The provider's ids as known from now on: a success names its own, anything else only fills what is missing."""
    found = {name: getattr(outcome, name, None) for name in ("provider_intent_id", "provider_charge_id")}
    if isinstance(outcome, Succeeded):
        return {name: value or row[name] for name, value in found.items()}
    return {name: row[name] or value for name, value in found.items()}


def _find(session: Session, record: _Record, answer: Answer, now: datetime) -> None:
    """Open a finding: the provider contradicts a final state. The same disagreement is the same finding."""
    intent_id, attempt = record.row["intent_id"], record.row["attempt"]
    charge_id = getattr(answer.outcome, "provider_charge_id", None)
    code = "status_mismatch"
    finding_id = _sha256(f"{code}:{intent_id}:{charge_id or ''}")[:16]
    if session.execute(select(findings.c.id).where(findings.c.id == finding_id)).first() is not None:
        return
    detail = f"attempt {attempt} is {record.state} here, the provider says {answer.name} ({charge_id or 'no charge'})."
    session.execute(
        insert(findings).values(
            id=finding_id,
            code=code,
            intent_id=intent_id,
            attempt=attempt,
            provider_charge_id=charge_id,
            detail=detail,
            found_at=now,
        )
    )
    _note(session, (intent_id, attempt), now, record.state, f"finding {finding_id}", record.state, detail, answer)


# Giving up, and proof of absence ------------------------------------------------------------------------------------


def give_up(session: Session, effect: GiveUp, now: datetime) -> Charge:
    """Cancel what was never sent, close what may have been; a provider's intent is cancelled by the flow."""
    query = select(func.max(charges.c.attempt)).where(charges.c.intent_id == effect.intent_id)
    newest = session.execute(query).scalar()
    if newest is None:
        raise UnknownIntent(f"{effect.intent_id} is not in this store. Nothing was sent.")
    record = _locked(session, effect.intent_id, newest)
    if record.state.final or record.row["provider_intent_id"] is not None:
        return record.charge()
    reason = f"given up: {effect.because}"
    if record.state is State.PREPARED:
        return _move(session, record, Event.CANCELED, now, {"reason": reason, "closed_at": now}).charge()
    if record.row["closed_at"] is not None:
        return record.charge()
    note = f"closed: {effect.because}"
    changes = {"reason": f"{reason}; not proven absent yet", "closed_at": now}
    return _move(session, record, None, now, changes, note=note).charge()


def prove_absent(session: Session, effect: ProveAbsent, now: datetime) -> Charge:
    """`absent`, when the four conditions hold for the row as it is now; else only the reason is brought up to date."""
    record = _locked(session, effect.intent_id, effect.attempt)
    if record.state.final or record.state is State.PREPARED:
        return record.charge()
    why_not = why_not_absent(record.charge(), effect.profile, effect.scan)
    if why_not is None:
        reason = "proven: a complete list of the provider does not have it"
        return _move(session, record, Event.PROVEN_ABSENT, now, {"reason": reason}).charge()
    session.execute(update(charges).where(*_of(charges, record.row)).values(reason=why_not))
    return _locked(session, effect.intent_id, effect.attempt).charge()


# Reading ------------------------------------------------------------------------------------------------------------


def read_pending(session: Session, effect: ReadPending) -> tuple[Charge, ...]:
    """Pending charges, oldest first."""
    order = (charges.c.created_at, charges.c.intent_id, charges.c.attempt)
    query = select(charges).where(charges.c.state.in_(PENDING)).order_by(*order).limit(effect.rows_max)
    if effect.after is not None:
        at, intent_id, attempt = effect.after
        later = charges.c.created_at > at
        tied = (charges.c.created_at == at) & (
            (charges.c.intent_id > intent_id) | ((charges.c.intent_id == intent_id) & (charges.c.attempt > attempt))
        )
        query = query.where(or_(later, tied))
    return _snapshots(session, session.execute(query).mappings().all())


def read_attempts(session: Session, intent_id: str) -> tuple[Charge, ...]:
    """All attempts of an intent, in their order."""
    query = select(charges).where(charges.c.intent_id == intent_id).order_by(charges.c.attempt)
    return _snapshots(session, session.execute(query).mappings().all())


def read_history(session: Session, charge: Charge) -> tuple[tuple[RowMapping, ...], tuple[RowMapping, ...]]:
    """The sends and the events of one attempt, in their order."""
    of = {"intent_id": charge.intent_id, "attempt": charge.attempt}
    query = select(events).filter_by(**of).order_by(events.c.event_no)
    return _sends_of(session, of), tuple(session.execute(query).mappings().all())


def _snapshots(session: Session, rows: Any) -> tuple[Charge, ...]:
    keys = [(row["intent_id"], row["attempt"]) for row in rows]
    query = select(sends).where(tuple_(sends.c.intent_id, sends.c.attempt).in_(keys)).order_by(sends.c.send_no)
    by_key: dict[tuple[str, int], list[RowMapping]] = {key: [] for key in keys}
    for send in session.execute(query).mappings() if keys else ():
        by_key[send["intent_id"], send["attempt"]].append(send)
    return tuple(_Record(row, tuple(by_key[row["intent_id"], row["attempt"]])).charge() for row in rows)


# The one place that writes states and history ------------------------------------------------------------------------


def _move(
    session: Session,
    record: _Record,
    event: Event | None,
    now: datetime,
    changes: Mapping[str, object],
    *,
    note: str | None = None,
    answer: Answer | None = None,
) -> _Record:
    """Apply an event (None: only `changes`) to the row and append it to the history, in this transaction."""
    before = record.state
    state = before if event is None else next_state(before, event)
    settled = {"settled_at": now} if state.final else {}
    session.execute(update(charges).where(*_of(charges, record.row)).values({"state": state, **changes, **settled}))
    reason = cast("str | None", changes.get("reason"))
    key = (record.row["intent_id"], record.row["attempt"])
    _note(session, key, now, before, note or str(event), state, reason, answer)
    return _read(session, _row(session, *key))


def _note(
    session: Session,
    key: tuple[str, int],
    now: datetime,
    before: State | None,
    event: str,
    state: State,
    reason: str | None = None,
    answer: Answer | None = None,
) -> None:
    intent_id, attempt = key
    of = {"intent_id": intent_id, "attempt": attempt}
    count = session.execute(select(func.count()).select_from(events).filter_by(**of)).scalar() or 0
    request_id = None if answer is None else answer.request_id
    session.execute(
        insert(events).values(
            **of,
            event_no=count + 1,
            at=now,
            event=event,
            state_before=before,
            state_after=state,
            reason=reason,
            request_id=request_id,
        )
    )
    if before is not state:
        elapsed_ms = None if answer is None else answer.elapsed_ms
        records: list[Record] = session.info.setdefault(RECORDS, [])
        records.append(StateChanged(intent_id, attempt, before, state, event, request_id, elapsed_ms))


def send_ended(effect: Settle, charge: Charge) -> SendEnded | None:
    """The record of a settled send."""
    if effect.send_no is None:
        return None
    answer = effect.answer
    return SendEnded(
        charge.intent_id,
        charge.attempt,
        effect.send_no,
        charge.state,
        answer.name,
        answer.status,
        answer.request_id,
        answer.elapsed_ms,
    )


def _locked(session: Session, intent_id: str, attempt: int) -> _Record:
    return _read(session, _row(session, intent_id, attempt))


def _row(session: Session, intent_id: str, attempt: int) -> RowMapping:
    query = select(charges).filter_by(intent_id=intent_id, attempt=attempt).with_for_update()
    row = session.execute(query).mappings().first()
    if row is None:
        raise UnknownIntent(f"{intent_id} attempt {attempt} is not in this store. Nothing was sent.")
    return row


def _read(session: Session, row: RowMapping) -> _Record:
    return _Record(row, _sends_of(session, {"intent_id": row["intent_id"], "attempt": row["attempt"]}))


def _sends_of(session: Session, of: dict[str, object]) -> tuple[RowMapping, ...]:
    query = select(sends).filter_by(**of).order_by(sends.c.send_no)
    return tuple(session.execute(query).mappings().all())


def _of(which: Any, row: RowMapping) -> tuple[Any, Any]:
    return which.c.intent_id == row["intent_id"], which.c.attempt == row["attempt"]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


