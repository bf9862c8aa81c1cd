"""A toy operation: tips upon a charge, with a law, rules, a gateway and a provider of their own.

It is here to show that tables, gate, leases, findings and workers know no operation by name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qs, urlencode

import httpx

from gateway_client import State, Stripe
from gateway_client.charge import Charge
from gateway_client.evidence import RULES, Known, Rule, Step
from gateway_client.frozen import Frozen
from gateway_client.gateways.base import Binding, Missing, NoReply, Offered, Reply, Request, Retrieval
from gateway_client.operation import Operation, Payment, Upon
from gateway_client.outcome import Answer, Cause, Conflict, CouldNotAsk, Declined, NotExecuted, Succeeded, Unknown
from gateway_client.proof import Expected
from gateway_client.state import TRANSITIONS, Event, Law
from tests.kit import World

TIP = "tip"

# A tip that succeeded is at rest: the provider may take it back.
LAW = Law(TIP, {**TRANSITIONS, State.SUCCEEDED: {Event.DECLINED: State.DECLINED}})


def _at_once(known: Known) -> None:
    """A tip that was declined may be tried again at once."""


RULES_OF_TIPS = (
    *(rule for rule in RULES if rule.step is not Step.NEXT_ATTEMPT),
    Rule(Step.NEXT_ATTEMPT, (State.DECLINED,), "none is needed", _at_once),
)


def may_be_tipped(upon: Upon, payment: Payment) -> Charge | str:
    """A tip is upon a charge that succeeded, and all tips that were not refused are no more than it."""
    paid = next((charge for charge in payment.charges if charge.state is State.SUCCEEDED), None)
    if paid is None:
        return f"{upon.parent_id} has not succeeded"
    given = sum(act.amount for act in payment.acts if act.operation == TIP and not act.state.refused)
    if upon.amount.currency != paid.currency or given + upon.amount.amount > paid.amount:
        return f"{given} of {paid.amount} are tipped already"
    return paid


TIPPING = Operation(LAW, RULES_OF_TIPS, may_be_tipped)


@dataclass
class TipJar:
    """The provider's side: one tip for each key, whatever is asked how often."""

    world: World
    tips: dict[str, dict[str, Any]] = field(default_factory=dict)
    posts: list[str] = field(default_factory=list)  # the keys, as they came
    faults: list[str] = field(default_factory=list)  # of the next requests: lost_request, lost_reply, declined

    def __call__(self, request: httpx.Request) -> httpx.Response | None:
        if not request.url.path.startswith("/v1/tips"):
            return None
        if request.method == "GET":
            tip = self.tips.get(request.url.path.rpartition("/")[2])
            return self._answer(200 if tip else 404, tip or {"error": {"type": "invalid_request_error"}})
        key, fault = request.headers["Idempotency-Key"], self.faults.pop(0) if self.faults else ""
        self.posts.append(key)
        if fault == "lost_request":
            raise httpx.ReadTimeout("The read operation timed out", request=request)
        form = {name: values[0] for name, values in parse_qs(request.content.decode()).items()}
        status = "declined" if fault == "declined" else "succeeded"
        new = {"id": f"tip_{len(self.tips) + 1}", "amount": int(form["amount"]), "key": key, "status": status}
        tip = self.tips.setdefault(key, new)
        if fault == "lost_reply":
            raise httpx.ReadTimeout("The read operation timed out", request=request)
        return self._answer(200, tip)

    def _answer(self, status: int, body: dict[str, Any]) -> httpx.Response:
        headers = {"Date": formatdate(self.world.clock.true_time(), usegmt=True)}
        return httpx.Response(status, json=body, headers=headers)


def _request(tip: Charge, body: str, api_version: str) -> Request:
    return Request("POST", "/v1/tips", body, tip.idempotency_key, api_version)


def _body(upon: Upon, parent: Charge, key: str) -> str:
    return urlencode({"amount": upon.amount.amount, "charge": parent.provider_charge_id})


def _read(reply: Reply | NoReply, tip: Expected) -> Answer:
    if isinstance(reply, NoReply):
        return Answer(Unknown(reply.reason) if reply.sent else NotExecuted(Cause.NOT_SENT, reply.reason))
    return _judged(json.loads(reply.body), tip, reply.status)


def _judged(found: dict[str, Any], tip: Expected, status: int) -> Answer:
    if (found["key"], found["amount"]) != (tip.key, tip.amount):
        return Answer(Conflict("another tip", None, found["id"]), status=status)
    if found["status"] == "declined":
        return Answer(Declined("no tips today", None, found["id"]), proven=True, status=status)
    return Answer(Succeeded(None, found["id"]), proven=True, status=status)


def _retrieved(reply: Reply | NoReply, tip: Expected) -> Answer | Missing | CouldNotAsk:
    if isinstance(reply, NoReply):
        return CouldNotAsk(reply.reason)
    if reply.status == 404:
        return Missing()
    return replace(_judged(json.loads(reply.body), tip, reply.status), status=None)


def _altered(frozen: Frozen, binding: Binding) -> str | None:
    return None if f"amount={frozen.amount}&" in frozen.body else "its body is not its row's"


OFFERED = Offered(
    _request,
    _read,
    _altered,
    _body,
    Retrieval(lambda tip: Request("GET", f"/v1/tips/{tip.idempotency_key}"), _retrieved),
)


class WithTips(Stripe):
    """A gateway that offers tips as well."""

    @property
    def operations(self) -> dict[str, Offered]:
        return {**super().operations, TIP: OFFERED}
