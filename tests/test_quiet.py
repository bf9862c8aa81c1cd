"""What a reading that shows nothing allows: the judges of `absent` and of the next attempt; from when it is quiet."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import httpx
import pytest

from gateway_client import Charge, State, Stripe
from gateway_client.absence import Scan, Stranger, next_attempt_at, quiet_at, why_not_absent, why_not_empty
from gateway_client.evidence import Known, Step, why_not
from gateway_client.flow.effects import BeginSend, Begun, ProveAbsent, Settle
from gateway_client.gateways.stripe_api import PROFILE
from gateway_client.outcome import (
    Answer,
    Canceled,
    Cause,
    Conflict,
    Declined,
    InFlight,
    NotExecuted,
    Processing,
    Refused,
    Rejected,
    RequiresAction,
    Succeeded,
    Unknown,
)
from tests.kit import BOUNDS, ONE_SEND, ORDER, START, World

SECOND = timedelta(seconds=1)
CREDENTIAL = Stripe("sk_test_sandbox").credential_id


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


# The judge of absence

CLOSED = START + BOUNDS.key_life
LOST = Charge(
    *("order_42", 1, State.UNKNOWN, "pc1_k", 2000, "usd", None, None, 1, START, START, None, None),
    closed_at=CLOSED,
    quiet_from=CLOSED,
    last_sent_at=START + timedelta(hours=1),
)
FULL = Scan(
    created_from=START - BOUNDS.look_back,
    begun_at=CLOSED + BOUNDS.quiet,
    why_incomplete=None,
    read_back_to=START - BOUNDS.look_back,
    found={},
    strangers=frozenset(),
)
UNPROVEN = replace(LOST, unproven=True)


def test_four_conditions() -> None:
    """Closed, quiet, a complete list without our key or a stranger's success: then, and only then, it is absent."""
    assert why_not_absent(LOST, BOUNDS, FULL) is None


@pytest.mark.parametrize(
    ("charge", "scan"),
    [
        (replace(LOST, closed_at=None), FULL),
        (replace(LOST, quiet_from=None), FULL),
        (replace(LOST, first_sent_at=None), FULL),
        (LOST, replace(FULL, begun_at=FULL.begun_at - SECOND)),
        (replace(LOST, quiet_from=CLOSED + SECOND), FULL),
        (UNPROVEN, FULL),
        (UNPROVEN, replace(FULL, begun_at=CLOSED + BOUNDS.quiet_unproven - SECOND)),
        (LOST, replace(FULL, why_incomplete="HTTP 500")),
        (LOST, replace(FULL, created_from=FULL.created_from + SECOND)),
        (LOST, replace(FULL, found={"pc1_k": Answer(Unknown("seen"))})),
        (LOST, replace(FULL, claimed=frozenset({"pc1_k"}))),
        (LOST, replace(FULL, strangers=frozenset({Stranger(2000, "usd")}))),
        (replace(LOST, provider_intent_id="pi_1"), FULL),
    ],
)
def test_one_condition_missing(charge: Charge, scan: Scan) -> None:
    """With any one condition missing it is not absent, and the reason says why (S16)."""
    assert why_not_absent(charge, BOUNDS, scan)


def test_conditions_that_hold_again() -> None:
    """Strangers of another amount or currency, other keys, and sends of long ago do not stand in the way."""
    scan = replace(
        FULL,
        found={"pc1_other": Answer(Unknown("seen"))},
        claimed=frozenset({"pc1_other"}),
        strangers=frozenset({Stranger(2001, "usd"), Stranger(2000, "eur")}),
    )
    assert why_not_absent(LOST, BOUNDS, scan) is None
    assert why_not_absent(UNPROVEN, BOUNDS, replace(FULL, begun_at=CLOSED + BOUNDS.quiet_unproven)) is None


# From when


def test_quiet_at() -> None:
    """A quiet time counts from `quiet_from`, with the roll-forward beside an unproven send; unknown while that is."""
    assert quiet_at(LOST, BOUNDS) == CLOSED + BOUNDS.quiet
    assert quiet_at(replace(LOST, quiet_from=None), BOUNDS) is None
    assert quiet_at(replace(LOST, closed_at=None), BOUNDS) is None, "another send may be begun at any time"
    late = replace(LOST, quiet_from=CLOSED + timedelta(days=3))
    assert quiet_at(late, BOUNDS) == CLOSED + timedelta(days=3) + BOUNDS.quiet
    assert quiet_at(UNPROVEN, BOUNDS) == CLOSED + BOUNDS.quiet_unproven


ENDED = START + timedelta(minutes=7)
NAMELESS = replace(LOST, state=State.DECLINED, last_ended_at=ENDED)


@pytest.mark.parametrize(
    ("charge", "at"),
    [
        (replace(UNPROVEN, state=State.ABSENT), None),
        (NAMELESS, ENDED + BOUNDS.quiet),
        (replace(NAMELESS, provider_intent_id="pi_1"), None),
        (replace(LOST, state=State.REJECTED, last_ended_at=ENDED), None),
        (replace(UNPROVEN, state=State.CANCELED, last_ended_at=ENDED), None),
    ],
)
def test_next_attempt_at(charge: Charge, at: datetime | None) -> None:
    """Attempt n+1 waits after a decline that named no intent; what an absence waits for has passed."""
    assert next_attempt_at(charge, BOUNDS) == at


READ = replace(FULL, begun_at=CLOSED + BOUNDS.quiet_unproven)


@pytest.mark.parametrize("state", [State.REJECTED, State.DECLINED, State.ABSENT])
def test_next_attempt_needs_a_reading(state: State) -> None:
    """After a refusal the next attempt needs a complete reading that shows nothing, begun late enough (S6)."""
    charge = replace(UNPROVEN, state=state, last_ended_at=ENDED)
    assert judged(charge, READ) is None
    assert judged(charge, None)
    for scan in (
        replace(READ, why_incomplete="HTTP 500"),
        replace(READ, claimed=frozenset({"pc1_k"})),
        replace(READ, created_from=READ.created_from + SECOND),
    ):
        assert judged(charge, scan) == why_not_empty(charge, BOUNDS, scan)
        assert judged(charge, scan)
    assert judged(replace(charge, provider_intent_id="pi_1"), READ)
    at = next_attempt_at(charge, BOUNDS)
    if at is not None:
        assert judged(charge, replace(READ, begun_at=at)) is None
        assert "listed late" in (judged(charge, replace(READ, begun_at=at - SECOND)) or "")


def judged(charge: Charge, scan: Scan | None) -> str | None:
    return why_not(Step.NEXT_ATTEMPT, Known(charge, BOUNDS, READ.begun_at, scan))


@pytest.mark.parametrize("step", Step)
def test_steps_that_a_state_allows(step: Step) -> None:
    """With all the evidence there can be, each step is taken from its own states only (S6)."""
    never_left = replace(LOST, first_sent_at=None, last_sent_at=None, closed_at=None, quiet_from=None)
    young = replace(LOST, closed_at=None, quiet_from=None)
    best = {Step.SEND: never_left, Step.CANCEL: never_left, Step.SEND_AGAIN: young}.get(step, LOST)
    now = START + timedelta(hours=1) if step is Step.SEND_AGAIN else READ.begun_at
    allowed = {state for state in State if why_not(step, Known(replace(best, state=state), BOUNDS, now, READ)) is None}
    assert (
        allowed
        == {
            Step.SEND: {State.PREPARED},
            Step.SEND_AGAIN: {State.SENDING, State.UNKNOWN},
            Step.CANCEL: {State.PREPARED},
            Step.CONCLUDE_ABSENCE: {State.SENDING, State.UNKNOWN, State.CONFLICT},
            Step.CANCEL_THERE: {State.SENDING, State.UNKNOWN, State.PROCESSING, State.REQUIRES_ACTION},
            Step.NEXT_ATTEMPT: {State.CANCELED, State.REJECTED, State.DECLINED, State.ABSENT},
        }[step]
    )


def test_an_uncharged_intent_is_cancelled_when_no_500_can_charge_it() -> None:
    """A9: only when the attempt is closed, its time is known, and the roll-forward is over since, to the second."""
    begun = START + BOUNDS.quiet_unproven
    closed = replace(LOST, closed_at=START, quiet_from=START)
    told = [
        why_not(Step.CANCEL_THERE, Known(charge, BOUNDS, now))
        for charge, now in (
            (closed, begun),
            (closed, begun - SECOND),
            (replace(closed, quiet_from=None), begun),
            (replace(closed, closed_at=None), begun),
        )
    ]
    assert [why is None for why in told] == [True, False, False, False]


@pytest.mark.parametrize("step", [Step.SEND, Step.CANCEL])
def test_what_has_left_is_neither_new_nor_cancelled(step: Step) -> None:
    """Once a byte may have left, an attempt is not sent as a new one, nor called `canceled` at once (S5)."""
    assert why_not(step, Known(replace(LOST, state=State.PREPARED), BOUNDS, START))


@pytest.mark.parametrize(
    "changed",
    [
        {"closed_at": CLOSED},
        {"provider_intent_id": "pi_1"},
        {"first_sent_at": START - BOUNDS.key_life + timedelta(hours=1)},
        {"first_sent_at": None},
    ],
)
def test_what_ends_the_sends_of_a_key(changed: dict[str, object]) -> None:
    """A key is not sent again when it is closed, its intent is known, its life is over, or was never known (S5)."""
    now = START + timedelta(hours=1)
    young = replace(LOST, closed_at=None, quiet_from=None)
    assert why_not(Step.SEND_AGAIN, Known(young, BOUNDS, now)) is None
    assert why_not(Step.SEND_AGAIN, Known(replace(young, **changed), BOUNDS, now))  # type: ignore[arg-type]


# On disk

PROVEN: list[tuple[Answer, bool]] = [
    (Answer(Succeeded("pi_1", "ch_1"), proven=True, status=200), True),
    (Answer(Processing("later"), proven=True, status=200), True),
    (Answer(RequiresAction("bank"), proven=True, status=200), True),
    (Answer(Canceled("cancelled"), proven=True, status=200), True),
    (Answer(Declined("card_declined"), proven=True, status=402), True),
    (Answer(Rejected("parameter_missing amount"), proven=True, status=400), True),
    (Answer(Refused(Cause.RATE_LIMITED, "429"), proven=True, status=429), True),
    (Answer(Refused(Cause.CREDENTIAL, "401"), proven=True, status=401), True),
    (Answer(Unknown("HTTP 500"), proven=True, status=500), False),
    (Answer(Unknown("HTTP 500"), status=500), False),
    (Answer(Unknown("HTTP 503"), proven=True, status=503), False),
    (Answer(Unknown("HTTP 401", told=True, cause=Cause.CREDENTIAL), status=401), False),
    (Answer(Unknown("HTTP 200 without a payment intent"), status=200), False),
    (Answer(Unknown("HTTP 302"), status=302), False),
    (Answer(InFlight("409"), proven=True, status=409), False),
    (Answer(Conflict("other parameters"), proven=True, status=400), False),
    (Answer(Unknown("no whole answer")), False),
    (Answer(NotExecuted(Cause.NOT_SENT, "refused")), True),
    (Answer(NotExecuted(Cause.PAUSED, "paused")), True),
]


def begin(world: World) -> Begun:
    begun = world.perform(
        BeginSend(ORDER.intent_id, 1, world.binding, PROFILE, CREDENTIAL, world.altered, time_asked=True)
    )
    assert isinstance(begun, Begun)
    return begun


@pytest.mark.parametrize(("answer", "proven"), PROVEN)
def test_which_sends_are_proven(world: World, answer: Answer, *, proven: bool) -> None:
    """A send is proven by the provider's own result, never by its 500; one that never left needs no proof (S16)."""
    world.open_client().prepare(ORDER)
    begun = begin(world)
    assert begun.charge.unproven, "on its way"
    charge = world.perform(Settle(ORDER.intent_id, 1, answer, saves_declines=True, send_no=1))
    assert charge.unproven is not proven
    assert world.sql("SELECT outcome, proven, cause FROM paycli_sends") == [(answer.name, answer.proven, answer.cause)]


def test_one_unproven_send_is_enough(world: World) -> None:
    """An attempt is unproven while one of its sends is, however the others were answered (S16)."""
    world.open_client().prepare(ORDER)
    for answer in (Unknown("no whole answer"), Refused(Cause.RATE_LIMITED, "429")):
        begun = begin(world)
        settled = Answer(answer, proven=isinstance(answer, Refused), status=429)
        charge = world.perform(Settle(ORDER.intent_id, 1, settled, saves_declines=True, send_no=begun.send_no))
        assert charge.unproven


def test_the_first_look_up_notes_from_when_it_is_quiet(world: World) -> None:
    """What is closed by its key's age is quiet from the question that its first look-up asked after that (S16)."""
    world.lose()
    world.clock.advance(BOUNDS.key_life)
    (charge,) = world.open_client(retry=ONE_SEND).resume()
    assert (charge.closed_at, charge.quiet_from) == (world.clock.now, world.clock.now)
    world.clock.advance(hours=1)
    (charge,) = world.open_client(retry=ONE_SEND).resume()
    assert charge.quiet_from == charge.closed_at == world.clock.now - timedelta(hours=1), "noted once"


@pytest.mark.parametrize("answered", [0, 1])
def test_a_look_up_that_could_not_ask_notes_nothing(world: World, answered: int) -> None:
    """While nobody tells the look-up the provider's time, no quiet time begins, whoever asked before it (S16)."""
    world.lose()
    client = world.open_client()
    left = [0]

    def hook(request: httpx.Request) -> httpx.Response | None:
        if request.url.path == "/v1/account":
            left[0] -= 1
            if left[0] < 0:
                raise httpx.ReadError("reset", request=request)
        return None

    world.hooks.append(hook)
    client.cancel(ORDER.intent_id, because="the customer left")
    for _ in range(2):
        world.clock.advance(BOUNDS.quiet)
        left[0] = answered  # the gate's question is the first, the look-up's is the next
        assert client.charge(ORDER).quiet_from is None
    assert world.state() is State.UNKNOWN


def test_a_look_up_that_began_before_the_closing_notes_nothing(world: World) -> None:
    """A question that was asked before an attempt was closed is no time from which it is quiet (S16)."""
    world.lose()
    world.sandbox.fault("lost_request", on="GET /v1/account")
    world.open_client().cancel(ORDER.intent_id, because="the customer left")
    before = replace(FULL, begun_at=START)
    for closed, quiet_from in ((False, None), (True, START)):
        charge = world.perform(ProveAbsent(ORDER.intent_id, 1, PROFILE, before, closed))
        assert (charge.state, charge.quiet_from) == (State.UNKNOWN, quiet_from)


def test_first_sent_at_stays(world: World) -> None:
    """Once a byte may have left, the time of the first send stays for good, whatever is answered later (S5)."""
    charge = world.open_client().prepare(ORDER)
    for outcome in (Refused(Cause.RATE_LIMITED, "429"), NotExecuted(Cause.NOT_SENT, "refused"), Rejected("amount")):
        begun = begin(world)
        settled = Answer(outcome, proven=True)
        charge = world.perform(Settle(ORDER.intent_id, 1, settled, saves_declines=True, send_no=begun.send_no))
        assert charge.first_sent_at == START
        world.clock.advance(hours=1)
    assert charge.state is State.REJECTED


def test_first_sent_at_is_cleared_when_nothing_left(world: World) -> None:
    """While our own socket took no byte of any send, a key's life has not begun (F22)."""
    world.open_client().prepare(ORDER)
    for cause in (Cause.NOT_SENT, Cause.PAUSED):
        begun = begin(world)
        settled = Answer(NotExecuted(cause, "refused"))
        charge = world.perform(Settle(ORDER.intent_id, 1, settled, saves_declines=True, send_no=begun.send_no))
        assert (charge.state, charge.first_sent_at) == (State.PREPARED, None)
    world.clock.advance(BOUNDS.key_life)
    assert begin(world).charge.first_sent_at == world.clock.now
