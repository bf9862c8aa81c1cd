"""The provider of a schedule: the sandbox model, with short pages, and lists that show an object late.

It also turns the sandbox's answers into what the client's wire makes of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from gateway_client import Sandbox, wire
from gateway_client.gateways.base import Gateway, NoReply, Reply, Request
from gateway_client.sandbox import wire as sandbox_wire
from gateway_client.sandbox.faults import FAULTS
from gateway_client.sandbox.model import Exchange
from tests.sim.weather import LIES

ACCOUNT, OTHER_ACCOUNT = "acct_1Ours", "acct_1Theirs"
OTHER = "_test_other"  # in every key of the other account
TIMEOUT_S = 30.0
RETRY_AFTER_S = "20"
NOTHING_CAME = NoReply(True, "the connection broke", 0)
_LIMIT, _LATEST = re.compile(r"limit=\d+"), re.compile(r"created%5Blte%5D=(\d+)")


class Provider:
    """Two accounts of one provider: ours, and one that a wrong key leads to."""

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time
        self.ours = Sandbox(time=time, account=ACCOUNT)
        self._other: Sandbox | None = None
        self.page_rows = 100
        self.lag_s = 0.0
        self.created_skew_s = self.date_skew_s = 0.0

    def date_objects(self, skew_s: float, roll_forward_s: float) -> None:
        """`created` of what our account makes is beside the true time; a roll-forward comes when it comes."""
        self.created_skew_s, model = skew_s, self.ours._model
        self.ours.roll_forward_s = roll_forward_s - skew_s
        perform, roll_forward = model._perform, model._roll_forward

        def performed(exchange: Exchange, now: float) -> Any:
            return perform(exchange, now + skew_s)

        def rolled_forward(exchange: Exchange, origin: str, now: float) -> None:
            roll_forward(exchange, origin, now + skew_s)

        model._perform, model._roll_forward = performed, rolled_forward  # type: ignore[method-assign]

    def made_at(self, one: dict[str, Any]) -> float:
        """The true time at which an object was made."""
        return float(one["created"]) - self.created_skew_s

    def account_id(self, gateway: Gateway) -> str:
        """The account of a credential."""
        return OTHER_ACCOUNT if OTHER in gateway.headers(Request("GET", "/"))["Authorization"] else ACCOUNT

    def account_of(self, headers: dict[str, str]) -> Sandbox:
        """The account that a request's credential is of."""
        if OTHER not in headers["authorization"]:
            return self.ours
        if self._other is None:
            self._other = Sandbox(time=self._time, account=OTHER_ACCOUNT, seed=1)
        return self._other

    def begin(self, gateway: Gateway, request: Request, fault: str | None) -> tuple[Sandbox, Exchange]:
        """A request arrives, and meets this fault."""
        headers = {name.lower(): value for name, value in gateway.headers(request).items()}
        # The sandbox refuses live keys; the provider whose account it is would not.
        headers["authorization"] = headers["authorization"].replace("_live_", "_test_")
        sandbox = self.account_of(headers)
        path = self._limited(request.path) if request.method == "GET" else request.path
        if fault in FAULTS or fault == "lost_500_later":
            sandbox.fault("error_500_later" if fault == "lost_500_later" else fault, on="*")
        if fault == "asked_to_wait":
            sandbox.fault("rate_limited_429", on="*")
        if fault == "unauthorized_401":
            headers["authorization"] = "Bearer sk_test_expired"
        body = b"" if request.body is None else request.body.encode("ascii")
        return sandbox, sandbox.begin(sandbox_wire.Request(request.method, path, headers, body))

    def _limited(self, path: str) -> str:
        """Short pages, and nothing younger than the list's lag."""
        if "limit=" not in path:
            return path
        latest = int(self._time() - self.lag_s + self.created_skew_s)
        path = _LATEST.sub(lambda found: f"created%5Blte%5D={min(int(found[1]), latest)}", path)
        return _LIMIT.sub(f"limit={self.page_rows}", path)

    # --- the truth, for the ghost only: looked at where it lies, because copies cost

    def catch_up(self) -> None:
        """Let what is due have happened."""
        self.ours.clock.advance(0)

    def charges(self) -> Iterator[dict[str, Any]]:
        """Every charge of our account, newest first."""
        return iter(self.ours._model.ledger.charges)

    def ids(self) -> set[str]:
        """What our ledger holds."""
        return {one["id"] for one in (*self.charges(), *self.intents())}

    def intents(self) -> Iterator[dict[str, Any]]:
        """Every payment intent of our account, newest first."""
        return iter(self.ours._model.ledger.intents)


def told_wrong(reply: Reply | NoReply, decided: str | None) -> tuple[Reply | NoReply, bool]:
    """What arrives of an answer that is changed on its way, and whether it lies."""
    if decided == "lost_500_later":
        return NOTHING_CAME, False
    if not isinstance(reply, Reply):
        return reply, False
    if decided == "bare_402" and reply.status == 402:
        error = {**json.loads(reply.body)["error"], "payment_intent": None}
        return replace(reply, body=json.dumps({"error": error}).encode()), False
    if reply.status != 200 or decided not in LIES:
        return reply, False
    changed: dict[str, object] = {"currency": "eur"} if decided == "wrong_currency" else {"livemode": True}
    return (reply if decided == "wrong_amount" else _with(reply, changed)), True


def _with(reply: Reply, changed: dict[str, object]) -> Reply:
    return replace(reply, body=json.dumps({**json.loads(reply.body), **changed}).encode())


def reply_of(answer: sandbox_wire.Answer, elapsed_s: float, decided: str | None = None) -> Reply | NoReply:
    """What the client's wire makes of an answer, or of none."""
    elapsed_ms = int(elapsed_s * 1000)
    if elapsed_s > TIMEOUT_S:
        return NoReply(True, f"no whole answer within {TIMEOUT_S:g} s (ReadTimeout)", elapsed_ms)
    match answer:
        case sandbox_wire.Reply():
            headers = {name.lower(): value for name, value in answer.headers}
            if decided == "asked_to_wait" and answer.status == 429:
                headers["retry-after"] = RETRY_AFTER_S
            return Reply(answer.status, headers, answer.body, elapsed_ms)
        case sandbox_wire.Lost(refused=True):
            return NoReply(False, "not sent: no connection to the provider (refused)", elapsed_ms)
    return replace(NOTHING_CAME, elapsed_ms=elapsed_ms)


def too_old(age_s: Callable[[], float]) -> NoReply | None:
    """What the wire says instead of sending, when a send was begun too long ago."""
    try:
        wire.check_age(age_s)
    except wire.Paused:
        return NoReply(False, "not sent: this process was paused too long before the first byte", 0, paused=True)
    return None
