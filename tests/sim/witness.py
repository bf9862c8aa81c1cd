"""The witness: looks at everything that leaves a host, comes back or is committed, writes it down and has it checked.

It stands between the world and the ghost ledger; the checks themselves are `safety.py`.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from gateway_client.charge import Charge
from gateway_client.flow.effects import (
    Ask,
    BeginSend,
    Begun,
    Claim,
    Effect,
    EndLate,
    GiveUp,
    Held,
    MeetProvider,
    Next,
    NoteQuiet,
    ProveAbsent,
    Send,
    Settle,
)
from gateway_client.flow.leasing import Lease, Release
from gateway_client.gateways.base import Account, NoReply, Reply, Request
from gateway_client.outcome import CouldNotAsk
from gateway_client.sandbox import Sandbox
from gateway_client.sandbox.model import Exchange
from gateway_client.sandbox.wire import Answer
from gateway_client.state import REFUSED
from reconcile.effects import CloseOver, EndRun, Import, LookAtRun, OfRun, Repair
from tests.sim import safety, safety_of_runs
from tests.sim.ghost import ROWS, TIMEOUT, Ghost, Key, Reading, Row, Sent
from tests.sim.provider import Provider
from tests.sim.safety import Broken
from tests.sim.shift import Shift, l6_rows_given_back, l7_oldest_first, s13_one_holder, s22_leaves_open_sends_alone

if TYPE_CHECKING:
    from tests.sim.call import Call
    from tests.sim.on_disk import Store


HOUR_S = 3600.0
DAY_S = 24 * HOUR_S

MOVING = (Claim, BeginSend, Settle, GiveUp, EndLate, NoteQuiet, ProveAbsent, Import, Repair, CloseOver)
"""Effects that may change a row of `pending_charges`; the others are not worth a look."""


class Witness:
    """Sees one schedule."""

    def __init__(
        self, provider: Provider, store: Store, now: Callable[[], float], trace: Callable[[str], None]
    ) -> None:
        self.ghost = Ghost()
        self._provider, self._store, self._now, self._trace = provider, store, now, trace
        self._seen_changes, self._late = store.changes, set[str]()

    def leave(self, call: Call, effect: Effect[Any], request: Request) -> Sent | None:
        """A request leaves a host."""
        safety.s23_no_network_in_a_transaction(self._store.in_transaction)
        path, _, query = request.path.partition("?")
        if isinstance(effect, Ask) and query:
            fields = dict(parse_qsl(query))
            if path == "/v1/payment_intents" and "starting_after" not in fields:
                self.ghost.readings[call.name] = Reading(
                    self._now(), int(fields["created[gte]"]), created_to=int(fields["created[lte]"])
                )
        if isinstance(effect, Ask) and request.method == "POST":
            self.hold(safety.s7_cancels_its_own, self.ghost, path.split("/")[-2])
        if isinstance(effect, Ask) and request.method == "POST" and call.verb in ("resume", "work", "reconcile"):
            self.ghost.seen["left uncharged, and cancelled"] += 1
            self.hold(safety.s8_cancelled_late, self.ghost, path.split("/")[-2], self._now())
        if call.shift is not None and isinstance(effect, Ask):
            probe = path == call.process.gateway.account_request().path
            self.hold(call.shift.asks, self._now(), probe=probe)
        if not isinstance(effect, Send):
            return None
        credential = next(name for name, one in call.host.processes.items() if one is call.process)
        sent = self.ghost.sent(self._now(), request, credential, call.name)
        sent.checked_at = call.checked_at
        self.hold(self._check_send, sent, call)
        if call.shift is not None:
            sent.by_worker = True
            call.shift.stood_still = self.ghost.stood_still
            self.hold(call.shift.sends_one, sent)
        return sent

    def _check_send(self, sent: Sent, call: Call) -> None:
        for check in safety.ON_SEND:
            check(self.ghost, sent)
        begun_at = call.begun_at if call.shift is None else call.shift.leased_at
        safety.s5_never_stale(self.ghost, sent, call.verb, begun_at)
        if sent.credential in safety.OUR_CREDENTIALS:
            safety.s11_another_key(self.ghost, sent, self.ghost.readings.get(call.name))
        self._provider.catch_up()
        safety.s6_attempt_advance(self.ghost, sent, self._listed())

    def _listed(self) -> list[dict[str, Any]]:
        """The provider's intents, but what the other delivery of a refused send has left too late to be read."""
        return [one for one in self._provider.intents() if not self._late_of_rejected(one)]

    def _late_of_rejected(self, one: dict[str, Any]) -> bool:
        """Whether it is of an attempt all of whose sends were refused, and listed after the reading for the next one.

        That is outside of the model (MODEL §6), whatever somebody has made of its metadata, or of our rows, since.
        """
        whose = self.ghost.charges.get(one["id"]) or self.ghost.intents.get(one["id"])
        if one["id"] in self._late or whose is None:
            return one["id"] in self._late
        intent_id, number = whose
        row, reading = self.ghost.rows.get((intent_id, number)), self.ghost.cleared.get((intent_id, number + 1))
        refused = all(sent.refused or not sent.may_execute for sent in self.ghost.of_attempt((intent_id, number)))
        if row is None or row.state != "rejected" or reading is None or not refused:
            return False
        if self._provider.made_at(one) > reading.begun_at - self._provider.lag_s - 2.0:
            self._late.add(one["id"])
        return one["id"] in self._late

    def finish(self, sandbox: Sandbox, exchange: Exchange) -> Answer:
        """The provider answers."""
        answer = sandbox.finish(exchange)
        self.check_money()
        return answer

    def answered(self, call: Call, effect: Effect[Any], reply: Reply | NoReply, sent: Sent | None) -> None:
        """An answer, or the lack of one, comes to a host."""
        status = reply.status if isinstance(reply, Reply) else None
        if sent is not None:
            sent.open = False
        if call.shift is not None and isinstance(effect, MeetProvider):
            call.shift.slept_s += reply.elapsed_ms / 1000
        if sent is not None and status is not None:
            sent.status = status
            self.ghost.seen[f"status {status}"] += 1
        if sent is not None and isinstance(reply, NoReply) and "no whole answer" in reply.reason:
            self.ghost.seen["timeout"] += 1
            sent.status = TIMEOUT
        if isinstance(effect, Ask):
            self.ghost.asked_since(call.name)
        if call.shift is not None and call.lied:
            call.shift.failed = True
        call.lied = False
        if status == 200 and isinstance(effect, Ask) and isinstance(reply, Reply) and "?" in effect.request.path:
            self._page(call, effect.request, more=b'"has_more": true' in reply.body)

    def _page(self, call: Call, request: Request, *, more: bool) -> None:
        """A page of a list has come."""
        reading = self.ghost.readings.get(call.name)
        if reading is None:
            return
        made = sum(1 for _ in self._provider.charges())
        if reading.pages and made > reading.made:
            self.ghost.seen["made between two pages"] += 1
        reading.pages, reading.made = reading.pages + 1, made
        if not more:
            reading.done.add(request.path.partition("?")[0])

    def observe(self, call: Call | None, effect: Effect[Any] | None, result: object) -> None:
        """An effect was performed: look at what it left on disk."""
        if effect is not None and call is not None:
            safety.s23_no_network_in_a_transaction(call.process.fetched.asked_in_transaction)
            self._trace(f"{call.name} {type(effect).__name__} → {_short(result)}")
            if call.shift is not None:
                self._observe_worker(call, call.shift, effect, result)
            if isinstance(result, Begun):
                begun = result.charge
                self.hold(safety.s5_time_goes_on, self._store, begun, result.send_no)
                self.hold(safety.s6_beside_no_success, begun.intent_id, begun.attempt, self._store)
                self.hold(safety.s16_closed_is_closed, result.charge)
            reading = self.ghost.readings.get(call.name)
            if isinstance(effect, OfRun) and reading is not None and reading.lied:
                self.ghost.lied_runs.add(effect.run.run_id)
            written = isinstance(effect, OfRun) and not isinstance(effect, LookAtRun)
            if written and not isinstance(result, Exception):
                self.hold(safety_of_runs.s13_a_run_is_written_by_its_holder, effect, self._store)
            if isinstance(effect, Settle) and not isinstance(result, Exception):
                self.ghost.settled(call.name, (effect.intent_id, effect.attempt), self._now())
        if (effect is None or isinstance(effect, MOVING)) and self._store.changes != self._seen_changes:
            self.look_at_rows(call)
        if (
            call is not None
            and isinstance(effect, EndRun)
            and effect.why_incomplete is None
            and not isinstance(result, Exception)
        ):
            self.hold(self._check_run, effect.run.run_id, call)

    def _observe_worker(self, call: Call, shift: Shift, effect: Effect[Any], result: object) -> None:
        now, seen = self._now(), self.ghost.seen
        shift.clocks_right, shift.stood_still = self.ghost.clocks_right, self.ghost.stood_still
        match effect, result:
            case Lease(), tuple():
                self._leased(shift, tuple((charge.intent_id, charge.attempt) for charge in result), effect.seconds)
            case Release(), _:
                shift.until = {}
                shift.sure = shift.sure and result is None
                seen["a poison row was set aside"] += any((aside_s or 0) >= HOUR_S for _, aside_s in effect.rows)
            case Lease(), _:
                shift.sure = False
            case BeginSend(), Begun():
                self.hold(shift.begins, (effect.intent_id, effect.attempt), now)
            case BeginSend(), Held(next=Next.NOTHING) if not result.charge.final:
                seen["a lease was over at the gate"] += 1
            case Send() | Ask(), Reply() | NoReply():
                if isinstance(effect, Send):
                    charge = effect.begun.charge
                    shift.unrecorded.discard((charge.intent_id, charge.attempt))
                answers = isinstance(effect, Ask) and shift.asked_at is not None and isinstance(result, Reply)
                shift.saw(result, of_send=isinstance(effect, Send))
                if answers and isinstance(call.process.gateway.read_account(result), Account):
                    seen["the bucket was empty, and the provider answers"] += 1
                    shift.answered()
            case MeetProvider(), CouldNotAsk(credential=False):
                shift.tokens = 0
            case Settle(), Exception():
                shift.unrecorded.add((effect.intent_id, effect.attempt))
            case Settle(), Charge() if effect.answer.retry_after_s:
                seen["a worker was asked to wait"] += 1
                shift.held(now, effect.answer.retry_after_s)

    def _leased(self, shift: Shift, keys: tuple[Key, ...], seconds: float) -> None:
        now, ghost = self._now(), self.ghost
        shift.takes(keys, seconds, now)
        for other in ghost.shifts:
            if other is not shift and any(key in other.until for key in keys):
                late = "was paused for too long" if other.alive else "has died"
                what = f"the row of a worker that {late} was taken"
                ghost.seen[what if shift.leases else "two workers at one row"] += 1
        self.hold(s13_one_holder, shift, ghost.shifts, now)
        self.hold(s22_leaves_open_sends_alone, shift, ghost.sends, now)
        self.hold(l7_oldest_first, shift, keys, ghost.rows)

    def shift_ended(self, shift: Shift) -> None:
        """A worker has ended by itself."""
        self.hold(l6_rows_given_back, shift, self._store)

    def look_at_rows(self, call: Call | None) -> None:
        """The rows have changed: what they say now must be so."""
        self._seen_changes = self._store.changes
        ghost = self.ghost
        before_all = ghost.rows
        ghost.rows = {(row[0], row[1]): Row(*row) for row in self._store.read(ROWS)}
        for key, row in ghost.rows.items():
            before = before_all.get(key)
            if before is None or before.provider_intent_id != row.provider_intent_id:
                self.hold(safety.s7_ids_are_ours, ghost, row)
            if before is None or before.state != row.state:
                ghost.moves(before, row, self._now())
                if before is None and call is not None and call.verb.startswith("charge") and row.attempt > 1:
                    ghost.cleared[key] = ghost.readings.get(call.name)
                    if row.intent_id not in ghost.handled:
                        self._provider.catch_up()
                        self.hold(safety.s6_read_first, ghost, row, self._provider.intents())
                self.hold(self._check_row, row, before, call)

    def _check_row(self, row: Row, before: Row | None, call: Call | None) -> None:
        if row.intent_id in self.ghost.handled or call is None:
            return
        if row.state == "succeeded":
            self._provider.catch_up()
            safety.s7_no_false_success(self.ghost, row, call.name, self._provider.charges())
        elif row.state in REFUSED:
            self.check_money()
            if row.state != "rejected":  # another delivery than the rejected one may have charged: it is found (L2)
                self._not_charged(row, call)
            safety.s8_refused_by_somebody(self.ghost, row, self._provider.intents())
            if before is not None and before.state != row.state:
                safety.s8_rejected_alone(self.ghost, row)
        if row.state == "absent":
            safety.s16_absence_evidence(self.ghost, row, before, self.ghost.readings.get(call.name), self._now())

    def _not_charged(self, row: Row, call: Call) -> None:
        """What the lists have shown until now: what appears later, a finding must tell of in the end (L2)."""
        charges, reading = self._provider.charges(), self.ghost.readings.get(call.name)
        if row.state == "absent" and reading is not None:
            shown, made_at = reading.begun_at - self._provider.lag_s - 2.0, self._provider.made_at
            charges = (one for one in charges if made_at(one) <= shown)
        safety.s8_no_false_failure(self.ghost, row, charges)

    def _check_run(self, run_id: str, call: Call) -> None:
        started, day, end, complete = self._store.read(
            "SELECT started_at, day, window_end, complete FROM paycli_runs WHERE run_id = ?", run_id
        )[0]
        if not complete:
            return  # something on its pages could not be read
        begun_at, first, beyond = (
            datetime.fromisoformat(text + "+00:00").timestamp() for text in (started, f"{day} 00:00:00", end)
        )
        if run_id in self.ghost.lied_runs:
            return
        begun_at -= self._provider.date_skew_s
        if call.begun_at > first + DAY_S + 302.0 and not self.ghost.stood_still:
            # The day was over when it was asked for, so it is asked for as a whole, and read when it was over.
            beyond, begun_at = first + DAY_S, max(begun_at, first + DAY_S - 300.0)
        latest, made_at = begun_at - self._provider.lag_s - 2.0, self._provider.made_at
        objects = itertools.chain(self._provider.charges(), self._provider.intents())
        there = {one["id"] for one in objects if first <= one["created"] < beyond and made_at(one) <= latest}
        listed = self._store.read(
            "SELECT object_id FROM paycli_run_items WHERE run_id = ? AND in_window "
            "UNION ALL SELECT object_id FROM paycli_run_agreed WHERE run_id = ?",
            *(run_id, run_id),
        )
        safety_of_runs.s15_scan_completeness(run_id, {row[0] for row in listed}, there)

    def told(self, charge: Charge) -> None:
        """A caller is told of a charge."""
        self.hold(safety.s2_told_is_on_disk, self.ghost, charge.intent_id, charge.attempt, str(charge.state))

    def check_money(self) -> None:
        """Whatever is due at the provider has happened, and no intent was charged twice."""
        self._provider.catch_up()
        for intent in self._provider.intents():
            self.ghost.look_at_intent(intent)
        for charge in self._provider.charges():
            self.ghost.look_at(charge)
        charges = (one for one in self._provider.charges() if not self._late_of_rejected(one))
        self.hold(safety.s1_no_double, self.ghost, charges)

    def hold(self, check: Callable[..., None], *arguments: Any, **named: Any) -> None:
        """A restored database is outside the promise until a fence is built: what happens then is counted apart."""
        try:
            check(*arguments, **named)
        except Broken as broken:
            if self.ghost.restored_at is None:
                raise
            self.ghost.doubled_after_restore |= broken.check == "S1"


def _short(result: object) -> str:
    """A result in a word or two, for the trace."""
    match result:
        case Charge():
            return f"{result.intent_id}/{result.attempt} {result.state}"
        case Reply():
            return f"{result.status} {hashlib.sha256(result.body).hexdigest()[:8]}"
        case NoReply():
            return result.reason
        case Exception():
            return f"{type(result).__name__}: {result}"
    return type(result).__name__
