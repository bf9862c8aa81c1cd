"""BeginSend under another API key: held until a reading, begun late enough, shows nothing of what the old one sent."""

from collections.abc import Iterator

import pytest

from gateway_client.flow.effects import Begun, Held, Next
from gateway_client.outcome import Cause, NotExecuted, Outcome, Unknown
from tests.kit import BOUNDS, ORDER, World
from tests.test_gate import REFUSED, ROTATED, SECOND, begin, settle


@pytest.fixture
def world() -> Iterator[World]:
    """With one prepared charge."""
    with World() as world:
        world.open_client().prepare(ORDER)
        yield world


def test_another_credential_waits_for_a_quiet_time(world: World) -> None:
    """Held: what was refused under another credential, until a reading begun a quiet time later shows nothing (S1)."""
    begin(world)
    settle(world, REFUSED, status=429, send_no=1, proven=True)
    world.clock.advance(hours=1)
    held_at = world.clock.now
    answer = begin(world, credential_id=ROTATED)
    assert isinstance(answer, Held)
    assert (answer.next, answer.charge.quiet_from) == (Next.LOOK_UP_THEN_SEND, held_at)
    assert "16:11:40" in (answer.charge.reason or "")
    for read_at in (held_at, held_at + BOUNDS.quiet - SECOND):
        world.clock.advance(read_at - world.clock.now)
        answer = begin(world, credential_id=ROTATED, read_at=read_at)
        assert isinstance(answer, Held)
        assert (answer.next, answer.charge.quiet_from) == (Next.NOTHING, held_at)
    world.clock.advance(SECOND)
    begun = begin(world, credential_id=ROTATED, read_at=held_at + BOUNDS.quiet)
    assert isinstance(begun, Begun)
    assert begun.charge.quiet_from is None, "a send has begun since"


@pytest.mark.parametrize(
    ("outcome", "status", "proven"),
    [
        (None, None, False),
        (Unknown("no whole answer"), None, False),
        (Unknown("HTTP 500"), 500, True),
        (Unknown("HTTP 503"), 503, True),
        (Unknown("HTTP 429", told=True, cause=Cause.RATE_LIMITED), 429, False),
    ],
)
def test_another_credential_never_sends_what_may_be_rolled_forward(
    world: World, outcome: Outcome | None, status: int | None, *, proven: bool
) -> None:
    """Held while its key lives: what was not answered, or with a 5xx, under another credential (S1)."""
    begin(world)
    if outcome is not None:
        settle(world, outcome, status=status, send_no=1, proven=proven)
    begin(world, credential_id=ROTATED)
    world.clock.advance(BOUNDS.key_life - SECOND)
    answer = begin(world, credential_id=ROTATED, read_at=world.clock.now)
    assert isinstance(answer, Held)
    assert (answer.next, answer.charge.closed_at) == (Next.NOTHING, None)
    assert "not sent again" in (answer.charge.reason or "")
    world.clock.advance(SECOND)
    answer = begin(world, credential_id=ROTATED, read_at=world.clock.now)
    assert isinstance(answer, Held)
    assert (answer.next, answer.charge.closed_at) == (Next.LOOK_UP, world.clock.now)
    assert BOUNDS.key_life < BOUNDS.quiet_unproven


def test_another_credential_counts_from_the_last_send(world: World) -> None:
    """A send of the old credential, made while the new one is held, begins the quiet time anew."""
    begin(world)
    begin(world, credential_id=ROTATED)
    world.clock.advance(hours=3)
    begin(world)
    world.clock.advance(hours=1)
    answer = begin(world, credential_id=ROTATED, read_at=world.clock.now)
    assert isinstance(answer, Held)
    assert answer.charge.quiet_from == world.clock.now


def test_another_credential_after_a_send_that_never_left(world: World) -> None:
    """What never left under another credential is sent at once under this one."""
    begin(world)
    settle(world, NotExecuted(Cause.NOT_SENT, "refused"), send_no=1)
    assert isinstance(begin(world, credential_id=ROTATED), Begun)
