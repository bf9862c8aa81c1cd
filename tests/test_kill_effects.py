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
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import create_async_engine
from tests.kill_world import ORDER, TIMEOUT_S, Door, Killed, MortalAsync, World, later

from gateway_client import Money, NeedsPerson, NotNow, PaymentIntent, Stripe
from gateway_client.flow.effects import BeginSend, Claim, Send
from gateway_client.sandbox import FAULTS

EVERY_FAULT = [None, *FAULTS]
CANCEL = "POST /v1/payment_intents/*/cancel"
SHARED_MEMORY = Path("/dev/shm")  # no power is cut here, so commits need no disk

# What can be known within a day of the restart, and after four; every other fault ends in `succeeded` at once.
PROVABLE = {"error_500": ["unknown", "absent"], "error_500_later": ["unknown", "succeeded"]}


@pytest.fixture
def world() -> Iterator[World]:
    fast = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=fast) as folder:
        world = World(Path(folder))
        yield world
        world.close()


@pytest.mark.parametrize("fault", EVERY_FAULT)
def test_charge(world: World, fault: str | None) -> None:
    """However a charge dies, resume and the caller's next call charge once, and say `unknown` until proof (S1–S8)."""
    soon, in_the_end = PROVABLE.get(fault or "", ["succeeded", "succeeded"])
    for point in count():
        world.restart(fault)
        died = world.kills(lambda client: client.charge(ORDER), point)
        with world.client() as client:
            told = [later(world, hours, client.resume, lambda: client.charge(ORDER)) for hours in (0, 1, 21)]
            assert (point, told) == (point, [[soon]] * 3)
            assert (point, later(world, 80, client.resume)) == (point, [in_the_end])
            posts = len(world.sandbox.requests)
            assert client.charge(ORDER).state.final
            assert len(world.sandbox.requests) == posts  # F07: what is final is returned with no request
        if not died:
            break
    assert point >= 7  # ReadBinding, MeetProvider, Bind, Claim, BeginSend, Send, Settle: at least


@pytest.mark.parametrize("fault", EVERY_FAULT)
def test_charge_found_again_after_the_keys_life(world: World, fault: str | None) -> None:
    """Restarted 30 hours later, nothing is sent again under an old key, and the ledger's truth is found (S5, F47)."""
    for point in count():
        world.restart(fault)
        died = world.kills(lambda client: client.charge(ORDER), point)
        with world.client() as client:
            later(world, 30, client.resume, lambda: client.charge(ORDER))
            assert (point, later(world, 80, client.resume)) == (point, world.truth())
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
    unproven = fault in PROVABLE
    assert sorted(world.states()) == sorted(["unknown" if unproven else "succeeded"] * 2 + ["succeeded"])
    with world.client() as client:
        assert later(world, 110, client.resume) == world.truth()
    assert len(world.paid()) == (1 if fault == "error_500" else 3)


@pytest.mark.parametrize("fault", EVERY_FAULT)
@pytest.mark.parametrize("on", ["POST /v1/payment_intents", CANCEL])
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
            for hours in (0, 80):
                later(world, hours, client.resume, lambda: client.charge(ORDER, attempt=2))
            assert (point, later(world, 100, client.resume)) == (point, ["declined", *world.truth()[1:]])
        assert [row[1] for row in world.rows()] == [1, 2]
        assert sorted(intent["status"] for intent in world.sandbox.payment_intents)[0] == "canceled"
        if not died:
            break
    assert point >= 8


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
            for hours in (0, 1, 80):
                states = later(
                    world, hours, lambda: client.cancel(ORDER.intent_id, because="test"), client.resume
                )
                (intent,) = world.sandbox.payment_intents
                assert (point, states) == (point, [intent["status"]])
            assert intent["status"] == "canceled"
        if not died:
            break


@pytest.mark.parametrize("fault", ["lost_request", "lost_reply", "late", "slow", "error_500", "error_500_charged"])
@pytest.mark.parametrize("sent", [Claim, BeginSend, Send])
def test_cancel_of_an_unknown_charge(world: World, sent: type[Send], fault: str) -> None:
    """What may have been sent is not cancelled but closed, until the provider's lists say what became of it (S16)."""
    for point in count():
        world.restart(fault)
        assert world.kills(lambda client: client.charge(ORDER), dies_after=sent)
        died = world.kills(lambda client: client.cancel(ORDER.intent_id, because="test"), point)
        with world.client() as client:
            sends = len([request for request in world.sandbox.requests if request.method == "POST"])
            later(world, 0, lambda: client.cancel(ORDER.intent_id, because="test"), client.resume)
            soon = later(world, 0.5, client.resume)
            in_the_end = later(world, 80, client.resume, lambda: client.charge(ORDER))
        paid = len(world.paid()) == 1
        expected = "canceled" if sent is Claim else "succeeded" if paid else "unknown"
        assert (point, soon) == (point, [expected])
        assert in_the_end == ["absent" if expected == "unknown" else expected]
        assert sends == len([request for request in world.sandbox.requests if request.method == "POST"])
        if not died:
            break


@pytest.mark.parametrize("cancelled", [False, True])
@pytest.mark.parametrize("fault", [None, "lost_reply", "error_500", "error_500_charged", "late", "in_use_409"])
def test_async_charge(world: World, fault: str | None, cancelled: bool) -> None:
    """A task that dies, or is cancelled in the midst of any effect, leaves what resume finishes (F12, F14)."""
    soon, in_the_end = PROVABLE.get(fault or "", ["succeeded", "succeeded"])

    async def charge(point: int) -> bool:
        engine = create_async_engine(f"sqlite+aiosqlite:///{world.path}")
        client = MortalAsync(
            Stripe(world.sandbox.api_key),
            database=engine,
            transport=Door(world),
            clock=world.clock,
            timeout_s=TIMEOUT_S,
        )
        client.dies_at, client.cancelled = point, cancelled
        try:
            async with client:
                await asyncio.create_task(client.charge(ORDER))
        except (Killed, asyncio.CancelledError):
            return True
        finally:
            await engine.dispose()
        return False

    for point in count():
        world.restart(fault)
        died = asyncio.run(charge(point))
        with world.client() as client:
            told = later(world, 0, client.resume, lambda: client.charge(ORDER))
            assert (point, told) == (point, [soon])
            assert (point, later(world, 110, client.resume)) == (point, [in_the_end])
        if not died:
            break
    assert point >= 7


def confirm_elsewhere(world: World, intent_id: str) -> None:
    """Somebody pays a declined intent after all, with another card."""
    import httpx

    headers = {"Authorization": f"Bearer {world.sandbox.api_key}"}
    with httpx.Client(transport=world.sandbox.transport(), base_url="http://sandbox", headers=headers) as client:
        form = {"payment_method": "pm_card_visa", "return_url": "https://example.com/back"}
        assert client.post(f"/v1/payment_intents/{intent_id}/confirm", data=form).status_code == 200
