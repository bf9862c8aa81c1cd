"""A refusal that names nothing of a charge is the account's: rows stay sendable, workers stop, alerts say so (A2)."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest

from gateway_client import NotNow, State
from tests.kit import KINDS, ORDER
from tests.nightly import DATABASES
from tests.nightly_shell import NightShell, night_shell
from tests.promise_kit import ONE_TRY, Echo, Middle, error, may
from tests.worker_kit import TimedWorld, queue, work

REFUSALS: dict[str, tuple[int, object]] = {
    "paused": (400, error(message="Your account cannot currently make live charges.")),
    "not activated": (400, error(code="testmode_charges_only")),
    "API version": (400, error(message="Invalid Stripe API version: 2031-01-01.")),
    "wrong path": (404, error(message="Unrecognized request URL (POST: /v1/payment_intents).")),
}
"""The provider's answers to each create call of an account that may not, or of a request that it does not know."""
COUNT = 12
A_FEW = 5


class Shop(TimedWorld, Middle):
    """A world with a worker in it."""

    def finish(self, how: str) -> None:
        """A worker, or `resume`, goes through what is pending."""
        client = self.open_client(retry=ONE_TRY)
        client.resume() if how == "resume" else work(client)

    @property
    def states(self) -> Counter[str]:
        """How many rows are in which state."""
        return Counter(dict(self.sql("SELECT state, count(*) FROM pending_charges GROUP BY state")))


@pytest.fixture(params=KINDS)
def shop(request: pytest.FixtureRequest) -> Iterator[Shop]:
    """The shop of each of the two clients, on each database, with charges to send."""
    with Shop(request.param) as made:
        queue(made.open_client(), COUNT)
        made.clock.advance(seconds=5)
        yield made


@pytest.fixture(params=DATABASES)
def shell(request: pytest.FixtureRequest) -> Iterator[NightShell]:
    """A night with a shell in it."""
    with night_shell(request.param) as made:
        yield made


@pytest.mark.parametrize("echo", ["right", None])
@pytest.mark.parametrize("how", ["resume", "worker"])
@pytest.mark.parametrize("refusal", REFUSALS)
def test_account_that_may_not_charge(shop: Shop, refusal: str, how: str, echo: Echo) -> None:
    """A2: no row is `rejected`, few are tried, "not now" is said; when the account may again, each is paid once."""
    status, body = REFUSALS[refusal]
    refused = shop.says(status, body, echo=echo, times=999)
    with pytest.raises(NotNow):
        shop.finish(how)
    assert 1 <= len(refused) <= A_FEW
    assert set(shop.states) <= {State.PREPARED, State.UNKNOWN}
    shop.hooks.clear()
    shop.clock.advance(hours=1)
    shop.finish(how)
    assert shop.states == {State.SUCCEEDED: COUNT}
    assert set(shop.sandbox.succeeded().values()) == {1}


@pytest.mark.parametrize("echo", ["right", None])
@pytest.mark.parametrize("refusal", REFUSALS)
def test_charge_on_an_account_that_may_not(shop: Shop, refusal: str, echo: Echo) -> None:
    """A2: the charge is not refused for good: the same attempt goes through when the account may again."""
    status, body = REFUSALS[refusal]
    shop.says(status, body, echo=echo)
    charge = may(lambda: shop.open_client(retry=ONE_TRY).charge(ORDER))
    assert charge is None or not charge.final
    assert shop.state() is State.UNKNOWN
    again = shop.open_client().charge(ORDER)
    assert (again.state, again.attempt, shop.paid()) == (State.SUCCEEDED, 1, 1)


@pytest.mark.parametrize("how", ["resume", "worker"])
def test_equal_rejections_in_a_row(shop: Shop, how: str) -> None:
    """A2: five equal rejections in a row stop a worker and `resume`, whatever their words are."""
    refused = shop.says(400, error(code="parameter_unknown", param="amount_details"), echo="right", times=999)
    with pytest.raises(NotNow):
        shop.finish(how)
    assert len(refused) <= A_FEW
    assert shop.states[State.PREPARED] >= COUNT - A_FEW


@pytest.mark.parametrize("how", ["resume", "worker"])
def test_rejections_of_single_charges(shop: Shop, how: str) -> None:
    """A2: equal rejections with successes between them are of those charges, and stop nobody."""
    turns = itertools.count()

    def act(request: httpx.Request) -> httpx.Response | None:
        if next(turns) % 3 == 0:
            return None  # the provider's own turn
        own = {"Date": shop.date_header, "Idempotency-Key": request.headers["Idempotency-Key"]}
        return httpx.Response(400, json=error(code="resource_missing", param="payment_method"), headers=own)

    shop.on(act, times=COUNT)
    shop.finish(how)
    assert shop.states == {State.REJECTED: 8, State.SUCCEEDED: 4}


@pytest.mark.parametrize("refusal", ["paused", "wrong path"])
def test_alert_of_an_account_that_may_not(shell: NightShell, refusal: str) -> None:
    """A2: `alerts` tells that the account was refused, with exit 1, also when nothing is old yet."""
    assert shell.reconcile().code == 0
    assert shell.paycli("alerts").code == 0
    status, body = REFUSALS[refusal]
    for number in range(3):
        _refused(shell, status, body, f"order_{number}")
    assert shell.paycli("alerts").code == 1


def test_alert_of_rejections(shell: NightShell) -> None:
    """A2: `alerts` tells of fresh rejections, which a broken caller makes of every charge."""
    assert shell.reconcile().code == 0
    for number in range(10):
        _refused(shell, 400, error(code="parameter_unknown", param="amount_details"), f"order_{number}")
    assert shell.paycli("alerts").code == 1


def _refused(shell: NightShell, status: int, body: object, intent_id: str) -> None:
    """A charge of this intent meets this answer, of the provider itself."""
    key = shell.binding.key("charge", intent_id, 1)
    shell.answer(status, body, headers={"Idempotency-Key": key})
    may(lambda: shell.pay(intent_id))
