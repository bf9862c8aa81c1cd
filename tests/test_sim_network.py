"""The simulator's network does what it says: each kind of way, once, seen from both of its ends."""

from __future__ import annotations

import pytest

from gateway_client.gateways.base import NoReply, Reply, Request
from tests.sim import network, world
from tests.sim.decisions import Decisions
from tests.sim.ghost import Sent
from tests.sim.hosts import HostClock
from tests.sim.memory import Memory
from tests.sim.network import Network, Way, way_of
from tests.sim.weather import Weather

CHARGE = {"h1": "0.000 east charge 1 pm_card_visa 1 ours"}
SEND = Request("POST", "/v1/payment_intents", "amount=1", "key_1", "v1")
SENT = Sent(0.0, ("order_1", 1), "key_1", "body", "v1", "ours", "h1", checked_at=0.0)


def run(**decided: str) -> world.World:
    """One charge, with what is decided of its first send (`how`: its particulars) or of another moment."""
    names = {"send": "h1 Send 1", "how": "h1 Send 1 how", "meet": "h1 MeetProvider 1"}
    taken = CHARGE | {names.get(name, name): value for name, value in decided.items()}
    made = world.prepared(Decisions(given=taken), Weather(), Memory(), verbose=True)
    made.run()
    return made


def told(made: world.World) -> list[str]:
    return [line.partition(" ")[2] for line in made.told or () if line.partition(" ")[2].startswith("h1 Send →")]


def moneys(made: world.World) -> int:
    return sum(one["status"] == "succeeded" for one in made.provider.charges())


@pytest.mark.parametrize("other", ["429", "400", "account", "409", "500"])
@pytest.mark.parametrize("when", ["first", "after", "late"])
def test_the_other_delivery_is_told_and_one_executes(other: str, when: str) -> None:
    """Of two deliveries one charges, and the client is told what the other was answered."""
    made = run(send="doubled", how=f"{other} {when}")
    assert told(made)[0].startswith(f"h1 Send → {network.WORDS[other][0]}")
    assert moneys(made) == 1


def test_one_is_slow_and_the_other_finds_the_key_in_use() -> None:
    """The second delivery comes while the first executes."""
    assert told(run(send="doubled", how="slow first", slow_s="8"))[0].startswith("h1 Send → 409")


@pytest.mark.parametrize("status", ["200", "302", "401", "403", "404", "429", "500"])
@pytest.mark.parametrize(("when", "charged_at"), [("before", 65), ("after", 0), ("late", 600)])
def test_a_box_speaks_for_the_provider(status: str, when: str, charged_at: int) -> None:
    """A page of any status comes in place of the answer; the request was executed, is held, or never arrives."""
    made = run(
        send="box", how=f"html {status} other {when}", **{f"h1 Send {number}": "refused" for number in (2, 3, 4)}
    )
    assert told(made)[0].startswith(f"h1 Send → {status}")
    assert made.ghost.sends[0].own_word is False
    charge = next(iter(made.provider.charges()))
    assert int(made.provider.made_at(charge) - world.START_S) == charged_at


def test_a_request_is_held_within_the_hour_of_the_last_check() -> None:
    """What is held arrives an hour and ten seconds after the time was checked, at the latest."""
    now = 1000.0
    net = Network(lambda: now, True, 0.0)
    assert net.hold_s(SENT, 3609.0) == pytest.approx(2610.0)
    assert net.hold_s(None, 3609.0) == 3609.0
    assert way_of("held", "slow", 2610.0) == Way(((2610.0, "slow"),), "nothing")


def test_what_comes_too_late_is_not_delivered() -> None:
    """A machine stands still between the gate and the first byte for longer than the model says: nothing arrives."""
    made = run(send="stands still for 12000", h2="20000.000 west resume ours")  # later than that, the faults end
    assert made.ghost.seen["outside the model: more than an hour after our last check of the time"] == 1


def test_answers_of_others_come_instead() -> None:
    """An answer may be another request's of the same kind, of any kind, or the one that was left on the connection."""
    net = Network(lambda: 0.0, True, 0.0)
    other = net.remember(Request("POST", "/v1/payment_intents", "", "key_2"), "acct", Reply(200, {}, b"{}", 1))
    page = net.remember(Request("GET", "/v1/charges?limit=1"), "acct", Reply(200, {}, b"[]", 1))
    assert net.instead(way_of("exchanged", None, 0.0), SEND, "acct", None) is other  # type: ignore[arg-type]
    assert net.instead(way_of("exchanged", "any", 0.0), SEND, "acct", None) is page  # type: ignore[arg-type]
    left = type("Process", (), {"last": page})()
    assert net.instead(way_of("leftover", None, 0.0), SEND, "acct", left) is page


def test_a_cached_account_says_its_age() -> None:
    """What a cache answers carries `Age`."""
    now = [0.0]
    net = Network(lambda: now[0], True, 0.0)
    net.remember(Request("GET", "/v1/account"), "acct", Reply(200, {}, b"{}", 1))
    now[0] = 5000.0
    found = net.instead(way_of("cached", None, 0.0), Request("GET", "/v1/account"), "acct", None)  # type: ignore[arg-type]
    assert found is not None
    assert found.reply.headers == {"age": "5000"}


def test_a_connection_is_kept_for_a_minute() -> None:
    """An answer to the account's question is not another account's, nor older than a connection is kept."""
    now = [0.0]
    net = Network(lambda: now[0], True, 0.0)
    net.remember(Request("GET", "/v1/account"), "acct_2", Reply(200, {}, b"{}", 1))
    assert net.instead(way_of("exchanged", None, 0.0), Request("GET", "/v1/account"), "acct_1", None) is None  # type: ignore[arg-type]
    now[0] = 61.0
    assert net.instead(way_of("exchanged", None, 0.0), Request("GET", "/v1/account"), "acct_2", None) is None  # type: ignore[arg-type]


def test_both_clocks_stand_still_together() -> None:
    """A paused machine's clocks agree with each other, and are behind; setting it mends the one that tells the time."""
    now = [100.0]
    clock = HostClock(lambda: now[0])
    clock.pause(50.0)
    now[0] = 120.0
    assert (clock.time(), clock.monotonic()) == (100.0, 100.0)
    now[0] = 200.0
    assert (clock.time(), clock.monotonic()) == (150.0, 150.0)
    clock.pause(10.0)
    now[0] = 300.0
    assert (clock.time(), clock.monotonic()) == (240.0, 240.0)
    clock.set(3.0)
    assert (clock.time(), clock.monotonic()) == (303.0, 240.0)


def test_nothing_is_no_answer() -> None:
    """When nothing comes, nobody knows whether the request was executed."""
    assert network.nothing(5) == NoReply(True, "the connection broke", 5)
