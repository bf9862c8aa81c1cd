"""Faults that are joined, and requests that are delivered twice with a fate of its own for each delivery."""

from collections.abc import Iterator

import httpx
import pytest

from gateway_client.sandbox import FAULT_KINDS, FAULTS, FaultKind, Reply, Request, Sandbox
from tests.sandbox_kit import CONFIRMED, create, error_of, in_process

START = 1_800_000_000
HOUR_S = 3600
CANCEL = "POST /v1/payment_intents/*/cancel"
TOLD = {
    "double_400": (400, "resource_missing", "payment_method"),
    "double_401": (401, "api_key_expired", None),
    "double_409": (409, "idempotency_key_in_use", None),
    "double_429": (429, "rate_limit", None),
    "double_500": (500, None, None),
}


@pytest.fixture
def sandbox() -> Sandbox:
    return Sandbox(time=lambda: float(START))


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[httpx.Client]:
    with in_process(sandbox) as client:
        yield client


def created(sandbox: Sandbox) -> list[int]:
    """When each charge was made, in seconds from the start, newest first."""
    return [charge["created"] - START for charge in sandbox.charges]


# --- joined


def test_every_part_has_a_kind() -> None:
    """Each fault is of one kind, and each kind has some."""
    assert list(FAULT_KINDS) == list(FAULTS)
    assert set(FAULT_KINDS.values()) == set(FaultKind)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("slow+lost", "no fault is called 'lost'"),
        ("", "no fault is called ''"),
        ("slow+", "no fault is called ''"),
        ("slow+slow", "one part of a kind"),
        ("error_500+in_use_409", "one part of a kind"),
        ("page_404+lost_reply", "one part of a kind"),
        ("duplicate+double_429", "one part of a kind"),
        ("refused+page_404", "nothing was sent"),
        ("box_before+error_500", "never reaches the provider"),
        ("lost_request+slow", "never reaches the provider"),
    ],
)
def test_what_cannot_be_joined(sandbox: Sandbox, name: str, why: str) -> None:
    """Parts that are unknown, or cannot happen together, are an error that says so, for a script and for a rate."""
    with pytest.raises(ValueError, match=why):
        sandbox.fault(name)
    with pytest.raises(ValueError, match=why):
        sandbox.faults = {name: 0.1}


def test_the_order_of_the_parts_does_not_matter(client: httpx.Client, sandbox: Sandbox) -> None:
    """The way back may be named before what happens on the way there; the record has the name as it was given."""
    for number, name in enumerate(("error_500_charged+page_404", "page_404+error_500_charged")):
        sandbox.fault(name)
        assert create(client, key=f"key_{number}").status_code == 404
        assert create(client, key=f"key_{number}").status_code == 500
        assert sandbox.requests[-2].fault == name
    assert len(sandbox.charges) == 2


def test_a_joined_fault_as_a_rate(client: httpx.Client, sandbox: Sandbox) -> None:
    """A joined fault is drawn as any other one is."""
    sandbox.faults = {"box_before+filter_401_json": 1.0}
    assert create(client).status_code == 401
    assert sandbox.charges == ()


def test_a_hidden_500_is_rolled_forward(client: httpx.Client, sandbox: Sandbox) -> None:
    """A saved 500 behind an error page with status 200: the page is seen once, the 500 afterwards, the charge later."""
    sandbox.fault("error_500_later+page_200_html")
    page, again = create(client, key="key_1"), create(client, key="key_1")
    assert [page.status_code, page.headers["Content-Type"]] == [200, "text/html; charset=utf-8"]
    assert [again.status_code, again.headers["Idempotent-Replayed"]] == [500, "true"]
    sandbox.clock.advance(sandbox.roll_forward_s)
    assert created(sandbox) == [sandbox.roll_forward_s]


def test_every_length_at_its_bound(client: httpx.Client, sandbox: Sandbox) -> None:
    """Held an hour, executed for 90 s, a 500, rolled forward 72 h after the execution ended, and a page is seen."""
    sandbox.late_s, sandbox.slow_s, sandbox.roll_forward_s = HOUR_S, 90, 72 * HOUR_S
    sandbox.fault("late+slow+error_500_later+page_404")
    assert create(client, key="key_1").status_code == 404
    sandbox.clock.advance(HOUR_S + 89)
    assert error_of(create(client, key="key_1")) == (409, "idempotency_key_in_use", None)
    sandbox.clock.advance(1)
    assert create(client, key="key_1").status_code == 500
    sandbox.clock.advance(72 * HOUR_S - 1)
    assert created(sandbox) == []
    sandbox.clock.advance(1)
    assert created(sandbox) == [HOUR_S + 90 + 72 * HOUR_S]


def test_roll_forward_counts_from_the_end_of_execution(sandbox: Sandbox) -> None:
    """An execution of 90 s that ends in a 500 is rolled forward as late after its end as a short one."""
    sandbox.slow_s = 90
    sandbox.fault("slow+error_500_later")
    sandbox.begin(_request(sandbox))
    sandbox.clock.advance(90 + sandbox.roll_forward_s - 1)
    assert created(sandbox) == []
    sandbox.clock.advance(1)
    assert created(sandbox) == [90 + sandbox.roll_forward_s]


# --- delivered twice


@pytest.mark.parametrize("fault", TOLD)
def test_the_other_delivery_is_executed(client: httpx.Client, sandbox: Sandbox, fault: str) -> None:
    """The client is told one delivery's refusal, in the provider's form, and the other delivery has charged."""
    sandbox.fault(fault)
    assert error_of(create(client, key="key_1")) == TOLD[fault]
    assert [(one.fault, one.status, one.executed) for one in sandbox.requests] == [
        (fault, TOLD[fault][0], False),
        (fault, None, True),
    ]
    again = create(client, key="key_1")
    assert [again.status_code, again.headers["Idempotent-Replayed"]] == [200, "true"]
    assert sandbox.succeeded() == {"order_42": 1}


@pytest.mark.parametrize("fault", TOLD)
def test_the_other_delivery_may_come_an_hour_later(client: httpx.Client, sandbox: Sandbox, fault: str) -> None:
    """The refusal is told at once; the other delivery of the same bytes arrives, and charges, `double_s` later."""
    sandbox.double_s = HOUR_S
    sandbox.fault(fault)
    assert create(client, key="key_1").status_code == TOLD[fault][0]
    sandbox.clock.advance(HOUR_S - 1)
    assert [created(sandbox), len(sandbox.requests)] == [[], 1]
    sandbox.clock.advance(1)
    assert created(sandbox) == [HOUR_S]


def test_the_later_delivery_meets_what_was_saved_meanwhile(client: httpx.Client, sandbox: Sandbox) -> None:
    """Sent again before the other delivery arrives, the request is executed once; the other one is a replay."""
    sandbox.double_s = HOUR_S
    sandbox.fault("double_429")
    assert [create(client, key="key_1").status_code for _ in range(2)] == [429, 200]
    sandbox.clock.advance(HOUR_S)
    assert created(sandbox) == [0]
    assert [one.executed for one in sandbox.requests] == [False, True, False]


def test_the_length_is_that_of_the_moment_of_sending(client: httpx.Client, sandbox: Sandbox) -> None:
    """`double_s` may be another for each request."""
    for key, seconds in (("key_1", 600.0), ("key_2", 0.0)):
        sandbox.double_s = seconds
        sandbox.fault("double_400")
        create(client, key=key)
    assert created(sandbox) == [0]
    sandbox.clock.advance(600)
    assert created(sandbox) == [600, 0]


@pytest.mark.parametrize("told", ["double_400", "double_409", "double_429", "double_500"])
def test_the_executed_delivery_has_a_fate_of_its_own(client: httpx.Client, sandbox: Sandbox, told: str) -> None:
    """Behind the refusal that is told, the other delivery may be held, take its time and end in a 500."""
    sandbox.late_s, sandbox.slow_s = HOUR_S, 90
    sandbox.fault(f"late+slow+error_500_later+{told}")
    assert create(client, key="key_1").status_code == TOLD[told][0]
    sandbox.clock.advance(HOUR_S + 90)
    assert create(client, key="key_1").status_code == 500
    sandbox.clock.advance(sandbox.roll_forward_s)
    assert created(sandbox) == [HOUR_S + 90 + sandbox.roll_forward_s]


def test_the_executed_delivery_may_be_declined(client: httpx.Client, sandbox: Sandbox) -> None:
    """A decline behind a refusal is saved, and is the answer to the next request."""
    sandbox.fault("double_400")
    declined = "pm_card_chargeDeclined"
    seen = [create(client, key="key_1", payment_method=declined).status_code for _ in range(2)]
    assert seen == [400, 402]
    assert [charge["status"] for charge in sandbox.charges] == ["failed"]


@pytest.mark.parametrize("double_s", [0.0, 0.5])
def test_the_slow_one_is_waited_for(client: httpx.Client, sandbox: Sandbox, double_s: float) -> None:
    """The client waits in vain for the slow delivery, and the request has been executed once, whoever came first."""
    sandbox.slow_s, sandbox.double_s = 60, double_s
    sandbox.fault("double_slow")
    with pytest.raises(httpx.ReadTimeout):
        client.post("/v1/payment_intents", data=CONFIRMED, headers={"Idempotency-Key": "key_1"}, timeout=0.01)
    assert len(sandbox.charges) == (1 if double_s == 0 else 0)
    sandbox.clock.advance(60)
    assert sandbox.succeeded() == {"order_42": 1}
    assert create(client, key="key_1").headers["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize(("double_s", "when"), [(0, 0), (HOUR_S, HOUR_S)])
@pytest.mark.parametrize("refusal", ["rejected_400", "account_400", "forbidden_403", "unavailable_503", "redirect_302"])
def test_a_refusal_and_its_duplicate(
    client: httpx.Client, sandbox: Sandbox, refusal: str, double_s: float, when: int
) -> None:
    """Whatever refuses the first delivery, the second one is executed: at once, or when it arrives."""
    sandbox.double_s = double_s
    sandbox.fault(f"{refusal}+duplicate")
    assert create(client, key="key_1").status_code == int(refusal[-3:])
    sandbox.clock.advance(double_s)
    assert created(sandbox) == [when]


def test_a_box_stops_only_one_of_two(client: httpx.Client, sandbox: Sandbox) -> None:
    """A box answers one delivery in the provider's place, and the other one passes."""
    sandbox.fault("box_before+duplicate+filter_403_html")
    assert create(client, key="key_1").status_code == 403
    assert sandbox.succeeded() == {"order_42": 1}


def test_a_late_duplicate_of_a_success(client: httpx.Client, sandbox: Sandbox) -> None:
    """A second delivery that comes while the first is executed finds its key in use; later, its saved answer."""
    sandbox.slow_s, sandbox.double_s = 90, 10
    sandbox.fault("slow+duplicate")
    exchange = sandbox.begin(_request(sandbox))
    sandbox.clock.advance(90)
    answer = sandbox.finish(exchange)
    assert isinstance(answer, Reply)
    assert [answer.status, sandbox.succeeded()] == [200, {"order_42": 1}]
    assert [one.executed for one in sandbox.requests] == [True, False]


@pytest.mark.parametrize(("fault", "told"), [("double_400", 400), ("double_429", 429), ("double_500", 500)])
def test_a_cancellation_delivered_twice(client: httpx.Client, sandbox: Sandbox, fault: str, told: int) -> None:
    """A cancellation, which has no key, is refused to the client and carried out by its other delivery."""
    intent_id = client.post("/v1/payment_intents", data={"amount": 1, "currency": "usd"}).json()["id"]
    sandbox.fault(fault, on=CANCEL)
    assert client.post(f"/v1/payment_intents/{intent_id}/cancel").status_code == told
    assert client.get(f"/v1/payment_intents/{intent_id}").json()["status"] == "canceled"


def test_a_refused_cancellation_names_the_intent(client: httpx.Client, sandbox: Sandbox) -> None:
    """A 400 to a cancellation says that it does not know the intent."""
    sandbox.fault("rejected_400", on=CANCEL)
    assert error_of(client.post("/v1/payment_intents/pi_x/cancel")) == (400, "resource_missing", "intent")


def test_a_question_is_asked_once(client: httpx.Client, sandbox: Sandbox) -> None:
    """Of a doubled GET only what the client is told is played: there is nothing to execute."""
    sandbox.double_s = 1
    sandbox.fault("double_429", on="GET /v1/account")
    assert client.get("/v1/account").status_code == 429
    sandbox.clock.advance(1)
    assert len(sandbox.requests) == 1


def test_one_seed_plays_the_same_again() -> None:
    """One seed gives the same answers, ids, charges and records, faults and second deliveries included."""
    rates = {"double_429": 0.2, "error_500_later+page_404": 0.2, "rejected_400+duplicate": 0.2, "exchange": 0.2}

    def play(seed: int, rates: dict[str, float] = rates) -> list[object]:
        sandbox = Sandbox(seed=seed, faults=rates, time=lambda: float(START))
        with in_process(sandbox) as client:
            seen = [(one.status_code, one.headers.multi_items(), one.content) for one in _forty(client)]
        sandbox.clock.advance(sandbox.roll_forward_s)
        return [seen, sandbox.charges, sandbox.payment_intents, sandbox.requests]

    assert play(3) == play(3, dict(reversed(rates.items())))
    assert play(3)[0] != play(4)[0]


def _forty(client: httpx.Client) -> list[httpx.Response]:
    return [create(client, key=f"key_{number}") for number in range(20) for _ in range(2)]


def _request(sandbox: Sandbox, key: str = "key_1") -> Request:
    content = httpx.Request("POST", "http://sandbox/v1/payment_intents", data=CONFIRMED)
    headers = {"authorization": f"Bearer {sandbox.api_key}", "idempotency-key": key}
    return Request("POST", "/v1/payment_intents", headers, content.read())
