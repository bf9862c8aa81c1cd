"""The liveness checks L1, L2, L4–L7 of FAULTS §2: judged only after the faults have stopped."""

from __future__ import annotations

from collections import Counter
from datetime import date
from typing import Any

from gateway_client.charge import Charge
from gateway_client.state import PENDING
from reconcile.effects import OpenedRun
from tests.sim.ghost import Ghost, Key, Row, moved, seconds_of
from tests.sim.provider import Provider
from tests.sim.safety import QUIET_UNPROVEN_S, SLACK_S, STALE_S, Broken

TOLD = "closed_at IS NULL OR closed_by LIKE '%@%'"
"""A finding is open, or a person has closed it."""
SILENCE_S = 3600.0
"""For how long the provider's time is known without another answer."""
SECONDS_OF_A_CHARGE_MAX = 45.0  # a call waits at most half a minute for another one's request, and asks four times


def after_resume(number: int, pending: list[Row], result: Any, elapsed_s: float) -> None:
    """The first resume after the faults looks at every pending row, whatever the others come to, and ends in time."""
    if isinstance(result, Exception):
        raise Broken("L5", f"resume {number} after the faults ends with {type(result).__name__}: {result}")
    looked_at = {(charge.intent_id, charge.attempt) for charge in result if isinstance(charge, Charge)}
    left_out = sorted({(row.intent_id, row.attempt) for row in pending} - looked_at)
    if left_out:
        raise Broken("L6", f"resume {number} after the faults did not look at {left_out}")
    if elapsed_s > len(pending) * SECONDS_OF_A_CHARGE_MAX + 60:
        raise Broken("L7", f"resume {number} of {len(pending)} rows took {elapsed_s:.0f} s")


def a_worker_ends(name: str, rows: int, result: Any, elapsed_s: float) -> None:
    """After the faults a worker ends when nothing is due, and in time."""
    if isinstance(result, Exception):
        raise Broken("L5", f"{name} ends with {type(result).__name__}: {result}")
    if elapsed_s > rows * SECONDS_OF_A_CHARGE_MAX + 60:
        raise Broken("L7", f"{name} took {elapsed_s:.0f} s for {rows} rows")


def l5_asks_for_the_time(name: str, silent_s: float) -> None:
    """Nobody is refused for not knowing the provider's time who did not ask for it after an hour of silence.

    A service that sends little would be refused for ever.
    """
    if silent_s >= SILENCE_S:
        raise Broken("L5", f"{name} does not know the time, and has not asked for it after {silent_s:.0f} s of silence")


def waits_for_a_person(ghost: Ghost, row: Row, now: float) -> bool:
    """A row has waited unsent for a day: no worker sends it, nor looks at it."""
    key = (row.intent_id, row.attempt)
    return ghost.first(key) is None and now - ghost.born[key] >= STALE_S - SLACK_S


def after_work(number: int, pending: list[Row], told: set[Key]) -> None:
    """The workers after the faults have looked at every pending row, whatever became of the others."""
    left_out = sorted({(row.intent_id, row.attempt) for row in pending} - told)
    if left_out:
        raise Broken("L6", f"the workers of round {number} after the faults did not look at {left_out}")


def l1_in_days(ghost: Ghost, begun_at: float) -> None:
    """A day, a quiet time and the roll-forward after the faults nothing is in doubt any more.

    But for what a clock that was ahead has closed "later" than that.
    """
    for key, row in ghost.rows.items():
        ahead = row.closed_at is not None and seconds_of(row.closed_at) > begun_at - QUIET_UNPROVEN_S
        doubt = row.state in ("sending", "unknown")
        if doubt and not ahead and not ghost.strangers and key[0] not in ghost.handled:
            raise Broken("L1", f"{key} is still {row.state} four days after the faults")


def after_run(day: date, result: Any, store: Any) -> None:
    """A nightly run after the faults is complete."""
    if not isinstance(result, OpenedRun):
        raise Broken("L4", f"the run of {day} ends with {type(result).__name__}: {result}")
    (complete, why), *_ = store.read("SELECT complete, why_incomplete FROM paycli_runs WHERE run_id = ?", result.run_id)
    if not complete:
        raise Broken("L4", f"the run of {day} is incomplete: {why}")


def at_rest(ghost: Ghost, provider: Provider, store: Any) -> bool:
    """Another night has nothing left to do."""
    return not _lost(ghost) and unexplained(ghost, provider, store) is None


def unexplained(ghost: Ghost, provider: Provider, store: Any) -> str | None:
    """The first disagreement between the provider and the store that no finding tells of, or None."""
    told = {row[0] for row in store.read("SELECT intent_id FROM paycli_findings WHERE action <> 'repaired'")}
    charges = {charge["id"]: charge for charge in provider.charges()}
    for charge in charges.values():
        ghost.look_at(charge)
        whose = ghost.charges[charge["id"]]
        if whose is None or not moved(charge) or whose[0] in told:
            continue
        row = ghost.rows.get(whose)
        if row is not None and row.state == "rejected" and charge["metadata"].get("paycli_key") != row.key:
            continue  # refused in one delivery, charged in the other, and edited: outside of the model (MODEL §6)
        if row is None or row.state != "succeeded" or row.provider_charge_id != charge["id"]:
            return f"{charge['id']} of {whose} succeeded, and the row is {row.state if row else 'missing'}"
    for key, row in ghost.rows.items():
        if row.state == "succeeded" and key[0] not in told:
            found = charges.get(row.provider_charge_id or "")
            if found is None or not moved(found):
                return f"{key} is succeeded, and {row.provider_charge_id} is not there"
            if (found["amount"], found["currency"]) != (row.amount, row.currency):
                return f"{key} is {row.amount} {row.currency}, and {found['amount']} {found['currency']} there"
    return None


def l1_all_ended(ghost: Ghost, provider: Provider, store: Any) -> None:
    """Every row is final, or a finding tells of it; and no intent that a caller was told of is lost.

    A bank debit may be on its way for days: where the provider says so as well, nothing tells of it for a week.
    """
    told = {row[0] for row in store.read(f"SELECT intent_id FROM paycli_findings WHERE {TOLD}")}
    on_their_way = {intent["id"] for intent in provider.intents() if intent["status"] == "processing"}
    for (intent_id, attempt), row in ghost.rows.items():
        waits = row.state == "processing" and row.provider_intent_id in on_their_way
        if row.state in PENDING and intent_id not in told and not waits:
            raise Broken("L1", f"{intent_id} attempt {attempt} is still {row.state}, and nothing tells of it")
    if lost := _lost(ghost):
        raise Broken("L1", f"{', '.join(lost)}: a caller was told of it, and it has no row")


def _lost(ghost: Ghost) -> list[str]:
    return sorted(ghost.acknowledged - {intent_id for intent_id, _ in ghost.rows})


def l2_all_explained(ghost: Ghost, provider: Provider, store: Any) -> None:
    """After two complete runs nothing disagrees that is not told."""
    why = unexplained(ghost, provider, store)
    if why is not None:
        raise Broken("L2", why)


def l2_told_is_so(ghost: Ghost, provider: Provider, store: Any) -> None:
    """What is told as gone is not there, and what is told as charged twice was."""
    charges = {charge["id"]: charge for charge in provider.charges()}
    times = Counter(whose[0] for id_, charge in charges.items() if moved(charge) and (whose := ghost.charges[id_]))
    for code, intent_id, charge_id in store.read("SELECT code, intent_id, provider_charge_id FROM paycli_findings"):
        if code == "missing_at_provider" and charge_id in charges:
            raise Broken("L2", f"{charge_id} of {intent_id} is told to be missing, and is there")
        if code == "duplicate_charge" and times[intent_id] < 2:
            raise Broken("L2", f"{intent_id} is told to be charged twice, and was not")


AT_THE_END = (l1_all_ended, l2_all_explained, l2_told_is_so)
