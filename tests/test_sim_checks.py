"""Every check of the simulator fails when what it forbids has happened: each is shown a ledger in which it has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest

from gateway_client import Charge, State, Stripe
from gateway_client.errors import ProviderUnavailable
from gateway_client.gateways.base import NoReply
from tests.sim import liveness, safety, safety_of_runs, shift
from tests.sim.ghost import Ghost, Reading, Row, Sent
from tests.sim.provider import Provider
from tests.sim.safety import Broken
from tests.sim.shift import Shift

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


def made(read: Reading | None, *sends: Sent, row: Row) -> Ghost:
    """Attempt 2 is made, and this is what its claim had read."""
    return ghost(*sends, row=row, cleared={("order_1", 2): read})


class Ledger(Provider):
    """A provider with these charges."""

    def __init__(self, *charges: dict[str, Any]) -> None:
        self._charges = charges

    def charges(self) -> Any:
        return iter(self._charges)

    def intents(self) -> Any:
        return iter(())


class Rows:
    """A store of which every query finds these rows."""

    def __init__(self, *rows: tuple[Any, ...]) -> None:
        self._rows = rows

    def read(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return list(self._rows)


def shift_of(**fields: Any) -> Shift:
    """A worker that makes two sends a second."""
    return Shift("worker_1", 2.0, **fields)


def at_work(taken_at: float = 0.0, **fields: Any) -> Shift:
    """One that has a row on lease."""
    made = shift_of(**fields)
    made.takes([ATTEMPT], 140.0, taken_at)
    return made


def sent_before(at: float, *, times: int = 1, again: bool = True) -> Shift:
    """One that has sent the row in vain; `again`: it has leased it once more since."""
    made = at_work(at)
    made.sends_one(replace(SENT, at=at))
    made.last_sent[ATTEMPT] = (at, times)
    if again:
        made.takes([ATTEMPT], 140.0, at)
    return made


def unanswered(times: int) -> Shift:
    """One that so many sends were not answered of."""
    made = at_work()
    for _ in range(times):
        made.saw(NoReply(True, "planted", 0), of_send=True)
    return made


def asked_twice(seconds: float) -> None:
    """One without tokens asks, and asks again."""
    made = unanswered(10)
    made.asks(0.0, probe=True)
    made.asks(seconds, probe=True)


def asked_to_wait(seconds: float) -> Shift:
    """One that the provider has asked to wait, which it does for a minute at most."""
    made = at_work()
    made.held(0.0, seconds)
    return made


NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
CLOSED_CHARGE = Charge(
    *("order_1", 1, State.SENDING, "key_1", 2000, "usd", None, None, 1, NOON, NOON, None, None), closed_at=NOON
)
CLOSED = ROW._replace(closed_at="2026-11-21 11:00:00.000000")
SUCCEEDED = ROW._replace(state="succeeded", provider_charge_id="ch_1")
ABSENT = ROW._replace(state="absent")
SECOND = replace(SENT, attempt=("order_1", 2), key="key_2")
OPEN_INTENT = {"id": "pi_1", "status": "requires_payment_method", "metadata": CHARGE["metadata"]}
REJECTED, SECOND_ROW = ROW._replace(state="rejected"), ROW._replace(attempt=2, key="key_2", state="prepared")
ROTATED = replace(SENT, credential="rotated", at=5 * HOUR_S)
REFUSED = replace(SENT, own_word=True, status=429)
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
    "S5: a day later": lambda: safety.s5_window(ghost(SENT), replace(SENT, checked_at=safety.KEY_LIFE_S + 80)),
    "S6: before proof": lambda: safety.s6_attempt_advance(ghost(asked={SECOND.attempt}), SECOND, []),
    "S6: beside an open intent": lambda: safety.s6_attempt_advance(
        ghost(row=ROW._replace(state="declined"), asked={SECOND.attempt}, intents={"pi_1": ATTEMPT}),
        SECOND,
        [OPEN_INTENT],
    ),
    "S2: told before it is on disk": lambda: safety.s2_told_is_on_disk(ghost(), "order_1", 1, "succeeded"),
    "S5: unsent for a day": lambda: safety.s5_never_stale(
        ghost(SENT, born={ATTEMPT: -25 * HOUR_S}, begun={ATTEMPT: 0.0}), SENT, "resume", 0.0
    ),
    "S6: made, and nobody has read": lambda: safety.s6_read_first(made(None, row=REJECTED), SECOND_ROW, []),
    "S6: made by half a reading": lambda: safety.s6_read_first(
        made(reading(0.0, done={"/v1/charges"}), row=REJECTED), SECOND_ROW, []
    ),
    "S6: beside a success that somebody has closed": lambda: safety.s6_beside_no_success("order_1", 2, Rows(("f1",))),
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
        ghost(intents={"pi_1": ATTEMPT}), ROW._replace(attempt=2, provider_intent_id="pi_1")
    ),
    "S7: a stranger's intent": lambda: safety.s7_ids_are_ours(
        ghost(intents={"pi_1": None}), ROW._replace(provider_intent_id="pi_1")
    ),
    "S7: a stranger's is cancelled": lambda: safety.s7_cancels_its_own(ghost(intents={"pi_1": None}), "pi_1"),
    "S8: rejected by nobody": lambda: safety.s8_refused_by_somebody(ghost(SENT), REJECTED, []),
    "S8: rejected by a box": lambda: safety.s8_refused_by_somebody(ghost(replace(SENT, status=400)), REJECTED, []),
    "S8: declined by nobody": lambda: safety.s8_refused_by_somebody(
        ghost(SENT), ROW._replace(state="declined"), [{**OPEN_INTENT, "last_payment_error": None}]
    ),
    "S8: not cancelled there": lambda: safety.s8_refused_by_somebody(
        ghost(SENT), ROW._replace(state="canceled"), [{**OPEN_INTENT, "canceled_at": None}]
    ),
    "S11: another account": lambda: safety.s11_isolation(ghost(), replace(SENT, credential="other")),
    "S11: another key of ours, at once": lambda: safety.s11_another_key(ghost(SENT), ROTATED, None),
    "S11: another key of ours, after too early a reading": lambda: safety.s11_another_key(
        ghost(SENT), ROTATED, reading(safety.QUIET_S - 80)
    ),
    "S15: an object not listed": lambda: safety_of_runs.s15_scan_completeness("run_1", {"ch_1"}, {"ch_1", "ch_2"}),
    "S8: rejected beside an open send": lambda: safety.s8_rejected_alone(ghost(SENT, row=REJECTED), REJECTED),
    "S8: absent, and charged in the end": lambda: safety.s8_absence_stays_true(ghost(SENT, row=ABSENT), ATTEMPT),
    "S16: begun when it was closed": lambda: safety.s16_closed_is_closed(CLOSED_CHARGE),
    "S16: not closed": lambda: safety.s16_absence_evidence(ghost(SENT), ABSENT, ROW, reading(HOUR_S), 2 * HOUR_S),
    "S16: no list": lambda: safety.s16_absence_evidence(ghost(SENT), ABSENT, CLOSED, None, 2 * HOUR_S),
    "S16: half of the lists": lambda: safety.s16_absence_evidence(
        ghost(REFUSED), ABSENT, CLOSED, reading(4 * HOUR_S, done={"/v1/charges"}), 4 * HOUR_S
    ),
    "S16: not quiet": lambda: safety.s16_absence_evidence(
        ghost(REFUSED), ABSENT, CLOSED, reading(safety.QUIET_S - 80), 4 * HOUR_S
    ),
    "S16: after a 5xx": lambda: safety.s16_absence_evidence(
        ghost(replace(FAILED, own_word=True)), ABSENT, CLOSED, reading(75 * HOUR_S), 75 * HOUR_S
    ),
    "S16: a 500 may have been missed": lambda: safety.s16_absence_evidence(
        ghost(SENT), ABSENT, CLOSED, reading(75 * HOUR_S), 75 * HOUR_S
    ),
    "S16: not far enough back": lambda: safety.s16_absence_evidence(
        ghost(REFUSED), ABSENT, CLOSED, reading(4 * HOUR_S, created_from=-500), 4 * HOUR_S
    ),
    "S22: five sends in a call": lambda: safety.s22_amplification(ghost(*[SENT] * 5)),
    "S22: a third 500": lambda: safety.s22_no_third_500(
        ghost(FAILED, FAILED), replace(SENT, at=HOUR_S, checked_at=HOUR_S)
    ),
    "S23: in a transaction": lambda: safety.s23_no_network_in_a_transaction(True),
    "L1: pending, and nothing told": lambda: liveness.l1_all_ended(ghost(), Ledger(), Rows()),
    "L1: lost": lambda: liveness.l1_all_ended(ghost(row=None, acknowledged={"order_1"}), Ledger(), Rows()),
    "L1: in doubt after days": lambda: liveness.l1_in_days(ghost(SENT), 0.0),
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
    "L5: refused without having asked": lambda: liveness.l5_asks_for_the_time("h1", HOUR_S),
    "L6: left out": lambda: liveness.after_resume(1, [ROW], (), 0.0),
    "L7: too slow": lambda: liveness.after_resume(1, [], (), 61.0),
    # Of workers
    "L5: a worker is refused": lambda: liveness.a_worker_ends("w", 1, ProviderUnavailable("planted"), 0.0),
    "L7: a worker is too slow": lambda: liveness.a_worker_ends("w", 0, None, 61.0),
    "L6: left out by workers": lambda: liveness.after_work(1, [ROW], set()),
    "S13: not leased": lambda: shift_of().sends_one(SENT),
    "S13: leased, and over": lambda: at_work(taken_at=-140.0).sends_one(SENT),
    "S13: over, whatever the clocks say": lambda: at_work(taken_at=-515.0, clocks_right=False).sends_one(SENT),
    "S13: in the second half of a lease": lambda: at_work(taken_at=-72.0).sends_one(SENT),
    "S13: in the last seconds of a lease": lambda: at_work(taken_at=-131.0).begins(ATTEMPT, 0.0),
    "S13: two have one row": lambda: shift.s13_one_holder(at_work(), [at_work()], 0.0),
    "S22: an open send": lambda: shift.s22_leaves_open_sends_alone(at_work(), [replace(SENT, at=-29.0)], 0.0),
    "S22: twice in one lease": lambda: sent_before(-5.0, again=False).sends_one(SENT),
    "S22: again at once": lambda: sent_before(-0.9).sends_one(SENT),
    "S22: a third time too early": lambda: sent_before(-1.9, times=2).sends_one(SENT),
    "S22: no token left": lambda: unanswered(10).begins(ATTEMPT, 0.0),
    "S22: two questions in a minute": lambda: asked_twice(59.0),
    "S22: over its rate": lambda: at_work(begun_at=-0.4).begins(ATTEMPT, 0.0),
    "S22: sooner than it was asked to": lambda: asked_to_wait(61.0).begins(ATTEMPT, 59.0),
    "L4: told to end": lambda: shift.l4_told_to_end(at_work(told_to_end_at=0.0), "Lease", 0.1),
    "L4: waits on": lambda: shift.l4_waits_no_more(at_work(told_to_end_at=0.0)),
    "L5: asks, and was answered": lambda: at_work().asks(0.0, probe=True),
    "L6: rows are kept": lambda: shift.l6_rows_given_back(at_work(), Rows(("order_1", 1))),
    "L7: the oldest last": lambda: shift.l7_oldest_first(
        at_work(), [SECOND.attempt, ATTEMPT], {ATTEMPT: ROW, SECOND.attempt: ROW._replace(first_sent_at=None)}
    ),
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
    sound.look_at_intent(OPEN_INTENT)
    safety.s7_ids_are_ours(sound, SUCCEEDED._replace(provider_intent_id="pi_1"))
    safety.s7_cancels_its_own(sound, "pi_1")
    liveness.l5_asks_for_the_time("h1", HOUR_S - 1.0)
    second = ghost(row=declined, asked={SECOND.attempt}, intents={"pi_1": ATTEMPT})
    safety.s6_attempt_advance(second, SECOND, [{**OPEN_INTENT, "status": "canceled"}])
    second.intents["pi_1"] = None  # a stranger's, on which somebody has written our names
    safety.s6_attempt_advance(second, SECOND, [OPEN_INTENT])
    safety.s7_no_false_success(sound, SUCCEEDED, "h1", [CHARGE])
    safety.s8_no_false_failure(sound, declined, [{**CHARGE, "status": "failed"}])
    safety.s8_refused_by_somebody(sound, declined, [{**OPEN_INTENT, "last_payment_error": {"code": "card_declined"}}])
    safety_of_runs.s15_scan_completeness("run_1", {"ch_1", "ch_2"}, {"ch_1"})
    for sent, quiet_s in ((REFUSED, safety.QUIET_S), (SENT, safety.QUIET_UNPROVEN_S)):
        safety.s16_absence_evidence(ghost(sent), ABSENT, CLOSED, reading(quiet_s), quiet_s)
    safety.s6_read_first(made(reading(0.0), row=REJECTED), SECOND_ROW, [])
    safety.s6_read_first(made(None, row=declined), SECOND_ROW, [{**OPEN_INTENT, "status": "canceled"}])
    safety.s6_beside_no_success("order_1", 2, Rows())
    safety.s8_refused_by_somebody(ghost(replace(SENT, rejected=True)), REJECTED, [])
    safety.s11_another_key(ghost(SENT), ROTATED, reading(safety.QUIET_S))
    safety.s11_another_key(ghost(replace(SENT, own_word=True, status=400)), ROTATED, None)
    safety.s22_amplification(ghost(*[SENT] * 4))
    for end in liveness.AT_THE_END:
        end(sound, Ledger(CHARGE), Rows())


def test_checks_hold_of_a_sound_worker() -> None:
    """A worker that keeps its leases, its rate and its silence breaks nothing; without leases it has none to keep."""
    at_work(taken_at=-70.0).sends_one(SENT)
    at_work(taken_at=-129.0, begun_at=-0.5).begins(ATTEMPT, 0.0)
    at_work(taken_at=-500.0, clocks_right=False).sends_one(SENT)
    shift_of(leases=False).sends_one(SENT)
    shift.s13_one_holder(at_work(), [at_work(taken_at=-141.0)], 0.0)
    shift.s22_leaves_open_sends_alone(at_work(), [replace(SENT, at=-31.0), replace(SENT, open=False)], 0.0)
    sent_before(-1.0).sends_one(SENT)
    sent_before(-2.0, times=2).sends_one(SENT)
    unanswered(9).begins(ATTEMPT, 0.0)
    asked_twice(60.0)
    asked_to_wait(61.0).begins(ATTEMPT, 60.0)
    unanswered(1).asks(0.0, probe=True)
    shift.l4_told_to_end(at_work(told_to_end_at=0.1), "Lease", 0.1)
    shift.l4_waits_no_more(at_work())
    shift.l6_rows_given_back(at_work(), Rows())
    shift.l6_rows_given_back(at_work(sure=False), Rows(("order_1", 1)))
    shift.l7_oldest_first(at_work(), [ATTEMPT], {ATTEMPT: ROW})
    liveness.a_worker_ends("w", 1, None, 60.0)
    liveness.after_work(1, [ROW], {ATTEMPT})


def test_expectations_are_the_published_lengths() -> None:
    """What the checks expect is written out on its own, and says the same as the code."""
    bounds = Stripe.profile.bounds
    expected = (safety.KEY_LIFE_S, safety.QUIET_S, safety.QUIET_UNPROVEN_S, safety.BEFORE_FIRST_S)
    derived = (bounds.key_life, bounds.quiet, bounds.quiet_unproven, bounds.look_back)
    assert expected == tuple(length.total_seconds() for length in derived)


def test_every_check_is_shown_to_fail() -> None:
    """No check is left out above."""
    checks = {name.partition("_")[0].upper() for module in (safety, shift, liveness) for name in vars(module)}
    numbered = {name for name in checks if name[:1] in "SL" and name[1:].isdigit()}
    assert numbered <= {case.partition(":")[0] for case in BROKEN}
