"""A breaker: what refuses the account, or charge after charge in the same words, stops `resume` and the worker."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import groupby

import httpx
import pytest

from gateway_client import AccountRefused, Charge, NotNow, State
from gateway_client.flow.breaker import EQUAL_REFUSALS_MAX, Breaker
from gateway_client.flow.charging import Finished
from tests.kit import KINDS, ONE_SEND, ORDER, START, World
from tests.kit_clients import AnyClient
from tests.worker_kit import News, TimedWorld, leased, order, work

REFUSAL = {"error": {"type": "invalid_request_error", "code": "account_invalid"}}
POST = ("POST", "/v1/payment_intents")


@pytest.fixture(params=KINDS)
def either(request: pytest.FixtureRequest) -> Iterator[World]:
    """The world of each of the two clients, on each database."""
    with TimedWorld(request.param) as world:
        yield world


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


def resume(client: AnyClient, count: int) -> None:
    client.resume()


class UntilTold(News):
    """Ends a worker that waits for something: a breaker makes it end, not wait."""

    def __call__(self, news: Charge | str) -> None:
        super().__call__(news)
        if isinstance(news, str) and self.worker is not None:
            self.worker.stop()


def work_for_ever(client: AnyClient, count: int) -> None:
    """A worker that ends by the breaker; without one, when all are final."""
    work(client, UntilTold(until=count), until_idle=False)


def work_until_idle(client: AnyClient, count: int) -> None:
    work(client)


Act = Callable[[AnyClient, int], None]
ACTS: tuple[Act, ...] = (resume, work_until_idle, work_for_ever)


# The counting


def ended(state: State, reason: str | None = None, *, refused: str | None = None) -> Finished:
    charge = Charge("order_1", 1, state, "pc1_k", 2000, "usd", None, None, 1, START, START, None, reason)
    return Finished(charge, refused=refused)


NO = ended(State.REJECTED, "parameter_missing amount")
OTHERWISE = ended(State.REJECTED, "resource_missing payment_method")
PAID, DECLINED = ended(State.SUCCEEDED), ended(State.DECLINED, "card_declined")
DOUBT = ended(State.UNKNOWN, "no whole answer")


@pytest.mark.parametrize(
    ("stream", "stops"),
    [
        ([NO] * 5, True),
        ([NO] * 4, False),
        ([NO] * 4 + [OTHERWISE] * 4, False),
        ([NO] * 4 + [PAID] + [NO] * 4, False),
        ([NO] * 4 + [DECLINED] + [NO] * 4, False),
        ([NO] * 4 + [DOUBT] + [NO], True),
        ([OTHERWISE] * 3 + [NO] * 5, True),
        ([PAID, DECLINED, DOUBT] * 9, False),
        ([DECLINED] * 9, False),
        ([ended(State.CANCELED, "given up")] * 9, False),
        ([NO, OTHERWISE] * 9, False),
    ],
)
def test_equal_rejections_in_a_row(stream: list[Finished], *, stops: bool) -> None:
    """Five rejections in the same words stop it, with nothing else final between; declines never do."""
    assert EQUAL_REFUSALS_MAX == 5
    breaker = Breaker()
    for done in stream[:-1]:
        breaker.check(done)
    if stops:
        with pytest.raises(AccountRefused, match="5 charges in a row"):
            breaker.check(stream[-1])
    else:
        breaker.check(stream[-1])


@pytest.mark.parametrize("state", [State.UNKNOWN, State.SENDING])
def test_one_refusal_of_the_account(state: State) -> None:
    """One refusal of the account stops it at once, and says which charge was sent."""
    with pytest.raises(AccountRefused, match=f"the account is closed.*order_1 is {state}"):
        Breaker().check(ended(state, refused="the account is closed"))
    assert issubclass(AccountRefused, NotNow), "exit 3"


# Through clients and workers


def prepared(world: World, count: int, payment_method: str = "pm_card_visa") -> AnyClient:
    """A process that has prepared so many charges, the oldest first."""
    client = world.open_client(retry=ONE_SEND)
    client.charge(replace(ORDER, intent_id="first"))  # its account is known
    for number in range(count):
        world.clock.advance(seconds=1)
        client.prepare(replace(order(f"order_{number}"), payment_method=payment_method))
    return client


def states(world: World) -> list[tuple[str, int]]:
    """How the charges stand, oldest first: "succeeded" 3 times, "prepared" twice."""
    rows = world.sql("SELECT state FROM pending_charges WHERE intent_id <> 'first' ORDER BY created_at")
    return [(str(state), len(list(same))) for state, same in groupby(state for (state,) in rows)]


@pytest.mark.parametrize("echo", [True, False])
@pytest.mark.parametrize("status", [400, 404])
def test_a_refusal_of_the_account_told_to_its_caller(world: World, status: int, *, echo: bool) -> None:
    """`charge` tells what the provider says of the account; the row is `unknown`, is sent once, and later again."""
    caught = world.answer(status, REFUSAL, echo=echo, times=9)
    charge = world.open_client().charge(ORDER)
    assert (charge.state, charge.first_sent_at, charge.sends, len(caught)) == (State.UNKNOWN, START, 1, 1)
    assert "the account" in (charge.reason or "")
    assert "account_invalid" in (charge.reason or "")
    assert world.sql("SELECT cause FROM paycli_sends") == [("account",)]
    world.hooks.clear()
    assert world.open_client().charge(ORDER).state is State.SUCCEEDED
    assert world.paid() == 1


@pytest.mark.parametrize("act", ACTS)
def test_a_refusal_of_the_account_stops_the_others(either: World, act: Act) -> None:
    """A 400 that names nothing of its charge stops all sends; every row can be sent again, and nobody holds one."""
    client = prepared(either, 4)
    either.answer(400, REFUSAL, echo=True)
    with pytest.raises(AccountRefused, match="order_0"):
        act(client, 4)
    assert (states(either), leased(either), len(either.sends)) == ([("unknown", 1), ("prepared", 3)], 0, 1)
    either.clock.advance(minutes=5)
    work(client)
    assert states(either) == [("succeeded", 4)]
    assert [either.paid(f"order_{number}") for number in range(4)] == [1] * 4


@pytest.mark.parametrize("act", ACTS)
def test_a_refusal_that_nothing_ties_to_us_stops_them_too(world: World, act: Act) -> None:
    """Without an echo a refusal of the account proves nothing, and stops the sends all the same."""
    client = prepared(world, 4)
    world.answer(400, REFUSAL)
    with pytest.raises(AccountRefused):
        act(client, 4)
    assert states(world) == [("unknown", 1), ("prepared", 3)]


@pytest.mark.parametrize("act", ACTS)
def test_five_equal_rejections_stop_the_others(either: World, act: Act) -> None:
    """After five rejections in the same words the rest is not sent; another run tries again."""
    client = prepared(either, 8, "pm_nothing")
    with pytest.raises(AccountRefused, match="5 charges in a row in the same words: resource_missing payment_method"):
        act(client, 8)
    assert (states(either), leased(either)) == ([("rejected", 5), ("prepared", 3)], 0)
    work(client)
    assert states(either) == [("rejected", 8)]


def test_what_was_looked_up_first_is_counted(world: World) -> None:
    """Charges of an older process, which are looked up before they are sent, are counted as well."""
    prepared(world, 8, "pm_nothing")
    world.clock.advance(minutes=5)
    with pytest.raises(AccountRefused):
        world.open_client(retry=ONE_SEND).resume()
    assert states(world) == [("rejected", 5), ("prepared", 3)]


def test_rejections_of_several_kinds_stop_nothing(world: World) -> None:
    """Charges that are wrong each in its own way delay no other."""
    client = prepared(world, 6)
    answers = iter(["amount", "customer"] * 3)

    def hook(request: httpx.Request) -> httpx.Response | None:
        if (request.method, request.url.path) != POST:
            return None
        error = {"type": "invalid_request_error", "code": "parameter_invalid", "param": next(answers)}
        return httpx.Response(
            400, json={"error": error}, headers={"Idempotency-Key": request.headers["Idempotency-Key"]}
        )

    world.hooks.append(hook)
    client.resume()
    assert states(world) == [("rejected", 6)]
