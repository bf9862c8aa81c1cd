"""A process dies before and after every effect, beside every fault of the provider, and is started again.

Every effect passes `Client.perform`, and between two effects a flow does nothing: dying before effect n is dying after
effect n - 1. So each test is a loop over n until the call comes to its end. Real processes: `test_kill_processes.py`.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from gateway_client import AttemptRefused, Money, NeedsPerson, NotNow, PaymentIntent, State, Stripe
from gateway_client.flow.effects import BeginSend, Claim, Effect, Send
from gateway_client.sandbox import FAULTS
from tests.kill_world import (
    BOUNDS,
    ORDER,
    TIMEOUT_S,
    Door,
    Killed,
    MortalAsync,
    World,
    hours,
    later,
    proven,
)

# After these the call ends with an error of the configuration, or with `rejected`: what they lead to is told elsewhere.
ENDS_THE_CALL = (
    *("rejected_400", "account_400", "unauthorized_401", "forbidden_403", "double_400", "double_401"),
    *("box_before", "box_after", "filter_403_html", "filter_401_json"),
)
EVERY_FAULT = [None, *(fault for fault in FAULTS if fault not in ENDS_THE_CALL)]
CANCEL = "POST /v1/payment_intents/*/cancel"
SHARED_MEMORY = Path("/dev/shm")  # no power is cut here, so commits need no disk

# What can be known within a day of the restart, when the row is closed (and a 500 was rolled forward, if it is), and a
# quiet time later; every other fault ends in `succeeded` at once.
PROVABLE = {
    "error_500": ["unknown", "unknown", "absent"],
    "error_500_later": ["unknown", "succeeded", "succeeded"],
    "error_500_uncharged": ["unknown", "unknown", "canceled"],
}
WITHIN = BOUNDS.key_life - timedelta(hours=1)
ROLLED_FORWARD = BOUNDS.quiet_unproven


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    fast = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=fast) as folder:
        world = World(Path(folder))
        yield world
        world.close()


@pytest.mark.parametrize("fault", EVERY_FAULT)
def test_charge(world: World, fault: str | None) -> None:
    """However a charge dies, resume and the caller's next call charge once, and say `unknown` until proof (S1–S8)."""
    soon, closed, in_the_end = PROVABLE.get(fault or "", ["succeeded"] * 3)
    for point in count():
        world.restart(fault)
        died = world.kills(lambda client: client.charge(ORDER), point)
        with world.client() as client:
            told = [
                later(world, 0, client.resume, lambda: client.charge(ORDER), client.resume),
                later(world, hours(WITHIN), client.resume),
                later(world, hours(ROLLED_FORWARD), client.resume),
                later(world, hours(BOUNDS.quiet_unproven), client.resume),
            ]
            assert (point, told) == (point, [[soon], [soon], [closed], [in_the_end]])
            posts = len(world.sandbox.requests)
            assert not client.charge(ORDER).state.pending
            assert len(world.sandbox.requests) == posts  # F07: what is final is returned with no request
        if not died:
            break
    assert point >= 6  # ReadBinding, MeetProvider, Bind, Claim with the first BeginSend, Send, Settle: at least


def test_a_late_charge_beside_a_second_attempt(world: World) -> None:
    """A 500 that a killed process never saw is rolled forward two days later: no attempt 2 charges beside it (S1)."""
    for point in count():
        world.restart("error_500_later")
        died = world.kills(lambda client: client.charge(ORDER), point)
        with world.client() as client:
            for passed in (30, 15, 10, 30):
                world.clock.sleep(passed * 3600)
                client.resume()
                with suppress(AttemptRefused, NeedsPerson):
                    client.charge(ORDER, attempt=2)
        assert (point, len(world.paid()) <= 1) == (point, True)
        if not died:
            break


@pytest.mark.parametrize("fault", [None, "lost_reply", "error_500", "late"])
def test_charge_found_again_after_the_keys_life(world: World, fault: str | None) -> None:
    """Restarted 30 hours later, nothing is sent again under an old key, and the ledger's truth is found (S5, F47)."""
    for point in count():
        world.restart(fault)
        died = world.kills(lambda client: client.charge(ORDER), point)
        with world.client() as client:
            later(world, 30, client.resume, lambda: client.charge(ORDER))
            assert (point, proven(world, client.resume)) == (point, world.truth())
        if not died:
            break


@pytest.mark.parametrize("fault", EVERY_FAULT)
def test_resume(world: World, fault: str | None) -> None:
    """A resume that dies at its first effect, the next one at its second, and so on, charge each intent once (F111)."""
    orders = [PaymentIntent(f"order_{number}", Money(1999, "usd"), "pm_card_visa") for number in range(3)]
    world.restart(fault, times=2)
    for order, effect in zip(orders, (Send, BeginSend, Claim), strict=True):
        assert world.kills(lambda client, order=order: client.charge(order), dies_after=effect)  # type: ignore[misc]
    for point in count():
        with suppress(NotNow):
            if not world.kills(lambda client: client.resume(), point):
                break
        world.states()
    assert world.states() == [state.replace("absent", "unknown") for state in world.truth()]
    assert world.states().count("succeeded") == (2 if fault in PROVABLE else 3)
    with world.client() as client:
        assert proven(world, client.resume) == world.truth()
    ended = {"error_500": "absent", "error_500_uncharged": "canceled"}.get(fault or "", "none")
    assert [world.states().count(state) for state in ("absent", "canceled")] == [ended == "absent", ended == "canceled"]


@pytest.mark.parametrize(
    ("on", "fault"),
    [
        *((CANCEL, fault) for fault in (None, "lost_reply", "error_500", "late")),
        ("POST /v1/payment_intents", "error_500_charged"),
    ],
)
def test_second_attempt(world: World, on: str, fault: str | None) -> None:
    """Attempt 2 after a decline cancels the first intent, whatever dies meanwhile, and charges once (S6)."""
    declined = PaymentIntent(ORDER.intent_id, ORDER.amount, "pm_card_chargeDeclined")
    for point in count():
        world.restart()
        with world.client() as client:
            assert client.charge(declined).state == "declined"
        if fault is not None:
            world.sandbox.fault(fault, on=on)
        died = False
        with suppress(NotNow):
            died = world.kills(lambda client: client.charge(ORDER, attempt=2), point)
        with world.client() as client:
            for passed in (0, 80):
                later(world, passed, lambda: client.charge(ORDER, attempt=2), client.resume)
            assert (point, world.states()) == (point, ["declined", *world.truth()[1:]])
        assert [row[1] for row in world.rows()] == [1, 2]
        assert sorted(intent["status"] for intent in world.sandbox.payment_intents)[0] == "canceled"
        if not died:
            break
    assert point >= 6  # until the cancellation is settled: at least


def test_second_attempt_after_a_late_success(world: World) -> None:
    """A success of the declined attempt that is found on the way stops attempt 2, wherever it dies (S8, S9)."""
    declined = PaymentIntent(ORDER.intent_id, ORDER.amount, "pm_card_chargeDeclined")
    for point in count():
        world.restart()
        with world.client() as client:
            client.charge(declined)
        (intent,) = world.sandbox.payment_intents
        confirm_elsewhere(world, intent["id"])
        died = False
        with suppress(NeedsPerson):
            died = world.kills(lambda client: client.charge(ORDER, attempt=2), point)
        with world.client() as client:
            for _ in range(2):
                with pytest.raises(NeedsPerson):
                    client.charge(ORDER, attempt=2)
        findings = world.watcher.execute("SELECT code, attempt FROM paycli_findings").fetchall()
        assert (findings, [row[:3] for row in world.rows()]) == (
            [("status_mismatch", 1)],
            [(ORDER.intent_id, 1, "declined")],
        )
        assert len(world.paid()) == 1
        if not died:
            break
    assert point >= 4


@pytest.mark.parametrize("fault", EVERY_FAULT)
def test_cancel_of_a_provider_intent(world: World, fault: str | None) -> None:
    """A cancel that dies is finished by the next one: cancelled here only when it is cancelled there (S8)."""
    debit = PaymentIntent(ORDER.intent_id, ORDER.amount, "pm_usBankAccount_processing")
    for point in count():
        world.restart()
        with world.client() as client:
            assert client.charge(debit).state == "processing"
        if fault is not None:
            world.sandbox.fault(fault, on=CANCEL)
        died = False
        with suppress(NotNow):
            died = world.kills(lambda client: client.cancel(ORDER.intent_id, because="test"), point)
        with world.client() as client:
            for passed in (0, 80):
                states = later(world, passed, lambda: client.cancel(ORDER.intent_id, because="test"), client.resume)
                (intent,) = world.sandbox.payment_intents
                assert (point, states) == (point, [intent["status"]])
            assert world.states() == ["canceled"]
        if not died:
            break


@pytest.mark.parametrize("fault", ["lost_request", "lost_reply", "late", "slow", "error_500", "error_500_charged"])
@pytest.mark.parametrize("after", [None, Claim, Send])
def test_cancel_of_an_unknown_charge(world: World, after: type[Effect[Any]] | None, fault: str) -> None:
    """What may have been sent is not cancelled but closed, until the provider's lists say what became of it (S16).

    Of what was only prepared nothing has left; the commit of a claim has begun the first send.
    """
    for point in count():
        world.restart(fault)
        if after is None:
            with world.client() as client:
                client.prepare(ORDER)
        else:
            assert world.kills(lambda client: client.charge(ORDER), dies_after=after)
        died = world.kills(lambda client: client.cancel(ORDER.intent_id, because="test"), point)
        with world.client() as client:
            sends = len([request for request in world.sandbox.requests if request.method == "POST"])
            later(world, 0, lambda: client.cancel(ORDER.intent_id, because="test"), client.resume)
            soon = later(world, hours(BOUNDS.quiet_unproven) - 0.1, client.resume)
            in_the_end = later(world, hours(ROLLED_FORWARD), client.resume, lambda: client.charge(ORDER))
        paid = len(world.paid()) == 1
        expected = "canceled" if after is None else "succeeded" if paid else "absent"
        if expected == "absent":
            assert State(soon[0]).pending  # an empty list that is read too early proves nothing
        else:
            assert (point, soon) == (point, [expected])
        assert (point, in_the_end) == (point, [expected])
        assert sends == len([request for request in world.sandbox.requests if request.method == "POST"])
        if not died:
            break


@pytest.mark.parametrize(("fault", "cancelled"), [(None, True), ("error_500_charged", True), ("lost_reply", False)])
def test_async_charge(world: World, fault: str | None, cancelled: bool) -> None:
    """A task that dies, or is cancelled in the midst of any effect, leaves what resume finishes (F12, F14)."""

    async def dies(engine: AsyncEngine, point: int) -> bool:
        gateway, door = Stripe(world.sandbox.api_key), Door(world)
        client = MortalAsync(gateway, database=engine, transport=door, clock=world.clock, timeout_s=TIMEOUT_S)
        client.dies_at, client.cancelled = point, cancelled
        async with client:
            try:
                await asyncio.create_task(client.charge(ORDER))
            except (Killed, asyncio.CancelledError):
                return True
        return False

    async def story() -> int:
        engine = create_async_engine(f"sqlite+aiosqlite:///{world.path}")
        for point in count():
            world.restart(fault)
            died = await dies(engine, point)
            with world.client() as client:
                assert (point, later(world, 0, client.resume, lambda: client.charge(ORDER))) == (point, ["succeeded"])
            if not died:
                break
        await engine.dispose()
        return point

    assert asyncio.run(story()) >= 6


def confirm_elsewhere(world: World, intent_id: str) -> None:
    """Somebody pays a declined intent after all, with another card."""
    import httpx

    headers = {"Authorization": f"Bearer {world.sandbox.api_key}"}
    with httpx.Client(transport=world.sandbox.transport(), base_url="http://sandbox", headers=headers) as client:
        form = {"payment_method": "pm_card_visa", "return_url": "https://example.com/back"}
        assert client.post(f"/v1/payment_intents/{intent_id}/confirm", data=form).status_code == 200
