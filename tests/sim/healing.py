"""Healing: the faults have stopped, and the world must come to rest by the ordinary means.

They are resume, or workers, and nightly runs: at once; when every key is over; a quiet time later; when every 500 is
beyond its roll-forward; then a run for each day. What must hold then is `liveness.py`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from gateway_client.state import PENDING
from tests.sim import doing, liveness, safety, worker
from tests.sim.decisions import Dice
from tests.sim.ghost import Key, Row, moved, seconds_of
from tests.sim.shift import Shift

if TYPE_CHECKING:
    from tests.sim.world import World

HOUR_S = 3600.0
LATE_HANDS = 0.15
HEALING_RATE = 25.0
RESUMES = {1: 25 * HOUR_S, 2: 4 * HOUR_S, 3: 76 * HOUR_S, 4: HOUR_S}  # number → the time until what comes next
BEGUN_S, EXECUTED_S = 300.0, 100.0
TABLES = (
    "pending_charges",
    "paycli_sends",
    "paycli_events",
    "paycli_findings",
    "paycli_run_agreed",
    "paycli_run_items",
)


def begin(world: World) -> None:
    """The faults stop, the clocks are set right; whoever still runs goes on."""
    world.healing = True
    world.trace("healing")
    for host in world.hosts.values():
        host.clock.mend()
    for call in list(world.running.values()):
        call.wish_its_end()
    world.after(60.0, lambda: _when_calls_have_ended(world))


def _when_calls_have_ended(world: World) -> None:
    """Who was paused for a day goes on first, and what is held on its way arrives."""
    if world.running or world.now < world.under_way_until + EXECUTED_S:
        world.after(HOUR_S / 2, lambda: _when_calls_have_ended(world))
    else:
        _lay_hand(world)
        # What a worker has set aside, or died with, is due again.
        world.after(2 * HOUR_S if world.workers_heal else 0.0, lambda: _resume(world, 1))


def _lay_hand(world: World) -> None:
    """Somebody changes what is there, when all is quiet: the nights have something to find."""

    def draw(dice: Dice) -> str | None:
        if not world.weather.commit or not dice.hits(LATE_HANDS):
            return None
        what = dice.one_of(("remove", "amount", "currency", "twice", "lose", "lose"))
        return f"{what} {1 + dice.below(world.weather.orders)}"

    decided = world.decisions.take("hand at last", draw)
    if decided is not None:
        what, order = decided.split()
        world.ends_early = False
        world.trace(f"hand {decided}")
        doing.hand(world, what, f"order_{order}")


def _resume(world: World, number: int) -> None:
    ghost, begun_at = world.ghost, world.now
    pending = [row for row in ghost.rows.values() if row.state in PENDING]
    if not pending:
        if not (world.ends_early and _at_rest(world)):
            world.after(HOUR_S, lambda: _night(world, _days(world), 1))
        return

    def end(result: Any) -> None:
        world.witness.hold(liveness.after_resume, number, pending, result, world.now - begun_at)
        ended()

    def ended() -> None:
        if number == 4:
            world.witness.hold(liveness.l1_in_days, ghost, begun_at)
        if number < len(RESUMES):
            world.after(RESUMES[number], lambda: _resume(world, number + 1))
        else:
            world.after(RESUMES[number], lambda: _night(world, _days(world), 1))

    if world.workers_heal:
        _work(world, number, pending, ended)
    else:
        world.call(f"resume{number}", "resume", world.hosts["healer"], "ours", doing.resume, on_end=end)


def _work(world: World, number: int, pending: list[Row], ended: Callable[[], None]) -> None:
    """Two workers, and nobody else."""
    begun_at, told, names = world.now, set[Key](), [f"work{number}-1", f"work{number}-2"]
    theirs = [row for row in pending if not liveness.waits_for_a_person(world.ghost, row, begun_at)]
    world.ghost.seen["workers heal"] += 1

    def end(shift: Shift, result: Any) -> None:
        told.update(shift.told)
        world.witness.hold(liveness.a_worker_ends, shift.name, len(pending), result, world.now - begun_at)
        if not any(name in world.running for name in names):
            if number > 1 or not world.ghost.stood_still:  # a machine that was set right may have set a row aside
                world.witness.hold(liveness.after_work, number, theirs, told)
            ended()

    for name in names:
        worker.start(world, name, world.hosts["healer"], HEALING_RATE, "idle", "ours", end)


def _at_rest(world: World) -> bool:
    """Nothing disagrees that no finding tells of."""
    world.provider.catch_up()
    return liveness.at_rest(world.ghost, world.provider, world.store)


def _days(world: World) -> list[date]:
    """Every day in which anything was made here or there, by either's clock, and today while anything is pending."""
    created = {one["created"] for one in itertools.chain(world.provider.charges(), world.provider.intents())}
    created |= {int(sent.at) for sent in world.ghost.sends}
    created |= {int(seconds_of(row.first_sent_at)) for row in world.ghost.rows.values() if row.first_sent_at}
    if any(row.state in PENDING for row in world.ghost.rows.values()):
        created.add(int(world.now))
    begun = world.now - BEGUN_S  # by the provider's time, which may be beside the true one
    return sorted({datetime.fromtimestamp(min(at, begun), UTC).date() for at in created})


def _night(world: World, days: list[date], night: int) -> None:
    """A run for each day; a second round when the first has left something, and never a third."""
    if not days:
        if night == 1 and not _at_rest(world):
            world.ghost.seen["a second night"] += 1
            world.after(24 * HOUR_S, lambda: _night(world, _days(world), 2))
        return

    def end(result: Any) -> None:
        world.witness.hold(liveness.after_run, days[0], result, world.store)
        _night(world, days[1:], night)

    world.reconcile(f"night{night}-{days[0]}", world.hosts["healer"], days[0], "ours", on_end=end)


def judge(world: World) -> None:
    """Everything has come to rest."""
    witness, ghost = world.witness, world.ghost
    witness.check_money()
    witness.hold(safety.s22_amplification, ghost)
    for check in liveness.AT_THE_END:
        witness.hold(check, ghost, world.provider, world.store)
    for code, action in world.store.read("SELECT code, action FROM paycli_findings"):
        ghost.seen[f"finding {code} {action}"] += 1
    for whose in {ghost.charges[one["id"]] for one in world.provider.charges() if moved(one)} - {None}:
        state = ghost.rows[whose].state if whose in ghost.rows else ""
        ghost.seen["rejected, and charged by the other delivery"] += state == "rejected"
        witness.hold(safety.s8_absence_stays_true, ghost, whose)
    for table in TABLES:
        world.trace(repr(world.store.read(f"SELECT * FROM {table} ORDER BY 1, 2, 3")))
