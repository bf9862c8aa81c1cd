"""What lies between a machine and the provider: deliveries, and what is read of each exchange.

One exchange is one request: delivered once or twice, or not at all, each with a fate of its own; then the caller reads
the provider's own answer to one delivery, that answer damaged, an answer of a box, or nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl

from gateway_client.exchange import Age
from gateway_client.gateways.base import NoReply, Reply, Request
from gateway_client.intent import idempotency_key
from gateway_client.retry import BEGUN_S_MAX
from tests.answers import bodies
from tests.answers.lengths import HOLD_S, HOUR, Lengths, pick
from tests.answers.provider import BLIND, RESTRICTED, Answered, Delivery, Json, Provider, charge, error, intent
from tests.sim.decisions import Dice

TIMEOUT_S = 30.0
INTENTS, CHARGES, ACCOUNT_PATH = "/v1/payment_intents", "/v1/charges", "/v1/account"
HIDDEN_AGE_S = 240.0  # of an earlier answer of the account whose age nothing tells

Answer = Reply | NoReply


class Network:
    """The wire of every machine of a case."""

    def __init__(self, dice: Dice, lengths: Lengths, provider: Provider) -> None:
        self._dice, self._lengths, self._provider = dice, lengths, provider
        self.healed = False
        self.answers = self.sends = self.at_rest = 0
        self.delivered: set[str] = set()  # keys of which a delivery may have reached the provider
        self.rejected: set[str] = set()  # keys of which the caller has read the provider's own refusal
        self.seen: Counter[str] = Counter()
        self.credential = ""
        self.checked_at = 0.0  # when the gate's time was told, or looked at
        self.read_at: dict[str, float] = {}  # of each list, since the call began: when its first page was served
        self.date_skew = 0.0
        self._earlier: dict[str, tuple[float, dict[str, str], bytes]] = {}

    def exchange(self, request: Request, age_s: Age) -> Answer:
        """One request of a machine."""
        if age_s() > BEGUN_S_MAX:
            return NoReply(False, "not sent: paused", 0, paused=True)
        if self.healed:
            self.at_rest += 1
        else:
            self.answers += 1
            self.sends += request.method == "POST" and request.path == INTENTS
        begun = self._provider.now
        if request.method == "GET":
            reply = self._ask(request)
        elif request.path == INTENTS:
            reply = self._send(request)
        else:
            reply = self._cancel(request)
        elapsed_ms = int((self._provider.now - begun) * 1000)
        if isinstance(reply, Reply):
            return Reply(reply.status, reply.headers, reply.body, elapsed_ms)
        return NoReply(reply.sent, reply.reason, elapsed_ms)

    def close(self) -> None:
        """There is nothing to close."""

    def pass_by(self, seconds: float) -> None:
        self._provider.go_to(self._provider.now + seconds)

    # --- charge requests

    def _send(self, request: Request) -> Answer:
        dice, key = self._dice, request.idempotency_key or ""
        if self.healed:
            self.delivered.add(key)
            return self._read_own(self._deliver(request, 0.0, None), damaged=False)
        if dice.hits(0.04):
            self.pass_by(pick(dice, 0.01, 9.0))
            return self._told("send", NoReply(False, "not sent: no connection", 0))
        left = max(0.0, HOLD_S - (self._provider.now - self.checked_at))
        self.delivered.add(key)
        deliveries = []
        for _ in range(2 if dice.hits(self._lengths.two) else 1):
            refused = None if dice.hits(self._lengths.reaches) else bodies.refusal(dice)
            delay = min(left, pick(dice, *self._lengths.holds))
            deliveries.append(self._deliver(request, delay, refused, lost=dice.hits(0.05)))
        self.seen["two deliveries"] += len(deliveries) == 2
        if dice.hits(self._lengths.silent):
            self.pass_by(pick(dice, 0.2, TIMEOUT_S))
            return self._told("send", NoReply(True, "the connection broke", 0))
        if dice.hits(self._lengths.own):
            read = next((one for one in deliveries if one.refusal is not None), deliveries[0])  # refusals come first
            read = read if dice.hits(0.6) else deliveries[-1]
            return self._read_own(read, damaged=dice.hits(self._lengths.damaged))
        self.pass_by(pick(dice, 0.05, 2.0, 12.0, 29.0))
        return self._told("send", self._of_a_box(key))

    def _deliver(self, request: Request, delay: float, refused: Answered | None, *, lost: bool = False) -> Delivery:
        delivery = Delivery(request.idempotency_key or "", request.body or "", self.credential, refused)
        fate = "lost" if lost else f"refused {refused.status}" if refused is not None else "goes through"
        self._provider.tell(f"a delivery of {delivery.key[-4:]} in {delay + 0.05:g} s: {fate}")
        if not lost:
            self._provider.after(delay + 0.05, lambda: self._provider.receive(delivery))
        return delivery

    def _read_own(self, delivery: Delivery, *, damaged: bool) -> Answer:
        """Wait for the provider's own answer to a delivery."""
        until = self._provider.now + TIMEOUT_S
        while delivery.answer is None and self._provider.next_due() <= until:
            self._provider.go_to(self._provider.next_due())
        answer = delivery.answer
        if answer is None:
            self._provider.go_to(until)
            return self._told("send", NoReply(True, "no whole answer within 30 s", 0))
        self.pass_by(0.05)
        headers = self._headers()
        if answer.status < 300 or self._lengths.echoes_errors:
            headers |= {"idempotency-key": delivery.key, "original-request": "req_1"}
        if answer.replayed:
            headers["idempotent-replayed"] = "true"
        reply = Reply(answer.status, headers, json.dumps(answer.body).encode(), 0)
        if damaged:
            reply = self._damaged(reply)
        echoed = reply.headers.get("idempotency-key") == delivery.key
        if echoed and reply.status in (400, 404) and "param" in answer.body.get("error", {}):
            self.rejected.add(delivery.key)
        self.seen["own answers"] += not damaged
        self.seen["damaged answers"] += damaged
        return self._told("send", reply)

    def _damaged(self, reply: Reply) -> Reply:
        """The provider's answer, after something on its way has touched it."""
        dice, status, headers, body = self._dice, reply.status, dict(reply.headers), reply.body
        for _ in range(1 + dice.below(2)):
            match dice.below(9):
                case 0 | 1:
                    headers.pop("idempotency-key", None)
                case 2:
                    status = bodies.status_of_a_box(dice)
                case 3:
                    body = body[: dice.below(len(body) + 1)]
                case 4:
                    body = pick(dice, bodies.PAGE, b"", b"{}", b'{"error": "denied"}')
                case 5:
                    headers["idempotency-key"] = _another_key()
                case _:
                    self._decorate(headers)
        return Reply(status, headers, body, 0)

    def _of_a_box(self, key: str) -> Reply:
        dice = self._dice
        status = bodies.status_of_a_box(dice)
        kind, body = bodies.of_a_box(dice, self._provider, key, self.another(key))
        headers = self._headers()
        if dice.hits(0.2):
            headers["idempotency-key"] = pick(dice, _another_key(), "", key[:-1], f"{key}, {key}", key.upper())
        self._decorate(headers)
        self.seen[f"box: {kind}"] += 1
        self.seen[f"box: {status // 100}xx"] += 1
        return Reply(status, headers, body, 0)

    def _headers(self) -> dict[str, str]:
        date = formatdate(self._provider.now + self.date_skew, usegmt=True)
        return {"content-type": "application/json", "date": date, "request-id": f"req_{self.answers}"}

    def _decorate(self, headers: dict[str, str]) -> None:
        dice = self._dice
        match dice.below(10):
            case 0:
                headers["age"] = pick(dice, "0", "1", "86400", "x")
            case 1:
                headers.pop("date", None)
            case 2:
                ago = pick(dice, 60.0, 1000.0, 4 * HOUR, 30 * HOUR, -100.0, -2 * HOUR)
                headers["date"] = formatdate(self._provider.now - ago, usegmt=True)
            case 3:
                headers["retry-after"] = pick(dice, "0", "2", "29", "31", "86400", "-1", "soon")
            case 4:
                headers["stripe-should-retry"] = pick(dice, "true", "false", "maybe")
            case 5:
                headers["idempotent-replayed"] = "true"

    def another(self, key: str) -> Json:
        """The object of another payment: of another order, of another attempt, of another service, of nobody."""
        others = [payment for payment in self._provider.payments if payment.key not in (None, key)]
        if others and self._dice.hits(0.5):
            return intent(others[self._dice.below(len(others))])
        names = {
            "paycli_namespace": pick(self._dice, "default", "default", "shop-2"),
            "paycli_intent": "order_2",
            "paycli_attempt": "1",
            "paycli_key": _another_key(),
        }
        status = pick(self._dice, "succeeded", "succeeded", "requires_payment_method", "processing", "canceled")
        return {
            "id": "pi_another",
            "object": "payment_intent",
            "status": status,
            "created": int(self._provider.now) - 5,
            "amount": 2000,
            "amount_received": 2000 if status == "succeeded" else 0,
            "currency": "usd",
            "livemode": False,
            "metadata": pick(self._dice, names, names, {}),
            "customer": None,
            "latest_charge": "ch_another",
        }

    # --- questions and cancellations

    def _cancel(self, request: Request) -> Answer:
        """Nothing of its answer counts; that it may arrive late, twice or never does."""
        intent_id = request.path.split("/")[3]
        reaches = self.healed or self._dice.hits(0.8)
        delay = 0.0 if self.healed else pick(self._dice, 0.0, 0.0, 0.0, 600.0)
        if reaches:
            self._provider.after(delay, lambda: self._provider.cancel(intent_id))
        self.pass_by(0.1)
        return self._told(f"cancel {intent_id}", self._of_a_box(""))

    def _ask(self, request: Request) -> Answer:
        self.pass_by(0.1)
        path, _, query = request.path.partition("?")
        boxed = not self.healed and self._dice.hits(self._lengths.asked_box)
        if boxed:
            self.seen["questions answered by boxes"] += 1
            return self._told(path, self._boxed_question(path, query))
        status, body = self._honest(path, query)
        if path == ACCOUNT_PATH:
            self.checked_at = self._provider.now
        elif path in (INTENTS, CHARGES) and "starting_after" not in query:
            self.read_at.setdefault(path, self._provider.now)
        headers, text = self._headers(), json.dumps(body).encode()
        if status == 200:
            self._earlier[path] = (self._provider.now, headers, text)
        return self._told(path, Reply(status, headers, text, 0))

    def _honest(self, path: str, query: str) -> tuple[int, Json]:
        provider, account = self._provider, self._provider.account_of(self.credential)
        if path == ACCOUNT_PATH:
            if self.credential == BLIND:
                return 403, error("invalid_request_error")
            if self.credential == RESTRICTED:
                words = f"The provided key does not have access to account '{account}'."
                return 403, {"error": {"type": "invalid_request_error", "message": words}}
            return 200, {"id": account, "object": "account"}
        if path in (INTENTS, CHARGES):
            of_charges = path == CHARGES
            page, more = provider.listed(account, charges=of_charges, query=dict(parse_qsl(query)))
            data = [charge(one) if of_charges else intent(one) for one in page]
            return 200, {"object": "list", "url": path, "data": data, "has_more": more}
        found = [one for one in provider.payments if path.rpartition("/")[2] in (one.id, one.charge_id)]
        if not found or found[0].account != account:
            return 404, error("invalid_request_error", code="resource_missing", param="id")
        return 200, charge(found[0]) if path.startswith(CHARGES) else intent(found[0])

    def _boxed_question(self, path: str, query: str) -> Answer:  # noqa: PLR0911 - one box a line
        dice = self._dice
        headers = self._headers()
        status = bodies.status_of_a_box(dice)
        earlier = self._earlier.get(path)
        match dice.below(9):
            case 0:
                return NoReply(dice.hits(0.5), "the connection broke", 0)
            case 1:
                return Reply(pick(dice, 200, status), headers, bodies.PAGE, 0)
            case 2 | 3 | 4 if earlier is not None:
                at, kept, body = earlier
                age = self._provider.now - at
                if path == ACCOUNT_PATH and age < HIDDEN_AGE_S and self._lengths.date_skews == (0.0,):
                    return Reply(200, kept, body, 0)
                return Reply(200, {**kept, "age": str(max(1, int(age)))}, body, 0)
            case 4 | 7 if path in (INTENTS, CHARGES):
                wrong = CHARGES if path == INTENTS else INTENTS
                return Reply(200, headers, json.dumps(self._honest(wrong, query)[1]).encode(), 0)
            case 5:
                headers["idempotency-key"] = _another_key()
                return Reply(200, headers, json.dumps(self._honest(path, query)[1]).encode(), 0)
            case 6:
                kind = pick(dice, "invalid_request_error", "api_error", "card_error")
                self._decorate(headers)
                return Reply(pick(dice, 400, 401, 403, 404, status), headers, json.dumps(error(kind)).encode(), 0)
        return Reply(pick(dice, 200, status), headers, json.dumps({"data": [], "has_more": False}).encode(), 0)

    def _told(self, what: str, answer: Any) -> Answer:
        if isinstance(answer, Reply):
            few = {name: value for name, value in answer.headers.items() if name not in ("content-type", "request-id")}
            self._provider.tell(f"  {what} -> {answer.status} {few} {answer.body[:150]!r}")
        else:
            self._provider.tell(f"  {what} -> nothing (sent: {answer.sent}, {answer.reason})")
        return answer  # type: ignore[no-any-return]


def _another_key() -> str:
    return _ANOTHER


_ANOTHER = idempotency_key(
    provider="stripe",
    mode="test",
    account="acct_1Ours",
    namespace="default",
    operation="charge",
    intent_id="order_2",
    attempt=1,
)
