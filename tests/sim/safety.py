"""The safety checks S1–S8, S11, S16, S22 and S23 of FAULTS §2, each a function on the ghost ledger.

Each raises `Broken` with its own name. S12 is every check over schedules without leases; S25 is the trace's; those of
nightly runs are in `safety_of_runs.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from gateway_client.charge import Charge
from gateway_client.state import PENDING, REFUSED
from tests.sim.ghost import Ghost, Key, Reading, Row, Sent, moved, seconds_of

# The published model, written out once more: a mistake in `bounds.py` must not move what is expected of it.
HOUR_S = 3600.0
PRUNED_S, HOLD_S, FIRST_BYTE_S, EXECUTION_S = 24 * HOUR_S, HOUR_S, 10.0, 90.0
TOLERANCE_S, LAG_S, ROLL_FORWARD_S = 300.0, 2 * HOUR_S, 72 * HOUR_S
KEY_LIFE_S = PRUNED_S - HOLD_S - FIRST_BYTE_S - 2 * TOLERANCE_S
QUIET_S = HOLD_S + FIRST_BYTE_S + EXECUTION_S + LAG_S + 2 * TOLERANCE_S
QUIET_UNPROVEN_S = QUIET_S + ROLL_FORWARD_S  # a 500, seen or not: another delivery's may be the one that is mended
BEFORE_FIRST_S = 3 * TOLERANCE_S
SLACK_S = 75.0  # ten seconds from "begun" to the first byte, whole seconds, and a clock set by less than a minute
LISTS = {"/v1/payment_intents", "/v1/charges"}
SENDS_OF_A_CALL_MAX, SERVER_ERRORS_MAX = 4, 2
STALE_S = 24 * 3600.0
OUR_CREDENTIALS = ("ours", "rotated", "restricted", "revoked")


class Broken(AssertionError):
    """A check does not hold."""

    def __init__(self, check: str, why: str) -> None:
        super().__init__(f"{check}: {why}")
        self.check = check
        self.why = why


# At each step of the provider ----------------------------------------------------------------------------------------


def s1_no_double(ghost: Ghost, charges: Iterable[dict[str, Any]]) -> None:
    """At most one charge of an intent has moved money."""
    count: Counter[str] = Counter()
    for charge in charges:
        ghost.look_at(charge)
        whose = ghost.charges[charge["id"]]
        if whose is not None and moved(charge):
            count[whose[0]] += 1
    for intent_id, times in count.items():
        if times > 1 and intent_id not in ghost.excused:
            raise Broken("S1", f"{intent_id} was charged {times} times")


# At each send --------------------------------------------------------------------------------------------------------


def s2_write_ahead(ghost: Ghost, sent: Sent) -> None:
    """A row with the same key and body, and the time of its first send, is on disk before the send."""
    row = ghost.rows.get(sent.attempt)
    if row is None:
        raise Broken("S2", f"{sent.attempt} is sent and has no row")
    told = (row.key, row.body_sha256, row.api_version)
    if told != (sent.key, sent.body_sha256, sent.api_version):
        raise Broken("S2", f"{sent.attempt} is sent otherwise than its row says")
    if row.first_sent_at is None:
        raise Broken("S2", f"{sent.attempt} is sent, and its first send has no time on disk")


def s2_told_is_on_disk(ghost: Ghost, intent_id: str, attempt: int, state: str) -> None:
    """An end that a caller is told of is on disk before."""
    row = ghost.rows.get((intent_id, attempt))
    if row is None or (row.state != state and state not in PENDING):
        raise Broken(
            "S2", f"{intent_id} attempt {attempt} is told as {state}, and is {row.state if row else 'not there'}"
        )


def s3_key_stability(ghost: Ghost, sent: Sent) -> None:
    """Every send of an attempt repeats key, body and API version."""
    for other in ghost.sends:
        if other.attempt == sent.attempt and (other.key, other.body_sha256, other.api_version) != (
            sent.key,
            sent.body_sha256,
            sent.api_version,
        ):
            raise Broken("S3", f"two sends of {sent.attempt} differ")


def s4_key_injectivity(ghost: Ghost, sent: Sent) -> None:
    """No two attempts share a key."""
    for other in ghost.sends:
        if other.key == sent.key and other.attempt != sent.attempt:
            raise Broken("S4", f"{sent.attempt} and {other.attempt} share a key")


def s5_window(ghost: Ghost, sent: Sent) -> None:
    """Nothing is sent when the key's life is over at the last check of the time, counted from the true first send."""
    first = ghost.first(sent.attempt)
    if first is not None and sent.checked_at - first >= KEY_LIFE_S + SLACK_S:
        hours = (sent.checked_at - first) / HOUR_S
        raise Broken("S5", f"{sent.attempt} is sent, {hours:.2f} h after its first send by the last check of the time")


def s5_time_goes_on(store: Any, charge: Charge, send_no: int) -> None:
    """No send is begun at a time that is more than a minute behind what the store has seen (SQLite's texts of it)."""
    others = "SELECT max(begun_at) FROM paycli_sends WHERE NOT (intent_id = ? AND attempt = ? AND send_no = ?)"
    ((latest,),) = store.read(others, charge.intent_id, charge.attempt, send_no)
    if latest is not None and charge.last_sent_at is not None:
        behind_s = seconds_of(latest) - charge.last_sent_at.timestamp()
        if behind_s > 60.0:
            raise Broken("S5", f"{charge.intent_id} is sent {behind_s:.0f} s behind what the store has seen")


def s5_never_stale(ghost: Ghost, sent: Sent, verb: str, call_begun_at: float) -> None:
    """What has waited unsent for a day is not sent by a resume: a person charges it again, or cancels it."""
    first = ghost.clocks_right and ghost.begun[sent.attempt] >= call_begun_at
    first = first and all(other.call == sent.call for other in ghost.sends if other.attempt == sent.attempt)
    if verb in ("resume", "work") and first and call_begun_at - ghost.born[sent.attempt] >= STALE_S + SLACK_S:
        raise Broken("S5", f"{sent.attempt} was never sent for a day, and {verb} sends it")


def s5_not_after(ghost: Ghost, sent: Sent) -> None:
    """Nothing is sent after the last moment that its attempt names, by the last check of the time before it."""
    row = ghost.rows.get(sent.attempt)
    right = ghost.clocks_right and not ghost.stood_still  # a machine that stood still dates its first send too early
    if row is None or row.not_after is None or not right:
        return
    late = sent.checked_at - seconds_of(row.not_after)
    if late > TOLERANCE_S + SLACK_S:
        raise Broken("S5", f"{sent.attempt} is sent {late:.0f} s after it may be")


def s6_attempt_advance(ghost: Ghost, sent: Sent, intents: Iterable[dict[str, Any]]) -> None:
    """Attempt n+1 is sent only when n is refused by proof, and nothing of it is left open at the provider."""
    intent_id, attempt = sent.attempt
    if sent.attempt not in ghost.asked:
        raise Broken("S6", f"{sent.attempt} is sent, and nobody has asked for it")
    if intent_id in ghost.excused:
        return  # the provider made a second intent of an attempt: nobody here knows of it before the next run
    for number in range(1, attempt):
        row = ghost.rows.get((intent_id, number))
        if row is None or row.state not in REFUSED:
            raise Broken("S6", f"{sent.attempt} is sent while attempt {number} is {row.state if row else 'missing'}")
    reading = ghost.cleared.get(sent.attempt)
    if reading is not None and reading.lied:
        return  # one of the lists was another reading's: what had moved money was in the other one
    for intent in intents:
        of = intent["metadata"]
        earlier = of.get("paycli_intent") == intent_id and int(of["paycli_attempt"]) < attempt
        if ghost.intents.get(intent["id"]) is None:
            continue  # a stranger's, whatever somebody has written on it
        if earlier and intent["status"] != "canceled":
            raise Broken("S6", f"{sent.attempt} is sent while {of['paycli_attempt']} is {intent['status']} there")


def s6_read_first(ghost: Ghost, row: Row, intents: Iterable[dict[str, Any]]) -> None:
    """Attempt n+1 is made only when the provider was read after n ended."""
    previous = (row.intent_id, row.attempt - 1)
    before, reading = ghost.rows.get(previous), ghost.cleared.get((row.intent_id, row.attempt))
    if before is None or before.state == "canceled":
        return
    cancelled = any(_of(one) == previous and one["status"] == "canceled" for one in intents)
    if not cancelled and (reading is None or reading.done != LISTS):
        raise Broken(
            "S6", f"{row.intent_id} attempt {row.attempt} is made, and nobody has read what became of the last"
        )


def s6_beside_no_success(intent_id: str, attempt: int, store: Any) -> None:
    """Nothing is sent beside money that the provider has taken for another attempt, whoever has closed its finding."""
    found = store.read(
        "SELECT id FROM paycli_findings WHERE intent_id = ? AND attempt <> ? AND charged", intent_id, attempt
    )
    if found:
        raise Broken("S6", f"{intent_id} attempt {attempt} is sent beside the finding {found[0][0]}")


def s22_no_third_500(ghost: Ghost, sent: Sent) -> None:
    """A saved 500 is asked for twice, and then looked up (F37)."""
    known = [other.failed_at for other in ghost.of_attempt(sent.attempt) if other.status == 500]
    failed = sum(at is not None and at < sent.checked_at for at in known)  # the gate may have been passed before
    if failed >= SERVER_ERRORS_MAX:
        raise Broken("S22", f"{sent.attempt} is sent after {failed} answers with 500")


def s11_isolation(ghost: Ghost, sent: Sent) -> None:
    """Nothing is sent with a credential of another mode or account."""
    if sent.credential not in OUR_CREDENTIALS:
        raise Broken("S11", f"{sent.attempt} is sent with the credential {sent.credential!r}")


def s11_another_key(ghost: Ghost, sent: Sent, reading: Reading | None) -> None:
    """What is in doubt under one API key goes out under another only after a reading begun a quiet time later."""
    before = [other for other in ghost.of_attempt(sent.attempt) if other is not sent]
    if not before or before[-1].credential == sent.credential:
        return
    doubtful = [other.checked_at for other in before if _unproven(other)]
    if not doubtful:
        return
    if reading is None or reading.done != LISTS or reading.begun_at < max(doubtful) + QUIET_S - SLACK_S:
        raise Broken("S11", f"{sent.attempt} is in doubt under another API key, and is sent under {sent.credential!r}")


ON_SEND = (
    *(s2_write_ahead, s3_key_stability, s4_key_injectivity, s5_window, s5_not_after),
    *(s11_isolation, s22_no_third_500),
)


# At each commit ------------------------------------------------------------------------------------------------------


def s7_no_false_success(ghost: Ghost, row: Row, call: str, charges: Iterable[dict[str, Any]]) -> None:
    """`succeeded` names a charge that is there, of this attempt and amount, and no answer about something else."""
    last = next((sent for sent in reversed(ghost.sends) if sent.call == call), None)
    if last is not None and last.attempt == (row.intent_id, row.attempt) and last.lied:
        raise Broken("S7", f"{row.intent_id} attempt {row.attempt} is succeeded by an answer about something else")
    for charge in charges:
        ghost.look_at(charge)
        whose = ghost.charges[charge["id"]] or (row.intent_id, row.attempt)
        same = (charge["id"], charge["amount"], charge["currency"], *whose)
        if same == (row.provider_charge_id, row.amount, row.currency, row.intent_id, row.attempt) and moved(charge):
            return
    raise Broken("S7", f"{row.intent_id} attempt {row.attempt} is succeeded, and {row.provider_charge_id} is not there")


def s7_ids_are_ours(ghost: Ghost, row: Row) -> None:
    """The provider's intent that a row names was made for its own attempt, whatever its metadata say by now."""
    named = row.provider_intent_id
    if named in ghost.intents and ghost.intents[named] != (row.intent_id, row.attempt):
        whose = ghost.intents[named] or "a stranger"
        raise Broken("S7", f"{row.intent_id} attempt {row.attempt} names {named}, which is of {whose}")


def s7_cancels_its_own(ghost: Ghost, provider_intent_id: str) -> None:
    """Nothing is cancelled at the provider but what was made for one of our attempts."""
    if ghost.intents.get(provider_intent_id) is None:
        raise Broken("S7", f"{provider_intent_id} is cancelled, and nobody here has made it")


def s8_no_false_failure(ghost: Ghost, row: Row, charges: Iterable[dict[str, Any]]) -> None:
    """When an attempt ends without money, its money has not moved."""
    for charge in charges:
        if ghost.charges.get(charge["id"]) == (row.intent_id, row.attempt) and moved(charge):
            raise Broken("S8", f"{row.intent_id} attempt {row.attempt} is {row.state}, and {charge['id']} succeeded")


def s8_rejected_alone(ghost: Ghost, row: Row) -> None:
    """A rejection is no end while another send of the attempt may still be executed: not beside an unproven one."""
    attempt = (row.intent_id, row.attempt)
    beside = [sent for sent in ghost.of_attempt(attempt) if sent.may_execute and _unproven(sent)]
    if row.state == "rejected" and beside:
        raise Broken("S8", f"{attempt} is rejected, and {len(beside)} sends of it are unproven")


def s8_refused_by_somebody(ghost: Ghost, row: Row, intents: Iterable[dict[str, Any]]) -> None:
    """A refusal is the provider's own word on this attempt: never a timeout, a 409, a 429, a 401 or a box's page.

    `rejected` says what one delivery of a send was told: another may have been executed, which a reading shows.
    """
    attempt = (row.intent_id, row.attempt)
    name = f"{row.intent_id} attempt {row.attempt} is {row.state}"
    if row.state == "rejected" and not any(sent.rejected for sent in ghost.of_attempt(attempt)):
        raise Broken("S8", f"{name}, and the provider has rejected no send of it")
    if row.state not in ("declined", "canceled"):
        return
    theirs = [one for one in intents if _of(one) == attempt]
    if row.state == "declined" and not any(one["last_payment_error"] for one in theirs):
        raise Broken("S8", f"{name}, and nobody has refused it")
    if row.state == "canceled" and ghost.of_attempt(attempt) and not any(one["canceled_at"] for one in theirs):
        raise Broken("S8", f"{name}, and was sent, and is not cancelled there")


def _of(intent: dict[str, Any]) -> Key | None:
    of = intent["metadata"]
    return (of["paycli_intent"], int(of["paycli_attempt"])) if "paycli_intent" in of else None


def s8_absence_stays_true(ghost: Ghost, attempt: Key) -> None:
    """What is charged in the end was not called absent while a send of it was unproven."""
    row, ours = ghost.rows.get(attempt), attempt[0] not in ghost.handled | ghost.excused
    if row is not None and row.state == "absent" and ours and any(map(_unproven, ghost.of_attempt(attempt))):
        raise Broken("S8", f"{attempt} was called absent, and it is charged in the end")


def s8_cancelled_late(ghost: Ghost, provider_intent_id: str, now: float) -> None:
    """What nobody has given up is cancelled at the provider only when it is closed, and no 500 of it can charge."""
    for key, row in ghost.rows.items():
        if row.provider_intent_id != provider_intent_id or key[0] in ghost.handled:
            continue
        quiet = max((sent.checked_at + QUIET_UNPROVEN_S for sent in ghost.of_attempt(key)), default=0.0)
        if row.closed_at is None or now < quiet - SLACK_S:
            raise Broken("S8", f"{key} is cancelled at the provider, and a 500 of it may be rolled forward")


def s16_closed_is_closed(charge: Charge) -> None:
    """No send is begun of an attempt that is closed."""
    if charge.closed_at is not None:
        raise Broken("S16", f"{charge.intent_id} attempt {charge.attempt} is closed, and a send of it is begun")


def s16_absence_evidence(ghost: Ghost, row: Row, before: Row | None, reading: Reading | None, now: float) -> None:
    """`absent` has all four conditions: closed, quiet, and a complete list that was begun when it was quiet."""
    attempt = (row.intent_id, row.attempt)
    name = f"{row.intent_id} attempt {row.attempt} is absent"
    if before is None or before.closed_at is None:
        raise Broken("S16", f"{name}, and was not closed")
    if reading is None or reading.done != LISTS:
        raise Broken("S16", f"{name} without a complete list")
    left = ghost.of_attempt(attempt)
    quiet = max([sent.checked_at + (QUIET_UNPROVEN_S if _unproven(sent) else QUIET_S) for sent in left], default=0.0)
    if reading.begun_at < quiet - SLACK_S:
        raise Broken("S16", f"{name} by a list that was begun {quiet - reading.begun_at:.0f} s too early")
    first = ghost.first(attempt)
    if first is not None and reading.created_from > first - BEFORE_FIRST_S + TOLERANCE_S + SLACK_S:
        raise Broken("S16", f"{name} by a list that does not reach back to its first send")


def _unproven(sent: Sent) -> bool:
    """No result of a send is proven: nobody answered in the provider's own words, or they were a 5xx or a 409."""
    return not sent.own_word or sent.status == 409 or (sent.status or 0) >= 500


def s22_amplification(ghost: Ghost) -> None:
    """A call sends an attempt at most four times, so that in any minute sends are bounded by calls.

    A worker is a call that need not end: what holds of it is in `shift.py`.
    """
    count: Counter[tuple[str, Key]] = Counter()
    for sent in ghost.sends:
        waited_out = sent.status == 409  # "being executed now", which is not counted
        count[sent.call, sent.attempt] += not (waited_out or sent.by_worker)
    for (call, attempt), times in count.items():
        if times > SENDS_OF_A_CALL_MAX:
            raise Broken("S22", f"{call} sent {attempt} {times} times")


def s23_no_network_in_a_transaction(asked: bool) -> None:
    """Nothing is asked while a transaction is open."""
    if asked:
        raise Broken("S23", "a request was made inside a database transaction")
