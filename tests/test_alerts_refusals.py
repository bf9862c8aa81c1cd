"""When somebody is woken because the provider refuses the account, its key, or charge after charge, and until when."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from gateway_client import ConfigurationError, NotNow, PaymentIntent, State
from reconcile.alerts import Alert
from tests.kit import ONE_SEND, START, USD_20
from tests.nightly import BOUNDS, DATABASES, SECOND, Night, night
from tests.nightly_facts import HOUR, LIMITS, NEVER, causes, fired

MINUTE = timedelta(minutes=1)
ACCOUNT, KEY = "a reason that is about the account, not about them", "their API key"
INVALID = {"error": {"type": "invalid_request_error", "code": "account_invalid"}}


def wrong(param: str) -> dict[str, Any]:
    """A refusal that names what is wrong with one charge."""
    return {"error": {"type": "invalid_request_error", "code": "resource_missing", "param": param}}


@pytest.fixture(params=DATABASES)
def world(request: pytest.FixtureRequest) -> Iterator[Night]:
    with night(request.param) as made:
        yield made


def refuse(world: Night, intent_id: str, status: int, body: object = INVALID, *, echo: bool = True) -> None:
    """A charge whose one send meets this answer; a minute goes by."""
    world.answer(status, body, echo=echo)
    with suppress(ConfigurationError):
        world.open_client(retry=ONE_SEND).charge(PaymentIntent(intent_id, USD_20, "pm_card_visa"))
    world.later(MINUTE)


def refused(what: str, count: int, first: str, ago: str) -> str:
    return (
        f"{count} charge{'s' * (count > 1)} refused by the provider for {what}, the first {first} {ago} ago: see "
        "`paycli show`, and look at the account"
    )


@pytest.mark.parametrize("echo", [True, False])
@pytest.mark.parametrize(
    ("status", "cause", "what"),
    [
        (400, "refused_account", ACCOUNT),
        (404, "refused_account", ACCOUNT),
        (401, "refused_credential", KEY),
        (403, "refused_credential", KEY),
    ],
)
def test_one_refusal(world: Night, status: int, cause: str, what: str, *, echo: bool) -> None:
    """A refusal of the account or its key is told at once, also when nothing ties it to the send that met it."""
    refuse(world, "order_1", status, echo=echo)
    expected = Alert(cause, 1, START, "order_1", refused(what, 1, "order_1", "1m 0s"))
    assert (fired(world), world.state("order_1")) == ({cause: expected, "not_reconciled": NEVER}, State.UNKNOWN)


@pytest.mark.parametrize(("status", "body"), [(429, INVALID), (403, b"<h1>no</h1>"), (401, {}), (500, INVALID)])
def test_what_is_no_refusal_of_the_account(world: Night, status: int, body: object) -> None:
    """A rate limit passes, and a page is nobody's word on the account: they wake nobody."""
    refuse(world, "order_1", status, body)
    assert (causes(world), world.state("order_1")) == (set(), State.UNKNOWN)


def test_refusals_of_one_cause_are_one_line(world: Night) -> None:
    """Refused charges are one line for each cause: how many, and the one that was refused first, by name."""
    refuse(world, "order_2", 400)
    refuse(world, "order_1", 404, echo=False)
    refuse(world, "order_3", 401)
    told = fired(world)
    assert told.pop("not_reconciled") == NEVER
    assert list(told.values()) == [
        Alert("refused_account", 2, START, "order_2", refused(ACCOUNT, 2, "order_2", "3m 0s")),
        Alert("refused_credential", 1, START + 2 * MINUTE, "order_3", refused(KEY, 1, "order_3", "1m 0s")),
    ]


@pytest.mark.parametrize("fault", [None, "lost_request", "rate_limited_429"])
def test_it_clears_with_the_next_send(world: Night, fault: str | None) -> None:
    """Only an attempt's newest send counts: once the account is mended, whatever else becomes of it, it is quiet."""
    refuse(world, "order_1", 400)
    assert causes(world) == {"refused_account"}
    if fault is not None:
        world.sandbox.fault(fault)
    with suppress(NotNow):
        world.open_client(retry=ONE_SEND).resume()
    assert (causes(world), len(world.sql("SELECT * FROM paycli_sends"))) == (set(), 2)


def test_it_clears_with_the_charge(world: Night) -> None:
    """A refused charge that is given up is told until its absence is proven: until then it may be at the provider."""
    refuse(world, "order_1", 400)
    world.give_up("order_1")
    assert causes(world) == {"refused_account"}
    world.later(BOUNDS.quiet)
    world.run()
    assert (causes(world), world.state("order_1")) == (set(), State.ABSENT)


# Charge after charge -------------------------------------------------------------------------------------------------

MANY = LIMITS.rejections
PM, AMOUNT = "resource_missing payment_method", "resource_missing amount"


def rejected(count: int, told: str, first: str) -> str:
    return (
        f"{count} charges rejected in the last 1d 0h in the same words ({told}), the first {first}: see `paycli show`, "
        "and look at the account and at the program that charges"
    )


def reject(world: Night, numbers: range, param: str) -> None:
    """Charges of these numbers, rejected for that parameter, a minute apart."""
    for number in numbers:
        refuse(world, f"order_{number:02}", 400, wrong(param))


def test_rejected_often(world: Night) -> None:
    """From the fifth rejection in the same words on it is told, with the words, how many and the first of them."""
    reject(world, range(MANY - 1), "payment_method")
    assert causes(world) == set()
    reject(world, range(MANY - 1, MANY), "payment_method")
    expected = Alert("rejected_often", MANY, START, "order_00", rejected(MANY, f"{MANY} {PM}", "order_00"))
    assert fired(world) == {"rejected_often": expected, "not_reconciled": NEVER}


def test_rejected_in_other_words(world: Night) -> None:
    """Each in words of its own is about the charges; where several words come up often, they are one line."""
    reject(world, range(4), "payment_method")
    reject(world, range(4, 8), "amount")
    assert causes(world) == set()
    reject(world, range(8, 10), "amount")
    reject(world, range(10, 11), "payment_method")
    reject(world, range(11, 12), "customer")
    told = rejected(11, f"6 {AMOUNT}, 5 {PM}", "order_00")
    assert fired(world)["rejected_often"] == Alert("rejected_often", 11, START, "order_00", told)


def test_rejected_long_ago(world: Night) -> None:
    """A rejection is told for a day, to the second."""
    reject(world, range(MANY), "payment_method")
    assert "rejected_often" in causes(world, START + 24 * HOUR - SECOND)
    assert "rejected_often" not in causes(world, START + 24 * HOUR)
