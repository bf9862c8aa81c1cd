"""Healing: what fresh processes make of what a path has left behind, when nothing goes wrong any more.

`resume` a minute later; 25 hours later, when the key's life is over, `resume` and the reconciler of that day; and if
the row is still pending, the same 30 hours later, when it is quiet, and after 101, when no 500 is rolled forward.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from gateway_client.errors import ChargeOnceError
from gateway_client.flow.effects import Ask, Effect, MeetProvider, Send, Wait
from gateway_client.state import PENDING
from tests.exhaust.actors import RESUME, START_S, Program, drive, process_at, reconcile
from tests.exhaust.checks import charges_of, paid_once, true_end
from tests.exhaust.contents import Contents
from tests.exhaust.ledger import Known, Ledger, Played, cancelled
from tests.sim.ghost import moved
from tests.sim.safety import Broken

VISITS_H = (1 / 60, 25.0, 30.0, 101.0)
NIGHT = reconcile("healer")


class Healed(NamedTuple):
    """What an end came to."""

    state: str  # of the row, or "no row"
    hours: float  # until nothing was pending any more
    findings: int  # open ones


class Healer:
    """Whoever comes by afterwards."""

    def __init__(self, contents: Contents, ledger: Ledger) -> None:
        self._contents, self._ledger = contents, ledger

    def heal(self, contents: int, provider: int) -> Healed:
        """Bring an end to a final state that is the provider's truth. Raises Broken."""
        self._contents.go_to(contents)
        self._contents.leave()
        played = self._ledger.played(provider)
        hours = 0.0
        for visit_h in VISITS_H:
            played.now_s = START_S + visit_h * 3600.0
            hours = visit_h if self._pending() else hours
            self._call(RESUME, played)
            if visit_h > 1:
                self._call(NIGHT, played)
                if not self._pending():
                    break
        return self._judged(played, self._ledger.states[provider], hours)

    def _judged(self, played: Played, known: Known, hours: float) -> Healed:
        """The row is final and true, or a finding is open that tells of it."""
        memory = self._contents.memory
        provider = played.provider
        truth = Known((), tuple(provider.charges()), (), (), known.sent, cancelled(provider.intents()))
        paid_once(truth)
        (findings,) = memory.read("SELECT count(*) FROM paycli_findings WHERE closed_at IS NULL")[0]
        rows = memory.read(
            "SELECT state, provider_charge_id, idempotency_key, attempt FROM pending_charges ORDER BY attempt"
        )
        told = dict(memory.read("SELECT attempt, max(status) FROM paycli_sends GROUP BY attempt"))
        late = False  # charged by the other delivery of a send that was refused: told, and nothing more
        for state, charge_id, key, attempt in rows:
            row = {"state": state, "provider_charge_id": charge_id, "idempotency_key": key, "told": told.get(attempt)}
            true_end(row, truth, absent_allowed=True)
            late |= state == "rejected" and any(map(moved, charges_of(row, truth)))
        pending = any(state in PENDING for state, *_ in rows)
        if (pending or late) != bool(findings):
            raise Broken(
                "L1", f"the row is {rows[-1][0] if rows else 'missing'} at last, and {findings} findings are open"
            )
        if truth.charges and not rows:
            raise Broken("L2", "the provider has a charge, and there is no row")
        return Healed(rows[-1][0] if rows else "no row", hours, findings)

    def _pending(self) -> bool:
        return any(state in PENDING for (state,) in self._contents.memory.read("SELECT state FROM pending_charges"))

    def _call(self, program: Program, played: Played) -> None:
        process = process_at(lambda: played.now_s, self._contents.memory)

        def perform(effect: Effect[Any]) -> Any:
            match effect:
                case Wait():
                    played.now_s += effect.seconds_max
                    return effect.seconds_max
                case Send() | Ask():
                    process.fetched.reply = played.answer(effect.request)
                case MeetProvider() if effect.anew or process.must_meet():
                    process.fetched.reply = played.answer(process.gateway.account_request())
            return process.perform(effect)

        try:
            drive(program.flow(process.setup), perform)
        except ChargeOnceError as error:
            why = f"{program.name} ends with {type(error).__name__}, and nothing goes wrong: {error}"
            raise Broken("L5", why) from None
