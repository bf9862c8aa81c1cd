"""Every check of the simulator fails when what it forbids has happened: each is shown a ledger in which it has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from gateway_client.errors import ProviderUnavailable
from tests.sim import liveness, safety
from tests.sim.ghost import Ghost, Reading, Row, Sent
from tests.sim.provider import Provider
from tests.sim.safety import Broken

HOUR_S = 3600.0
ATTEMPT = ("order_1", 1)
ROW = Row("order_1", 1, "sending", "key_1", 2000, "usd", "body", "v1", None, None, "2026-11-20 12:00:00.000000", None)
SENT = Sent(at=0.0, attempt=ATTEMPT, key="key_1", body_sha256="body", api_version="v1", credential="ours", call="h1")
CHARGE = {
    "id": "ch_1",
    "status": "succeeded",
    "refunded": False,
    "amount": 2000,
    "currency": "usd",
    "metadata": {"paycli_intent": "order_1", "paycli_attempt": "1", "paycli_namespace": "default"},
}
BOTH = {"/v1/payment_intents", "/v1/charges"}


def ghost(*sends: Sent, row: Row | None = ROW, **fields: Any) -> Ghost:
    """A ledger with these sends and one row."""
    return Ghost(sends=list(sends), rows={} if row is None else {(row.intent_id, row.attempt): row}, **fields)


def reading(begun_at: float, created_from: int = -2000, done: set[str] = BOTH) -> Reading:
    return Reading(begun_at, created_from, set(done))


def looked_for() -> Ghost:
    """One send, that nobody has seen answered."""
    made = ghost(SENT)
    made.look_at(CHARGE)
    return made


class Ledger(Provider):
    """A provider with these charges."""

    def __init__(self, *charges: dict[str, Any]) -> None:
        self._charges = charges

    def charges(self) -> Any:
        return iter(self._charges)


class Rows:
    """A store of which every query finds these rows."""

    def __init__(self, *rows: tuple[Any, ...]) -> None:
        self._rows = rows

    def read(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return list(self._rows)


CLOSED = ROW._replace(closed_at="2026-11-21 11:00:00.000000")
SUCCEEDED = ROW._replace(state="succeeded", provider_charge_id="ch_1")
ABSENT = ROW._replace(state="absent")
SECOND = replace(SENT, attempt=("order_1", 2), key="key_2")
OPEN_INTENT = {"status": "requires_payment_method", "metadata": CHARGE["metadata"]}
FAILED = replace(SENT, failed_at=0.0, status=500)

# the check → what it is shown, in which it does not hold
BROKEN: dict[str, Callable[[], None]] = {
    "S1: two charges of one intent": lambda: safety.s1_no_double(Ghost(), [CHARGE, {**CHARGE, "id": "ch_2"}]),
    "S2: no row": lambda: safety.s2_write_ahead(ghost(row=None), SENT),
    "S2: another body": lambda: safety.s2_write_ahead(ghost(), replace(SENT, body_sha256="other")),
    "S2: another key": lambda: safety.s2_write_ahead(ghost(), replace(SENT, key="other")),
    "S2: no time of a first send": lambda: safety.s2_write_ahead(ghost(row=ROW._replace(first_sent_at=None)), SENT),
    "S3: another key": lambda: safety.s3_key_stability(ghost(SENT), replace(SENT, key="other")),
    "S3: another body": lambda: safety.s3_key_stability(ghost(SENT), replace(SENT, body_sha256="other")),
    "S4: one key for two attempts": lambda: safety.s4_key_injectivity(ghost(SENT), replace(SECOND, key="key_1")),
    "S5: a day later": lambda: safety.s5_window(ghost(SENT), replace(SENT, at=23 * HOUR_S + 80)),
    "S6: before proof": lambda: safety.s6_attempt_advance(ghost(asked={SECOND.attempt}), SECOND, []),
    "S6: beside an open intent": lambda: safety.s6_attempt_advance(
        ghost(row=ROW._replace(state="declined"), asked={SECOND.attempt}), SECOND, [OPEN_INTENT]
    ),
    "S2: told before it is on disk": lambda: safety.s2_told_is_on_disk(ghost(), "order_1", 1, "succeeded"),
    "S5: unsent for a day": lambda: safety.s5_never_stale(
        ghost(SENT, born={ATTEMPT: -25 * HOUR_S}, begun={ATTEMPT: 0.0}), SENT, "resume", 0.0
    ),
    "S6: nobody has asked": lambda: safety.s6_attempt_advance(ghost(), SENT, []),
    "S7: no such charge": lambda: safety.s7_no_false_success(ghost(), SUCCEEDED, "h1", []),
    "S7: another amount": lambda: safety.s7_no_false_success(ghost(), SUCCEEDED, "h1", [{**CHARGE, "amount": 1}]),
    "S7: a failed charge": lambda: safety.s7_no_false_success(
        ghost(), SUCCEEDED, "h1", [{**CHARGE, "status": "failed"}]
    ),
    "S7: of another attempt": lambda: safety.s7_no_false_success(
        ghost(), SUCCEEDED._replace(attempt=2), "h1", [CHARGE]
    ),
    "S7: by a false answer": lambda: safety.s7_no_false_success(
        ghost(replace(SENT, lied=True)), SUCCEEDED, "h1", [CHARGE]
    ),
    "S8: charged": lambda: safety.s8_no_false_failure(looked_for(), ROW._replace(state="declined"), [CHARGE]),
    "S7: the intent of another attempt": lambda: safety.s7_ids_are_ours(
        ROW._replace(attempt=2, provider_intent_id="pi_1"), [{**OPEN_INTENT, "id": "pi_1"}]
    ),
    "S8: rejected by nobody": lambda: safety.s8_refused_by_somebody(ghost(SENT), ROW._replace(state="rejected"), []),
    "S8: declined by nobody": lambda: safety.s8_refused_by_somebody(
        ghost(SENT), ROW._replace(state="declined"), [{**OPEN_INTENT, "last_payment_error": None}]
    ),
    "S8: not cancelled there": lambda: safety.s8_refused_by_somebody(
        ghost(SENT), ROW._replace(state="canceled"), [{**OPEN_INTENT, "canceled_at": None}]
    ),
    "S11: another account": lambda: safety.s11_isolation(ghost(), replace(SENT, credential="other")),
    "S15: an object not listed": lambda: safety.s15_scan_completeness("run_1", {"ch_1"}, {"ch_1", "ch_2"}),
    "S16: not closed": lambda: safety.s16_absence_evidence(ghost(SENT), ABSENT, ROW, reading(HOUR_S), 2 * HOUR_S),
    "S16: no list": lambda: safety.s16_absence_evidence(ghost(SENT), ABSENT, CLOSED, None, 2 * HOUR_S),
    "S16: half of the lists": lambda: safety.s16_absence_evidence(
        ghost(SENT), ABSENT, CLOSED, reading(2 * HOUR_S, done={"/v1/charges"}), 2 * HOUR_S
    ),
    "S16: not quiet": lambda: safety.s16_absence_evidence(
        ghost(SENT), ABSENT, CLOSED, reading(HOUR_S - 80), 2 * HOUR_S
    ),
    "S16: after a 5xx": lambda: safety.s16_absence_evidence(
        ghost(FAILED), ABSENT, CLOSED, reading(71 * HOUR_S), 72 * HOUR_S
    ),
    "S16: not far enough back": lambda: safety.s16_absence_evidence(
        ghost(SENT), ABSENT, CLOSED, reading(2 * HOUR_S, created_from=-800), 2 * HOUR_S
    ),
    "S22: five sends in a call": lambda: safety.s22_amplification(ghost(*[SENT] * 5)),
    "S22: a third 500": lambda: safety.s22_no_third_500(ghost(FAILED, FAILED), replace(SENT, at=HOUR_S)),
    "S23: in a transaction": lambda: safety.s23_no_network_in_a_transaction(True),
    "L1: pending, and nothing told": lambda: liveness.l1_all_ended(ghost(), Ledger(), Rows()),
    "L1: lost": lambda: liveness.l1_all_ended(ghost(row=None, acknowledged={"order_1"}), Ledger(), Rows()),
    "L1: in doubt after a day": lambda: liveness.l1_in_a_day(ghost(SENT), 0.0),
    "L2: not known here": lambda: liveness.l2_all_explained(ghost(row=None), Ledger(CHARGE), Rows()),
    "L2: declined here": lambda: liveness.l2_all_explained(
        ghost(row=ROW._replace(state="declined")), Ledger(CHARGE), Rows()
    ),
    "L2: not known there": lambda: liveness.l2_all_explained(ghost(row=SUCCEEDED), Ledger(), Rows()),
    "L2: another amount": lambda: liveness.l2_all_explained(
        ghost(row=SUCCEEDED), Ledger({**CHARGE, "amount": 1}), Rows()
    ),
    "L2: told as gone": lambda: liveness.l2_told_is_so(
        looked_for(), Ledger(CHARGE), Rows(("missing_at_provider", "order_1", "ch_1"))
    ),
    "L2: told as charged twice": lambda: liveness.l2_told_is_so(
        looked_for(), Ledger(CHARGE), Rows(("duplicate_charge", "order_1", "ch_1"))
    ),
    "L4: incomplete": lambda: liveness.after_run(date(2026, 11, 20), ProviderUnavailable("planted"), Rows()),
    "L5: refused": lambda: liveness.after_resume(1, [ROW], ProviderUnavailable("planted"), 0.0),
    "L6: left out": lambda: liveness.after_resume(1, [ROW], (), 0.0),
    "L7: too slow": lambda: liveness.after_resume(1, [], (), 61.0),
}


@pytest.mark.parametrize("case", BROKEN)
def test_check_can_fail(case: str) -> None:
    """What a check forbids makes it fail, under its own name."""
    with pytest.raises(Broken) as caught:
        BROKEN[case]()
    assert caught.value.check == case.partition(":")[0]


def test_checks_hold_of_a_sound_ledger() -> None:
    """A charge that was sent as its row says, and that is known on both sides, breaks nothing."""
    sound, declined = ghost(SENT, row=SUCCEEDED), ROW._replace(state="declined")
    sound.look_at(CHARGE)
    safety.s1_no_double(sound, [CHARGE])
    for check in safety.ON_SEND:
        check(sound, SENT)
    safety.s2_told_is_on_disk(sound, "order_1", 1, "succeeded")
    safety.s5_never_stale(ghost(SENT, born={ATTEMPT: 0.0}, begun={ATTEMPT: 0.0}), SENT, "resume", 0.0)
    safety.s7_ids_are_ours(SUCCEEDED._replace(provider_intent_id="pi_1"), [{**OPEN_INTENT, "id": "pi_1"}])
    cleared = [{**OPEN_INTENT, "status": "canceled"}]
    safety.s6_attempt_advance(ghost(row=declined, asked={SECOND.attempt}), SECOND, cleared)
    safety.s7_no_false_success(sound, SUCCEEDED, "h1", [CHARGE])
    safety.s8_no_false_failure(sound, declined, [{**CHARGE, "status": "failed"}])
    safety.s8_refused_by_somebody(sound, declined, [{**OPEN_INTENT, "last_payment_error": {"code": "card_declined"}}])
    safety.s15_scan_completeness("run_1", {"ch_1", "ch_2"}, {"ch_1"})
    safety.s16_absence_evidence(ghost(SENT), ABSENT, CLOSED, reading(HOUR_S), HOUR_S)
    safety.s22_amplification(ghost(*[SENT] * 4))
    for end in liveness.AT_THE_END:
        end(sound, Ledger(CHARGE), Rows())


def test_every_check_is_shown_to_fail() -> None:
    """No check is left out above."""
    checks = {name.partition("_")[0].upper() for module in (safety, liveness) for name in vars(module)}
    numbered = {name for name in checks if name[:1] in "SL" and name[1:].isdigit()}
    assert numbered <= {case.partition(":")[0] for case in BROKEN}
