"""The demo's three orders, each in a trouble of its own: a middlebox, a doubled delivery, a machine that stands still.

What must come of each is in `demo_planted.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from cli import demo_load, output
from cli.demo_clock import MovedClock
from cli.demo_planted import DOUBLED, FILTERED, PAUSED, TROUBLES, OrderFigures
from cli.demo_report import step
from gateway_client import ChargeOnceError, Client, Money, PaymentIntent, RetryPolicy, Sandbox, Stripe

PAUSE = timedelta(hours=30)
ONE_TRY = RetryPolicy(sends_max=1)  # with the default, most callers would see only how it ends


class Orders:
    """The three, one after the other, charged by one process that lives through all of it."""

    def __init__(self, sandbox: Sandbox, gateway: Stripe, database_url: str) -> None:
        self._sandbox, self._gateway, self._url = sandbox, gateway, database_url

    def tell(self) -> list[OrderFigures]:
        """Tell it. It begins 30 hours ago: for so long the machine will stand still, and then it is now for both."""
        clock = MovedClock(-PAUSE)
        self._sandbox.clock.advance(-PAUSE.total_seconds())
        step(
            "1. Three orders, each in a trouble of its own. A call sends once here, so that its first answer is seen.",
            "Who takes that for proof that nothing was charged, and tries anew, charges each of them twice.",
        )
        with demo_load.client(self._gateway, self._url, clock, ONE_TRY) as client:
            figures = [self._filtered(client), self._doubled(client), self._paused(client, clock)]
        _table(figures)
        return figures

    def _filtered(self, client: Client) -> OrderFigures:
        name = FILTERED.intent_id
        output.say(f"   {name}: the provider charges. A web filter in between answers with a 403 of its own, HTML.")
        self._sandbox.fault("filter_403_html")
        told = [_charge(client, FILTERED, "told"), _charge(client, FILTERED, "called again, the same key")]
        return self._seen(FILTERED, told)

    def _doubled(self, client: Client) -> OrderFigures:
        name = DOUBLED.intent_id
        output.say(f"   {name}: the request arrives twice. One is charged; the answer is the other one's, a 429.")
        self._sandbox.fault("double_429")
        told = [_charge(client, DOUBLED, "told"), _charge(client, DOUBLED, "called again, the same key")]
        return self._seen(DOUBLED, told)

    def _paused(self, client: Client, clock: MovedClock) -> OrderFigures:
        output.say(f"   {PAUSED.intent_id}: the provider charges, and the reply is lost.")
        self._sandbox.fault("lost_reply")
        told = [_charge(client, PAUSED, "told")]
        hours = f"{PAUSE.total_seconds() / 3600:g} hours"
        output.say(
            f"      The machine stands still for {hours}, its clocks too. By then the provider has forgotten the"
        )
        output.say("      key: the same request would be a new charge. The provider's time is asked before it is sent.")
        self._sandbox.clock.advance(PAUSE.total_seconds())
        before = len(self._sandbox.requests)
        told.append(_charge(client, PAUSED, "called again"))
        clock.ahead = timedelta(0)
        told.append(_charge(client, PAUSED, "its clock set right, called again"))
        since = self._sandbox.requests[before:]
        sent = sum(request.method == "POST" for request in since)
        pages = sum(request.method == "GET" and request.path in self._gateway.evidence.paths for request in since)
        output.say(f"      since the pause: sent again {sent}, pages of the provider's lists read {pages}")
        return self._seen(PAUSED, told)

    def _seen(self, intent: PaymentIntent, told: Sequence[str]) -> OrderFigures:
        """What the provider has of it, by its own ledger and its own record of what arrived."""
        charges = [one for one in self._sandbox.charges if one["metadata"].get("paycli_intent") == intent.intent_id]
        paid = [one for one in charges if one["status"] == "succeeded"]
        named = ("metadata[paycli_intent]", intent.intent_id)
        arrived = sum(named in request.params for request in self._sandbox.requests if request.method == "POST")
        money = " + ".join(f"{Money(one['amount'], one['currency'])} {one['id']}" for one in paid) or "nothing"
        output.say(f"      the provider's ledger: {money}; requests {arrived}, charges {len(paid)}")
        return OrderFigures(intent.intent_id, tuple(told), arrived, len(paid))


def _charge(client: Client, intent: PaymentIntent, words: str) -> str:
    """Charge it, say what its caller was told, and return that in a word."""
    try:
        charge = client.charge(intent)
    except ChargeOnceError as error:
        output.say(f"      {words}: {type(error).__name__}, {error}")
        return type(error).__name__
    output.say(f"      {words}: {charge.state}, {charge.provider_charge_id or charge.reason}")
    return charge.state


def _table(figures: Sequence[OrderFigures]) -> None:
    output.data("")
    heads = ("trouble", "intent", "its caller was told", "requests", "charges")
    rows = [(TROUBLES[one.intent_id], one.intent_id, ", ".join(one.told), one.requests, one.charges) for one in figures]
    output.table(heads, rows, right=(3, 4))
