"""One request from arrival to answer: the API key, the faults, the idempotency layer, then the endpoint.

A request is split in two, `begin` and `finish`, because its key is in use in between. It may be delivered twice, and
each delivery has a fate of its own. Nothing here waits, locks, does I/O or knows the time: so the same model serves a
transport, a port and a simulator. Locking and time: `sandbox.py`. What becomes of an answer afterwards: `way_back.py`.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, assert_never

from gateway_client.sandbox.behaviour import Behaviour
from gateway_client.sandbox.books import AccountBooks, Books
from gateway_client.sandbox.clock import Agenda
from gateway_client.sandbox.credentials import credential
from gateway_client.sandbox.fault_plan import FaultPlan
from gateway_client.sandbox.faults import NO_FAULT, Delivery, Fault, take_apart
from gateway_client.sandbox.form import FIELDS_MAX, Pairs, Tree, fingerprint, nest, parse
from gateway_client.sandbox.keys import KEY_CHARACTERS_MAX, Claim, Keys, Saved
from gateway_client.sandbox.names import name
from gateway_client.sandbox.objects import API_VERSION
from gateway_client.sandbox.parameters import ONLY_WITH_CONFIRM
from gateway_client.sandbox.provider import Operation
from gateway_client.sandbox.refusal import (
    Refusal,
    account_may_not_charge,
    forbidden,
    invalid,
    key_in_use,
    key_reused,
    rate_limited,
    rejected,
    server_error,
    unauthorized,
    unavailable,
)
from gateway_client.sandbox.replies import kept, redirected, replayed, unechoed, written
from gateway_client.sandbox.way_back import WayBack
from gateway_client.sandbox.wire import Answer, Cut, Json, Lost, Recorded, Reply, Request

BODY_BYTES_MAX = 1_000_000
"""Far more than 500 metadata fields need; a bound on what a client can make us read."""


@dataclass
class Exchange:
    """One delivery of a request, between `begin` and `finish`."""

    request: Request
    fault: str | None
    identity: str
    """What its ids are derived from: the idempotency key, or for a request without one, everything it asks."""
    request_id: str
    pairs: Pairs | None
    """Its parameters; None when they are malformed."""
    record: int
    parts: Fault = NO_FAULT
    """The fault taken apart."""
    meets: Delivery = NO_FAULT.told
    """What this delivery meets."""
    wait_s: float = 0.0
    """How long the caller waits before `finish`."""
    answer: Answer | None = None
    """The provider's, once it is known; the way back is still before it."""
    arrived: Answer | None = None
    """What the client is given."""
    books: AccountBooks | None = None
    reached_keys: bool = False
    """Whether it came as far as the idempotency layer, whose answers echo the key."""
    tree: Tree = field(default_factory=dict)
    operation: Operation | None = None
    followed: bool = False
    """Whether a second delivery comes as soon as this one is answered."""


class Served(Protocol):
    """What a door to the outside needs: requests begin, and are finished after their wait."""

    def begin(self, request: Request) -> Exchange: ...
    def finish(self, exchange: Exchange) -> Answer: ...


class Model:
    """The provider. Not thread-safe: its owner holds a lock, and gives the time, which may stand still."""

    def __init__(self, *, seed: int, faults: Mapping[str, float], account: str, behaviour: Behaviour) -> None:
        self._seed = seed
        self._behaviour = behaviour
        self._arrivals: Counter[str] = Counter()
        self._executions: Counter[str] = Counter()
        self.agenda = Agenda()
        self.books = Books(account, seed, self.agenda, behaviour)
        self.keys, self.ledger = self.books.own.keys, self.books.own.ledger
        self.plan = FaultPlan(seed, faults)
        self.recorded: list[Recorded] = []
        self.revoked: set[str] = set()
        self._way_back = WayBack(behaviour)

    def begin(self, request: Request, now: float) -> Exchange:
        """The request arrives, once or twice: its fault is drawn and its key is taken, or its answer is known already.

        What is given back is the delivery whose answer the client is told.
        """
        exchange = self._arrive(request)
        if exchange.parts.other is not None and request.method == "POST":
            if self._behaviour.double_s > 0:
                self.agenda.at(now + self._behaviour.double_s, lambda due: self._deliver_again(exchange, due))
            elif exchange.parts.other_first:
                self._deliver_again(exchange, now)
            else:
                exchange.followed = True
        self._start(exchange, now)
        self._follow(exchange, now)
        return exchange

    def finish(self, exchange: Exchange, now: float) -> Answer:
        """Executes what is not executed yet, and gives what arrives. Asked again, it gives the same answer."""
        self._execute(exchange, now)
        if exchange.arrived is None:
            assert exchange.answer is not None, "executing an exchange gives it an answer"
            exchange.arrived = self._way_back.carry(
                exchange.request, exchange.identity, exchange.parts, exchange.answer
            )
        arrived = exchange.arrived
        match arrived:
            case Reply():
                self._note(exchange, status=arrived.status)
            case Cut():
                self._note(exchange, status=arrived.reply.status)
            case Lost():
                pass
            case _:
                assert_never(arrived)
        return arrived

    # --- deliveries

    def _arrive(self, request: Request, fault: str | None = None) -> Exchange:
        """Writes a delivery down, with the fault that is given or else drawn."""
        identity = request.idempotency_key or f"{request.method} {request.target} {request.body!r}"
        self._arrivals[identity] += 1
        fault = fault or self.plan.draw(request, identity, self._arrivals[identity])
        pairs = parse(request.query, request.body)
        self.recorded.append(Recorded(request.method, request.path, pairs or (), request.idempotency_key, fault))
        request_id = name("req_", 14, self._seed, identity, self._arrivals[identity])
        parts = NO_FAULT if fault is None else take_apart(fault)
        return Exchange(request, fault, identity, request_id, pairs, len(self.recorded) - 1, parts, parts.told)

    def _start(self, exchange: Exchange, now: float) -> None:
        """A delivery sets out; unless something happens on its way, it is admitted."""
        match exchange.meets.way:
            case "refused":
                exchange.answer = Lost(refused=True)
            case "lost_request" | "box_before":
                exchange.answer = Lost()
            case "late":
                exchange.answer = Lost()
                if exchange.request.method == "POST":
                    held = replace(exchange, meets=replace(exchange.meets, way=None), answer=None, followed=False)
                    self.agenda.at(now + self._behaviour.late_s, lambda due: self._deliver(held, due))
            case _:
                self._admit(exchange, now)
                if exchange.meets.slow:
                    exchange.wait_s = self._behaviour.slow_s
                    # It executes even if nobody comes back to finish it, as it would behind a client that gave up.
                    self.agenda.at(now + exchange.wait_s, lambda due: self._execute(exchange, due))

    def _deliver(self, exchange: Exchange, now: float) -> None:
        """A delivery whose answer nobody waits for."""
        self._start(exchange, now)
        if not exchange.wait_s:
            self._execute(exchange, now)

    def _deliver_again(self, first: Exchange, now: float) -> None:
        """The second delivery of the same bytes."""
        second = self._arrive(first.request, first.fault)
        assert first.parts.other is not None, "only a doubled request has a second delivery"
        second.meets = first.parts.other
        self._deliver(second, now)

    def _follow(self, exchange: Exchange, now: float) -> None:
        if exchange.followed and exchange.answer is not None:
            exchange.followed = False
            self._deliver_again(exchange, now)

    # --- admission

    def _admit(self, exchange: Exchange, now: float) -> None:
        """All that comes before execution. Afterwards either the answer is known, or the key is taken."""
        request, behaviour = exchange.request, self._behaviour
        try:
            allowed = credential(request, self.revoked, behaviour.other_account_keys)
            exchange.books = self.books.own if allowed.account_id is None else self.books.of(allowed.account_id)
            self._refuse_at_the_door(exchange, exchange.books, now)
            if exchange.answer is not None:
                return
            exchange.reached_keys = True
            exchange.tree = nest(_parameters(exchange))
            exchange.operation = exchange.books.provider.operation(
                request.method, request.path, restricted=allowed.restricted
            )
            self._refuse_inside(exchange)
            if request.idempotency_key is not None:
                self._claim(exchange, exchange.books.keys, request.idempotency_key, now)
        except Refusal as refusal:
            self._answer(exchange, self._refused(exchange, refusal, now))

    def _refuse_at_the_door(self, exchange: Exchange, books: AccountBooks, now: float) -> None:
        """Faults of what stands before the idempotency layer."""
        match exchange.meets.provider:
            case "unavailable_503":
                raise unavailable()
            case "rate_limited_429":
                raise rate_limited()
            case "unauthorized_401":
                raise unauthorized("Expired API Key provided: ****", code="api_key_expired")
            case "forbidden_403":
                named = books.account_id if self._behaviour.names_account else None
                raise forbidden("rak_payment_intent_write", named)
            case "redirect_302":
                exchange.answer = redirected(exchange.request.path, now)

    def _refuse_inside(self, exchange: Exchange) -> None:
        """Faults of the provider's own code, which leave the key as it is."""
        match exchange.meets.provider:
            case "in_use_409":
                raise key_in_use(exchange.request.idempotency_key or "")
            case "rejected_400":
                raise rejected(exchange.request.path)
            case "account_400":
                raise account_may_not_charge()
            case "error_500_unsaved":
                raise server_error(saved=False)

    def _claim(self, exchange: Exchange, keys: Keys, key: str, now: float) -> None:
        if len(key) > KEY_CHARACTERS_MAX:
            raise invalid(f"The idempotency key is longer than {KEY_CHARACTERS_MAX} characters.")
        request = exchange.request
        match keys.claim(key, fingerprint(request.method, request.path, exchange.tree), now):
            case Claim.TAKEN:
                pass
            case Claim.IN_USE:
                raise key_in_use(key)
            case Claim.MISMATCH:
                raise key_reused(key)
            case Saved() as saved:
                self._answer(exchange, replayed(saved.reply, exchange.request_id, now))

    # --- execution

    def _execute(self, exchange: Exchange, now: float) -> None:
        """Performs an admitted request and saves its answer; does nothing when the answer is known."""
        if exchange.answer is not None:
            return
        assert exchange.books is not None, "an exchange without an answer has been admitted"
        key = exchange.request.idempotency_key
        try:
            reply, saved = self._written(exchange, 200, self._perform(exchange, now), {}, now), True
        except Refusal as refusal:
            reply, saved = self._refused(exchange, refusal, now), refusal.saved
        if key is not None and saved:
            exchange.books.keys.save(key, Saved(kept(reply)))
        elif key is not None:
            exchange.books.keys.release(key)
        self._answer(exchange, reply)
        self._follow(exchange, now)

    def _perform(self, exchange: Exchange, now: float) -> Json:
        assert exchange.operation is not None, "an exchange without an answer has been admitted"
        request, fault = exchange.request, exchange.meets.provider
        if request.method == "POST" and self._behaviour.account_paused and not request.path.endswith("/cancel"):
            raise account_may_not_charge()
        uncharged = fault == "error_500_uncharged" and "confirm" in exchange.tree
        step = exchange.operation(_unconfirmed(exchange.tree) if uncharged else exchange.tree)
        if request.method != "POST":
            if fault is not None:
                raise server_error()
            return step("", now)
        self._executions[exchange.identity] += 1
        origin = f"{exchange.identity}#{self._executions[exchange.identity]}"
        if fault == "error_500_later":
            rolled_at = now + self._behaviour.roll_forward_s
            self.agenda.at(rolled_at, lambda due: self._roll_forward(exchange, origin, due))
        if fault in ("error_500", "error_500_later") or (fault == "error_500_uncharged" and not uncharged):
            raise server_error()
        self._note(exchange, executed=True)
        try:
            done = step(origin, now)
        except Refusal:
            if fault is None:
                raise
            raise server_error() from None
        if fault in ("error_500_charged", "error_500_uncharged"):
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

    # --- answers

    def _answer(self, exchange: Exchange, reply: Reply) -> None:
        error = reply.status >= 400
        exchange.answer = unechoed(reply) if error and not self._behaviour.echoes_errors else reply

    def _refused(self, exchange: Exchange, refusal: Refusal, now: float) -> Reply:
        return self._written(exchange, refusal.status, {"error": refusal.error}, refusal.headers, now)

    def _written(self, exchange: Exchange, status: int, body: Json, more: Mapping[str, str], now: float) -> Reply:
        request = exchange.request
        return written(
            status,
            body,
            version=request.headers.get("stripe-version", API_VERSION),
            request_id=exchange.request_id,
            key=request.idempotency_key if exchange.reached_keys else None,
            more=more,
            now=now,
        )


def _unconfirmed(tree: Tree) -> Tree:
    """The same request, as far as a provider has got that fails before it tries to charge."""
    return {name: value for name, value in tree.items() if name != "confirm" and name not in ONLY_WITH_CONFIRM}


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
