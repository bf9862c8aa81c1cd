"""The provider's time, as a process knows it: which answers teach it, which do not, and when it is known no more."""

from collections.abc import Iterator
from datetime import timedelta
from email.utils import formatdate

import pytest

from gateway_client import ClockRefused, State
from gateway_client.clock import ProviderTime, Stopwatch
from tests.kit import BOUNDS, KINDS, ONE_SEND, ORDER, START, FakeClock, World

SECOND = timedelta(seconds=1)


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


@pytest.fixture(params=KINDS)
def either(request: pytest.FixtureRequest) -> Iterator[World]:
    """The world of each of the two clients."""
    with World(request.param) as world:
        yield world


# The clock's own parts


def test_stopwatch_believes_the_longer() -> None:
    """A stopwatch counts by whichever clock says more, and a clock set back as long ago."""
    clock = FakeClock()
    watch = Stopwatch(clock)
    clock.advance(seconds=3)
    assert watch.elapsed_s() == 3
    clock.wrong_s = 60  # a machine that slept: the wall went on, the monotonic clock stood still
    assert watch.elapsed_s() == 63
    clock.wrong_s = -60
    assert watch.elapsed_s() == 57


def test_provider_time_does_not_jitter() -> None:
    """Two good clocks agree: whole seconds and slow answers do not move our time to and fro."""
    clock = FakeClock()
    time = ProviderTime(clock)
    for _ in range(20):
        clock.advance(seconds=0.3)
        time.learn(clock.now.replace(microsecond=0), timedelta(milliseconds=200))
        assert clock.now == time.now()
        time.check()


@pytest.mark.parametrize(("offset_s", "refused"), [(299, False), (-299, False), (302, True), (-302, True)])
def test_five_minutes(offset_s: int, refused: bool) -> None:
    """A clock may be up to 5 minutes off; beyond that nothing is sent."""
    clock = FakeClock()
    time = ProviderTime(clock)
    time.learn(clock.now + timedelta(seconds=offset_s), timedelta(0))
    if refused:
        with pytest.raises(ClockRefused):
            time.check()
    else:
        time.check()


# What teaches the time


def learned(*moments: tuple[float, float]) -> tuple[FakeClock, ProviderTime]:
    """A process that hears answers: so many seconds after the one before, each with a Date that is so many behind."""
    clock = FakeClock()
    time = ProviderTime(clock)
    for passed_s, behind_s in moments:
        clock.advance(seconds=passed_s)
        time.learn(clock.now - timedelta(seconds=behind_s), timedelta(0))
    return clock, time


@pytest.mark.parametrize("behind_s", [62, 600, 86400])
def test_an_old_date_teaches_nothing(behind_s: float) -> None:
    """A Date from before the time that is known is of an old answer: the time does not go back by it (S5)."""
    clock, time = learned((0, 0), (10, behind_s))
    assert time.now() == clock.now
    with pytest.raises(ClockRefused, match="not known"):
        time.check()  # who is right, this answer or those before it, is not known any more
    time.learn(clock.now, timedelta(0))
    time.check()
    assert time.now() == clock.now


@pytest.mark.parametrize("behind_s", [1, 30, 59])
def test_a_date_that_is_a_little_older_is_a_server_s(behind_s: float) -> None:
    """Servers of one provider differ by less than a minute: the time goes on being known."""
    clock, time = learned((0, 0), (10, behind_s))
    time.check()
    assert abs(time.now() - clock.now) <= timedelta(seconds=60)


def test_an_old_date_after_our_clock_was_set() -> None:
    """A clock that was set explains a Date that seems old: it is believed, and the time is right again."""
    clock, time = learned((0, 0))
    clock.wrong_s = 120  # set two minutes ahead
    time.learn(clock.now, timedelta(0))
    time.check()
    assert abs(time.now() - clock.now) <= SECOND, "a Date is in whole seconds"


def dated(world: World, hours: float) -> str:
    return formatdate(world.clock.true_time() + hours * 3600, usegmt=True)


@pytest.mark.parametrize("hours", [2, -2])
@pytest.mark.parametrize(
    ("status", "body"),
    [(503, b"<html>down</html>"), (403, {"message": "Forbidden"}), (200, b""), (404, {"error": "no"})],
)
def test_the_date_of_a_page_teaches_nothing(world: World, status: int, body: object, hours: float) -> None:
    """The Date of an error page, whatever its status, moves nobody's time: the next send is dated as before (S5)."""
    world.answer(status, body, headers={"Date": dated(world, hours)})
    client = world.open_client(retry=ONE_SEND)
    assert client.charge(ORDER).state is State.UNKNOWN
    other = type(ORDER)("order_43", ORDER.amount, ORDER.payment_method)
    charge = client.charge(other)  # within the hour nobody is asked for the time
    assert (charge.state, charge.first_sent_at) == (State.SUCCEEDED, START)
    assert world.asked == ["GET /v1/account", "POST /v1/payment_intents"]


@pytest.mark.parametrize("hours", [2, -2])
@pytest.mark.parametrize("more", [{"Age": "7200"}, {"Idempotency-Key": "pc1_other"}])
def test_the_date_of_somebody_elses_answer_teaches_nothing(world: World, more: dict[str, str], hours: float) -> None:
    """A provider's answer that a cache has kept, or that is to another request, moves nobody's time, nor proves it."""
    error = {"error": {"type": "api_error"}}
    world.answer(500, error, headers={"Date": dated(world, hours), **more})
    client = world.open_client(retry=ONE_SEND)
    assert client.charge(ORDER).state is State.UNKNOWN
    assert world.sql("SELECT proven FROM paycli_sends") == [(0,)]
    other = type(ORDER)("order_43", ORDER.amount, ORDER.payment_method)
    charge = client.charge(other)
    assert (charge.state, charge.first_sent_at) == (State.SUCCEEDED, START)


@pytest.mark.parametrize("age", [{"Age": "60"}, {"Idempotency-Key": "pc1_other"}])
def test_an_account_that_a_cache_tells(either: World, age: dict[str, str]) -> None:
    """A cached answer to the question whose key it is, and what time, is none: nothing is sent by it."""
    account = {"id": either.sandbox.account, "object": "account"}
    either.open_client().prepare(ORDER)
    either.answer(200, account, on=("GET", "/v1/account"), headers=age, times=9)
    charge = either.open_client().charge(ORDER)
    assert (charge.state, either.sends) == (State.PREPARED, [])


def test_a_re_send_asks_also_when_the_time_is_known(world: World) -> None:
    """A re-send by a process whose both clocks stood still asks for the time, and finds that the key is over (S5)."""
    world.lose()
    client = world.open_client(retry=ONE_SEND)
    client.charge(type(ORDER)("order_43", ORDER.amount, ORDER.payment_method))
    world.clock.pause(seconds=BOUNDS.key_life.total_seconds())
    sends = len(world.sends)
    with pytest.raises(ClockRefused):
        client.charge(ORDER)  # the answer says that this clock is a day behind
    world.clock.wrong_s = 0
    charge = client.charge(ORDER)
    assert (charge.state, len(world.sends)) == (State.UNKNOWN, sends)
    assert charge.closed_at is not None
