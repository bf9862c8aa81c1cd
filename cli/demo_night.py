"""The demo's night: what no retry can see. Ledgers are disturbed behind our back, then the day is reconciled, twice.

What is planted, and how it is compared with what was found, is `demo_planted.py`.
"""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime

from cli import demo_load, output
from cli.alerting import causes
from cli.demo_planted import CHANGED, CHARGED_AGAIN, LOST_REPLY, NO_ROW, REMOVED, UNTOUCHED, NightFigures
from cli.demo_report import step
from cli.reconciling import findings_of, summary, table_of
from gateway_client import Charge, Client, PaymentIntent, RetryPolicy, Sandbox, State, Stripe
from gateway_client.clock import Clock
from gateway_client.db import Database
from gateway_client.exchange import unaged
from gateway_client.gateways.base import Binding
from gateway_client.wire import Wire
from reconcile import run


def tell_night(sandbox: Sandbox, gateway: Stripe, database_url: str, clock: Clock) -> NightFigures:
    """Charge, disturb, reconcile twice, list what is left for a person."""
    sandbox.faults = {}
    binding = Binding(gateway.provider, gateway.mode, sandbox.account, demo_load.NAMESPACE)
    with demo_load.client(gateway, database_url, clock, RetryPolicy(sends_max=1)) as client:
        step(
            "9. What no retry can see. Five more intents are charged, and one of the replies is lost. Behind our back",
            "a charge is made with our metadata and without a row here, one is changed, one removed, one made again.",
        )
        _disturb(sandbox, gateway, client, binding)
        today = datetime.fromtimestamp(clock.time(), UTC).date()
        step("10. `paycli reconcile --date today`, and once more.")
        first = run(client, today)
        summary(first, output.say)
        output.say("")
        second = run(client, today)
        summary(second, output.say)
    step("11. `paycli findings`, what a person must settle, and `paycli alerts`, what wakes one.")
    with closing(Database(database_url)) as database:
        left = list(findings_of(database, closed=False))
        woken = causes(database, datetime.fromtimestamp(clock.time(), UTC))
    table_of(left, lambda line: output.say(f"   {line}"))
    output.say("")
    for alert in woken:
        output.say(f"   {alert.cause}: {alert.message}")
    return NightFigures(first, second, len(woken))


def _disturb(sandbox: Sandbox, gateway: Stripe, client: Client, binding: Binding) -> None:
    charged = {intent.intent_id: _charged(client, intent) for intent in (CHANGED, REMOVED, CHARGED_AGAIN, UNTOUCHED)}
    sandbox.fault("lost_reply")
    assert client.charge(LOST_REPLY).state is State.UNKNOWN
    with closing(Wire(gateway, demo_load.TIMEOUT_S, None)) as wire:
        for intent in (NO_ROW, CHARGED_AGAIN):
            body = gateway.charge_body(intent, binding, 1, binding.key("charge", intent.intent_id, 1))
            key = f"behind-our-back-{intent.intent_id}"
            wire.exchange(gateway.charge_request(body, key, gateway.api_version), unaged)
    sandbox.change(charged[CHANGED.intent_id], amount=CHANGED.amount.amount + 500)
    sandbox.remove(charged[REMOVED.intent_id])


def _charged(client: Client, intent: PaymentIntent) -> str:
    charge: Charge = client.charge(intent)
    assert charge.provider_charge_id is not None
    return charge.provider_charge_id
