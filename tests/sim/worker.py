"""Workers of a schedule: the real `work_flow`, the wish that it ends, and leases that may be switched off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gateway_client.charge import Charge
from gateway_client.flow.effects import BeginSend, Effect
from gateway_client.flow.leasing import Lease, Release
from gateway_client.flow.working import Plan, work_flow
from tests.sim.hosts import Host, Process
from tests.sim.provider import TIMEOUT_S
from tests.sim.shift import Shift

if TYPE_CHECKING:
    from tests.sim.world import World


def start(
    world: World,
    name: str,
    host: Host,
    rate: float,
    until: str,
    credential: str,
    on_end: Callable[[Shift, Any], None] = lambda shift, result: None,
) -> None:
    """Start a worker that ends when it is `idle`, is told to after some seconds (`60s`) or at an effect (`17th`)."""
    process = world.process(host, credential)
    shift = Shift(f"{process.name}:{name}", rate, leases=world.leases)
    world.ghost.shifts.append(shift)

    def hear(news: Charge | str) -> None:
        if isinstance(news, Charge):
            shift.told.add((news.intent_id, news.attempt))
            world.witness.told(news)

    plan = Plan(
        worker=shift.name,
        sends_per_s=rate,
        timeout_s=TIMEOUT_S,
        until_idle=until == "idle",
        chance=process.clock.jitter,
        stopping=lambda: shift.told_to_end_at is not None,
        news=hear,
    )

    def end(result: object) -> None:
        world.witness.shift_ended(shift)
        on_end(shift, result)

    others = {other.verb for other in world.running.values()}
    world.ghost.seen.update(
        "two workers at once" if verb == "work" else f"a worker and {verb.split()[0]} at once" for verb in others
    )
    perform = process.perform if world.leases else _without_leases(world, process, shift)
    if until.endswith("th"):
        shift.told_to_end_by = int(until.removesuffix("th"))
    elif until != "idle":
        world.after(float(until.removesuffix("s")), lambda: tell_to_end(world, shift))
    flow = work_flow(process.setup, plan)
    world.call(name, "work", host, credential, lambda _: flow, perform=perform, on_end=end, shift=shift)


def tell_to_end(world: World, shift: Shift) -> None:
    """SIGTERM."""
    if shift.told_to_end_at is None:
        shift.told_to_end_at = world.now
        world.ghost.seen["a worker was told to end with rows in hand"] += bool(shift.until)
        world.trace(f"{shift.name} is told to end")


def _without_leases(world: World, process: Process, shift: Shift) -> Callable[[Effect[Any]], Any]:
    """Every worker sees all rows that are due, whoever is at them, and the gate asks for no lease (S12)."""

    def perform(effect: Effect[Any]) -> Any:
        if isinstance(effect, Lease):
            effect = replace(effect, open_s=0.0)
            world.store.write("UPDATE pending_charges SET leased_by = NULL, leased_until = NULL")
        elif isinstance(effect, BeginSend):
            effect = replace(effect, lease_of=None)
        elif isinstance(effect, Release):
            for key, _ in effect.rows:
                world.store.write("UPDATE pending_charges SET leased_by = ? WHERE idempotency_key = ?", shift.name, key)
        return process.perform(effect)

    return perform
