"""One request from arrival to answer: the API key, the faults, the idempotency layer, then the endpoint.

A request is split in two, `begin` and `finish`, because its key is in use in between. Nothing here waits, locks, does
I/O or knows the time: so the same model serves a transport, a port and a simulator. Locking and time: `sandbox.py`.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from typing import Protocol, assert_never

from gateway_client.sandbox.clock import Agenda
from gateway_client.sandbox.credentials import is_restricted
from gateway_client.sandbox.faults import FaultPlan
from gateway_client.sandbox.form import FIELDS_MAX, Pairs, Tree, fingerprint, nest, parse
from gateway_client.sandbox.intents import Intents
from gateway_client.sandbox.keys import KEY_CHARACTERS_MAX, Claim, Keys, Saved
from gateway_client.sandbox.names import name
from gateway_client.sandbox.objects import API_VERSION
from gateway_client.sandbox.provider import Operation, Provider
from gateway_client.sandbox.refusal import (
    Refusal,
    invalid,
    key_in_use,
    key_reused,
    rate_limited,
    server_error,
    unavailable,
)
from gateway_client.sandbox.wire import Answer, Cut, Json, Lost, Recorded, Reply, Request

BODY_BYTES_MAX = 1_000_000
"""Far more than 500 metadata fields need; a bound on what a client can make us read."""

SLOW_S = 1.0
LATE_S = 600.0
ROLL_FORWARD_S = 2 * 24 * 3600.0
"""A 500 has been seen to be rolled forward days later: longer than a key lives, shorter than the 72 h we wait."""

HTML_PAGE = b"<!doctype html><html><body><h1>Please log in to this network</h1></body></html>"


@dataclass
class Exchange:
    """One request between `begin` and `finish`."""

    request: Request
    fault: str | None
    identity: str
    """What its ids are derived from: the idempotency key, or for a request without one, everything it asks."""
    request_id: str
    pairs: Pairs | None
    """Its parameters; None when they are malformed."""
    record: int
    wait_s: float = 0.0
    """How long the caller waits before `finish`."""
    answer: Answer | None = None
    tree: Tree = field(default_factory=dict)
    operation: Operation | None = None


class Served(Protocol):
    """What a door to the outside needs: requests begin, and are finished after their wait."""

    def begin(self, request: Request) -> Exchange: ...
    def finish(self, exchange: Exchange) -> Answer: ...


class Model:
    """The provider. Not thread-safe: its owner holds a lock, and gives the time, which may stand still."""

    def __init__(self, *, seed: int, faults: Mapping[str, float], account: str) -> None:
        self._seed = seed
        self._arrivals: Counter[str] = Counter()
        self._executions: Counter[str] = Counter()
        self.agenda = Agenda()
        self.keys = Keys()
        self.ledger = Intents(seed, self.agenda)
        self.plan = FaultPlan(seed, faults)
        self.recorded: list[Recorded] = []
        self.revoked: set[str] = set()
        self.slow_s, self.late_s, self.roll_forward_s = SLOW_S, LATE_S, ROLL_FORWARD_S
        self._provider = Provider(account, self.ledger)

    def begin(self, request: Request, now: float) -> Exchange:
        """The request arrives: its fault is drawn and its key is taken, or its answer is known already."""
        exchange = self._arrive(request)
        match exchange.fault:
            case "refused":
                exchange.answer = Lost(refused=True)
            case "lost_request":
                exchange.answer = Lost()
            case "late":
                exchange.answer = Lost()
                if request.method == "POST":
                    again = replace(exchange, fault=None, answer=None)
                    self.agenda.at(now + self.late_s, lambda due: self._deliver(again, due))
            case _:
                self._admit(exchange, now)
        if exchange.fault == "slow":
            exchange.wait_s = self.slow_s
            # It executes even if nobody comes back to finish it, as it would behind a client that gave up.
            self.agenda.at(now + self.slow_s, lambda due: self._execute(exchange, due))
        return exchange

    def finish(self, exchange: Exchange, now: float) -> Answer:
        """Executes what is not executed yet, and answers. Asked again, it gives the same answer."""
        self._execute(exchange, now)
        answer = exchange.answer
        match answer:
            case None:
                raise AssertionError("executing an exchange gives it an answer")
            case Reply():
                self._note(exchange, status=answer.status)
            case Cut():
                self._note(exchange, status=answer.reply.status)
            case Lost():
                pass
            case _:
                assert_never(answer)
        return answer

    def _arrive(self, request: Request, fault: str | None = None) -> Exchange:
        """Writes the request down, with the fault that is given or else drawn."""
        identity = request.idempotency_key or f"{request.method} {request.target} {request.body!r}"
        self._arrivals[identity] += 1
        fault = fault or self.plan.draw(request, identity, self._arrivals[identity])
        pairs = parse(request.query, request.body)
        self.recorded.append(Recorded(request.method, request.path, pairs or (), request.idempotency_key, fault))
        request_id = name("req_", 14, self._seed, identity, self._arrivals[identity])
        return Exchange(request, fault, identity, request_id, pairs, len(self.recorded) - 1)

    def _deliver(self, exchange: Exchange, now: float) -> None:
        """A delivery whose answer nobody waits for."""
        self._admit(exchange, now)
        self._execute(exchange, now)

    def _admit(self, exchange: Exchange, now: float) -> None:
        """All that comes before execution. Afterwards either the answer is known, or the key is taken."""
        request = exchange.request
        key = request.idempotency_key
        try:
            restricted = is_restricted(request, self.revoked)
            self._refuse_at_the_door(exchange, now)
            if exchange.answer is not None:
                return
            exchange.tree = nest(_parameters(exchange))
            exchange.operation = self._provider.operation(request.method, request.path, restricted=restricted)
            if exchange.fault == "in_use_409":
                raise key_in_use(key or "")
            if key is not None:
                self._claim(exchange, key, now)
        except Refusal as refusal:
            self._answer(exchange, self._refused(exchange, refusal, now))

    def _refuse_at_the_door(self, exchange: Exchange, now: float) -> None:
        """Faults of what stands before the provider's own code."""
        match exchange.fault:
            case "unavailable_503":
                raise unavailable()
            case "rate_limited_429":
                raise rate_limited()
            case "redirect_302":
                elsewhere = (("Location", "https://elsewhere.invalid" + exchange.request.path),)
                exchange.answer = Reply(302, (*elsewhere, *_moment(now)), b"")

    def _claim(self, exchange: Exchange, key: str, now: float) -> None:
        if len(key) > KEY_CHARACTERS_MAX:
            raise invalid(f"The idempotency key is longer than {KEY_CHARACTERS_MAX} characters.")
        request = exchange.request
        match self.keys.claim(key, fingerprint(request.method, request.path, exchange.tree), now):
            case Claim.TAKEN:
                pass
            case Claim.IN_USE:
                raise key_in_use(key)
            case Claim.MISMATCH:
                raise key_reused(key)
            case Saved() as saved:
                mark = (("Idempotent-Replayed", "true"), ("Request-Id", exchange.request_id), *_moment(now))
                self._answer(exchange, replace(saved.reply, headers=(*saved.reply.headers, *mark)))

    def _execute(self, exchange: Exchange, now: float) -> None:
        """Performs an admitted request and saves its answer; does nothing when the answer is known."""
        if exchange.answer is not None:
            return
        key = exchange.request.idempotency_key
        try:
            reply, saved = self._ok(exchange, self._perform(exchange, now), now), True
        except Refusal as refusal:
            reply, saved = self._refused(exchange, refusal, now), refusal.saved
        if key is not None and saved:
            self.keys.save(key, Saved(_kept(reply)))
        elif key is not None:
            self.keys.release(key)
        self._answer(exchange, reply)
        if exchange.fault == "duplicate" and exchange.request.method == "POST":
            second = self._arrive(exchange.request, "duplicate")
            second.fault = None  # recorded as what it is, and not doubled again
            self._deliver(second, now)

    def _perform(self, exchange: Exchange, now: float) -> Json:
        assert exchange.operation is not None, "an exchange without an answer has been admitted"
        step = exchange.operation(exchange.tree)
        fault = exchange.fault if exchange.fault in ("error_500", "error_500_charged", "error_500_later") else None
        if exchange.request.method != "POST":
            if fault is not None:
                raise server_error()
            return step("", now)
        self._executions[exchange.identity] += 1
        origin = f"{exchange.identity}#{self._executions[exchange.identity]}"
        if fault == "error_500_later":
            self.agenda.at(now + self.roll_forward_s, lambda due: self._roll_forward(exchange, origin, due))
        if fault in ("error_500", "error_500_later"):
            raise server_error()
        self._note(exchange, executed=True)
        try:
            done = step(origin, now)
        except Refusal:
            if fault is None:
                raise
            raise server_error() from None
        if fault == "error_500_charged":
            raise server_error()
        return done

    def _roll_forward(self, exchange: Exchange, origin: str, now: float) -> None:
        """Does at last what a 500 left undone. Its saved answer stays as it is."""
        assert exchange.operation is not None
        try:
            step = exchange.operation(exchange.tree)  # again: the intent may have been cancelled since
            self._note(exchange, executed=True)
            step(origin, now)
        except Refusal:
            pass  # declined, or not possible any more; nobody waits for the answer

    def _note(self, exchange: Exchange, *, status: int | None = None, executed: bool = False) -> None:
        record = self.recorded[exchange.record]
        self.recorded[exchange.record] = replace(
            record, status=record.status if status is None else status, executed=record.executed or executed
        )

    def _answer(self, exchange: Exchange, reply: Reply) -> None:
        """What arrives of a reply, which the exchange's fault may damage on its way."""
        match exchange.fault:
            case "lost_reply":
                exchange.answer = Lost()
            case "cut_body":
                exchange.answer = Cut(reply, len(reply.body) // 2)
            case "html_body":
                exchange.answer = Reply(200, (("Content-Type", "text/html; charset=utf-8"),), HTML_PAGE)
            case "wrong_amount" if reply.status == 200:
                exchange.answer = replace(reply, body=_another_amount(reply.body))
            case _:
                exchange.answer = reply

    def _ok(self, exchange: Exchange, done: Json, now: float) -> Reply:
        return Reply(200, self._headers(exchange, {}, now), json.dumps(done).encode())

    def _refused(self, exchange: Exchange, refusal: Refusal, now: float) -> Reply:
        headers = self._headers(exchange, refusal.headers, now)
        return Reply(refusal.status, headers, json.dumps({"error": refusal.error}).encode())

    def _headers(self, exchange: Exchange, more: Mapping[str, str], now: float) -> tuple[tuple[str, str], ...]:
        headers = {
            "Content-Type": "application/json",
            "Stripe-Version": exchange.request.headers.get("stripe-version", API_VERSION),
            **more,
        }
        key = exchange.request.idempotency_key
        if key is not None:
            # Of a first answer, too: there it names the request itself.
            headers |= {"Idempotency-Key": key, "Original-Request": exchange.request_id}
        return (*headers.items(), ("Request-Id", exchange.request_id), *_moment(now))


def _parameters(exchange: Exchange) -> Pairs:
    request = exchange.request
    content_type = request.headers.get("content-type", "application/x-www-form-urlencoded")
    if request.body and not content_type.startswith("application/x-www-form-urlencoded"):
        raise invalid("Invalid request (check that your POST content type is application/x-www-form-urlencoded).")
    if len(request.body) > BODY_BYTES_MAX:
        raise invalid(f"Invalid request: the body is larger than {BODY_BYTES_MAX} bytes.")
    if exchange.pairs is None:
        raise invalid(f"Invalid request: the parameters are not a well-formed form of at most {FIELDS_MAX} fields.")
    return exchange.pairs


def _moment(now: float) -> tuple[tuple[str, str], ...]:
    """The provider's time, as RFC 7231 wants it."""
    return (("Date", formatdate(now, usegmt=True)),)


def _kept(reply: Reply) -> Reply:
    """The part of an answer that is the same in each replay: not its date, nor the id of the request it answered."""
    return replace(reply, headers=tuple(pair for pair in reply.headers if pair[0] not in ("Date", "Request-Id")))


def _another_amount(body: bytes) -> bytes:
    sent = json.loads(body)
    changed = {name: sent[name] + 1 for name in ("amount", "amount_received") if sent.get(name)}
    return json.dumps({**sent, **changed}).encode()
