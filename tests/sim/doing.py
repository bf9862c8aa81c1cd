"""Doing what happens: a happening becomes a call, a wrong clock, a restored backup, or a hand on somebody's ledger."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from gateway_client import PaymentIntent
from gateway_client.charge import Charge
from gateway_client.flow.charging import charge_flow, prepare_flow
from gateway_client.flow.clearing import cancel_flow
from gateway_client.flow.resuming import resume_flow
from gateway_client.sandbox.wire import Request
from gateway_client.state import PENDING
from gateway_client.store.findings import close_finding, read_findings
from tests.sim import worker
from tests.sim.happenings import Happening, intent_of
from tests.sim.hosts import KEYS, Host, Process

if TYPE_CHECKING:
    from tests.sim.world import World

STRANGER = (
    "amount=2000&currency=usd&confirm=true&payment_method=pm_card_visa&automatic_payment_methods[enabled]=true"
    "&automatic_payment_methods[allow_redirects]=never"
)

CLAIMED_AMOUNT = 777
CLAIMED = STRANGER.replace("2000", f"{CLAIMED_AMOUNT}").replace("pm_card_visa", "pm_card_authenticationRequired")
"""Somebody else's payment, of an amount that is none of ours, which waits for its customer."""

PAID_BY = re.compile("payment_method=[a-zA-Z_]+")
ALONE = ("strip", "key", "namespace", "both", "amount", "currency", "lose", "remove", "twice", "claim")
"""Hands of which one is enough for an intent: of several, nothing on earth tells any more what was so."""


def do(world: World, one: Happening) -> None:
    """One happening."""
    world.trace(f"{one.name} {one.host} {one.verb} {' '.join(one.words)}")
    host = world.hosts[one.host]
    world.back_up()
    match one.verb, one.words:
        case (("charge" | "prepare"), (order, method, attempt, credential)):
            _charge(world, one, host, intent_of(int(order), method, world.now), int(attempt), credential)
        case "cancel", (order, credential):
            name = f"order_{order}"
            world.call(one.name, "cancel", host, credential, lambda by: cancel_flow(by.setup, name, "asked to"))
        case "resume", (credential,):
            world.call(one.name, "resume", host, credential, resume)
        case "work", (rate, until, credential):
            worker.start(world, one.name, host, float(rate), until, credential)
        case "reconcile", (days_ago, credential):
            day = (datetime.fromtimestamp(world.now, UTC) - timedelta(days=int(days_ago))).date()
            world.reconcile(one.name, host, day, credential)
        case "clock", (seconds,):
            host.clock.set(float(seconds))
            world.ghost.clocks_right = False
        case "still", (seconds,):
            world.stand_still(host, float(seconds))
        case "resolve", (order,):
            _resolve(world, f"order_{order}")
        case "outage", (seconds,):
            world.fall_silent(float(seconds))
        case "kill", _:
            world.kill_host(host)
        case "restore", (happenings_ago,):
            world.restore(int(happenings_ago))
        case "hand", (what, order):
            hand(world, what, f"order_{order}")
        case "poison", (order,):
            _poison(world, f"order_{order}")
        case "stranger", _:
            world.ghost.strangers += 1
            _post(world, "/v1/payment_intents", STRANGER)


def resume(process: Process) -> Any:
    """What `paycli resume` does."""
    return resume_flow(process.setup, None, lambda charge: None)


def _charge(world: World, one: Happening, host: Host, intent: PaymentIntent, attempt: int, credential: str) -> None:
    def flow(process: Process) -> Any:
        if one.verb == "prepare":
            return _prepare(process, intent)
        return charge_flow(process.setup, intent, None if attempt == 1 else attempt)

    def end(result: object) -> None:
        if isinstance(result, Charge):
            world.ghost.acknowledged.add(result.intent_id)
            world.witness.told(result)

    world.ghost.asked.add((intent.intent_id, attempt))
    world.call(one.name, f"{one.verb} {intent.intent_id}", host, credential, flow, on_end=end)


def _prepare(process: Process, intent: PaymentIntent) -> Any:
    claim = yield from prepare_flow(process.setup, intent, None)
    return (yield claim)


def hand(world: World, what: str, intent_id: str) -> None:
    """Somebody at the provider's dashboard, or the provider itself, does what no request of ours could."""
    if what == "claim":
        _claim(world, intent_id)
        return
    # Ours by its maker: who acts on a stranger's payment that has our names acts on a payment that we never asked for.
    ours = (one for one in world.provider.intents() if one["amount"] != CLAIMED_AMOUNT)
    found = [one for one in ours if one["metadata"].get("paycli_intent") == intent_id]
    if not found or (what in ALONE and intent_id in world.ghost.handled):
        return
    if what == "lose" and any(row.state in PENDING for row in world.ghost.rows.values() if row.intent_id == intent_id):
        return
    ledger, intent, charge_id = world.provider.ours, found[0]["id"], found[0]["latest_charge"]
    path = f"/v1/payment_intents/{intent}"
    world.ghost.handled.add(intent_id)
    world.ghost.seen[f"hand: {what}"] += 1
    match what:
        case "confirm":
            _post(world, f"{path}/confirm", "payment_method=pm_card_visa")
        case "debit":
            _post(world, f"{path}/confirm", "payment_method=pm_usBankAccount_success")
        case "authenticate":
            _post(world, f"{path}/confirm", "payment_method=pm_card_authenticationRequired")
        case "cancel":
            _post(world, f"{path}/cancel", "")
        case "lose":
            for table in ("paycli_sends", "paycli_events", "pending_charges"):
                world.store.write(f"DELETE FROM {table} WHERE intent_id = ?", intent_id)
            world.ghost.forget(intent_id)
            world.witness.look_at_rows(None)
        case "twice":
            world.ghost.excused.add(intent_id)
            for (body,) in world.store.read("SELECT body FROM pending_charges WHERE intent_id = ? LIMIT 1", intent_id):
                _post(world, "/v1/payment_intents", PAID_BY.sub("payment_method=pm_card_visa", body))
        case "remove" if charge_id in world.provider.ids():
            ledger.remove(charge_id)
        case "strip" | "amount" | "currency" | "key" | "namespace" | "both":
            field, value = _edited(what, found[0]["metadata"])
            world.ghost.strangers += field == "metadata"
            _change(world, found[0], field, value)
        case "break" | "mend":  # of kept schedules only: an object in another form than the provider's, for a while
            _change(world, found[0], "livemode", "no" if what == "break" else False)


def _change(world: World, intent: dict[str, Any], field: str, value: Any) -> None:
    for object_id in sorted({intent["id"], intent["latest_charge"]} & world.provider.ids()):
        world.provider.ours.change(object_id, **{field: value})


def _claim(world: World, intent_id: str) -> None:
    """Somebody writes the names of an attempt of ours on a stranger's payment."""
    attempt = max((number for of, number in world.ghost.rows if of == intent_id), default=None)
    if attempt is None or intent_id in world.ghost.handled:
        return
    world.ghost.handled.add(intent_id)
    world.ghost.strangers += 1
    world.ghost.seen["hand: claim"] += 1
    _post(world, "/v1/payment_intents", CLAIMED)
    key = world.ghost.rows[intent_id, attempt].key
    named = {"namespace": "default", "intent": intent_id, "attempt": str(attempt), "key": key}
    theirs = next(one for one in world.provider.intents() if one["amount"] == CLAIMED_AMOUNT and not one["metadata"])
    world.provider.ours.change(theirs["id"], metadata={f"paycli_{name}": value for name, value in named.items()})


def _edited(what: str, metadata: dict[str, str]) -> tuple[str, Any]:
    """What somebody makes of a field."""
    if what in ("amount", "currency"):
        return what, 1 if what == "amount" else "eur"
    if what == "strip":
        return "metadata", {}
    if what == "key":
        return "metadata", metadata | {"paycli_key": "pc1_" + "b" * 52}
    kept = {name: value for name, value in metadata.items() if what == "namespace" or name != "paycli_key"}
    return "metadata", kept | {"paycli_namespace": "another"}


def _resolve(world: World, intent_id: str) -> None:
    """A person has looked at every open finding of an intent, and closes them."""

    def close(tx: Any) -> None:
        for finding in read_findings(tx, closed=False, after=None, rows_max=100):
            if finding.intent_id == intent_id:
                close_finding(tx, finding.id, "looked at")
                world.ghost.seen[f"closed: {finding.code}"] += 1

    world.store.database.transact(close, time=lambda: datetime.fromtimestamp(world.now, UTC))


def _poison(world: World, intent_id: str) -> None:
    """A row is changed by hand: it is not what was frozen any more."""
    world.ghost.handled.add(intent_id)
    world.store.write("UPDATE pending_charges SET body = body || '&description=y' WHERE intent_id = ?", intent_id)
    world.witness.look_at_rows(None)


def _post(world: World, path: str, body: str) -> None:
    """A request in our account that is not one of ours."""
    headers = {"authorization": f"Bearer {KEYS['ours']}", "content-type": "application/x-www-form-urlencoded"}
    ledger = world.provider.ours
    world.witness.finish(ledger, ledger.begin(Request("POST", path, headers, body.encode())))
