"""States of the provider, by number: its ledger, its keys, and the sends that it is executing or that are on their way.

Each is made anew by letting a fresh sandbox have the same sends again: it is deterministic. Questions leave no trace.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from gateway_client.gateways.base import Gateway, NoReply, Reply, Request
from gateway_client.sandbox.keys import Saved
from gateway_client.sandbox.model import Exchange
from gateway_client.sandbox.wire import Lost
from tests.exhaust.actors import START_S
from tests.sim.provider import TIMEOUT_S, Provider, reply_of

BROKEN, TIMED_OUT = reply_of(Lost(), 0.0), reply_of(Lost(), TIMEOUT_S + 1)
SAME = {"request-id": "req_1", "original-request": "req_1"}
"""Ids of requests are written for people: they make no other state."""

Sent = tuple[str, str, str]
"""Key, body and API version of a send."""


DOUBLED = ("own_400", "own_429", "page_200", "page_403")
"""Answers that a send gets although another delivery of it is executed: the provider's own, or of a box between."""


@dataclass(frozen=True)
class Step:
    """What happens to a send: it arrives and meets a fault, it is executed, it is held up, it arrives after all."""

    what: str  # arrive, execute, hold, deliver
    request: Request
    fault: str | None = None
    ago_s: float = 0.0


@dataclass(frozen=True)
class Known:
    """One state of the provider."""

    steps: tuple[Step, ...]  # some that lead there
    charges: tuple[dict[str, Any], ...]
    executing: tuple[Request, ...]
    held: tuple[Request, ...]
    sent: frozenset[Sent]  # of every send that left, arrived or not
    cancelled: frozenset[str] = frozenset()  # the keys of intents that are


class Played:
    """A sandbox that has had some steps."""

    def __init__(self, gateway: Gateway, now_s: float = START_S) -> None:
        self._gateway = gateway
        self.now_s = now_s
        self.provider = Provider(lambda: self.now_s)
        self.executing: list[tuple[Step, Exchange]] = []
        self.held: list[Request] = []

    def take(self, step: Step) -> Reply | NoReply | None:
        """One step; the answer that there is by then."""
        if step.what == "hold":
            self.held.append(step.request)
            return BROKEN
        if step.what == "execute":
            number = next(at for at, (other, _) in enumerate(self.executing) if other.request == step.request)
            return self._reply(self.executing.pop(number)[1])
        if step.what == "deliver":
            self.held.remove(step.request)
        doubled = step.fault in DOUBLED  # its other delivery arrives like any other
        _, exchange = self.provider.begin(self._gateway, step.request, None if doubled else step.fault)
        if exchange.answer is None and step.request.method == "POST":
            self.executing.append((step, exchange))
            return None
        return self._reply(exchange)

    def answer(self, request: Request) -> Reply | NoReply:
        """A request and its answer, when nothing goes wrong."""
        reply = self.take(Step("arrive", request))
        return reply or self.take(Step("execute", request)) or BROKEN

    def _reply(self, exchange: Exchange) -> Reply | NoReply:
        reply = reply_of(self.provider.ours.finish(exchange), 0.0)
        if isinstance(reply, NoReply):
            return reply
        return replace(reply, headers={name: SAME.get(name, value) for name, value in reply.headers.items()})


class Ledger:
    """One provider, which goes from any state to any other."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.states: list[Known] = []
        self._numbers: dict[object, int] = {}
        self._done: dict[tuple[int, Step], tuple[int, Reply | NoReply | None]] = {}
        self.empty = self._number(Played(gateway), (), frozenset())

    def ask(self, number: int, request: Request, fault: str | None = None) -> tuple[int, Reply | NoReply]:
        """What a question is answered; a cancellation is executed at once."""
        after, reply = self.do(number, Step("arrive", request, fault))
        if reply is None:
            after, reply = self.do(after, Step("execute", request))
        assert reply is not None
        return after, reply

    def do(self, number: int, step: Step) -> tuple[int, Reply | NoReply | None]:
        """The state after a step, and the answer that there is by then."""
        found = self._done.get((number, step))
        if found is None:
            found = self._done[number, step] = self._do(number, step)
        return found

    def _do(self, number: int, step: Step) -> tuple[int, Reply | NoReply | None]:
        known = self.states[number]
        played = self.played(number)
        played.now_s = START_S - step.ago_s
        reply = played.take(step)
        if step.request.method == "GET":
            return number, reply
        sent = (step.request.idempotency_key or "", step.request.body or "", step.request.api_version or "")
        return self._number(played, (*known.steps, step), known.sent | {sent}), reply

    def played(self, number: int) -> Played:
        """A sandbox in this state."""
        steps = self.states[number].steps
        played = Played(self._gateway)
        for step in steps:
            played.now_s = START_S - step.ago_s
            played.take(step)
        played.now_s = START_S
        return played

    def _number(self, played: Played, steps: tuple[Step, ...], sent: frozenset[Sent]) -> int:
        model = played.provider.ours._model
        saved = [
            (key, entry.fingerprint, entry.first_at, _answer(entry.saved)) for key, entry in model.keys._entries.items()
        ]
        mark = (
            json.dumps([list(model.ledger.charges), list(model.ledger.intents)]),
            repr((saved, dict(model._executions), [step for step, _ in played.executing], played.held)),
            sent,
        )
        number = self._numbers.setdefault(mark, len(self.states))
        if number == len(self.states):
            executing = tuple(step.request for step, _ in played.executing)
            held, charges = tuple(played.held), tuple(model.ledger.charges)
            self.states.append(Known(steps, charges, executing, held, sent, cancelled(model.ledger.intents)))
        return number


def cancelled(intents: Iterable[dict[str, Any]]) -> frozenset[str]:
    """The keys of the intents that are cancelled."""
    return frozenset(one["metadata"]["paycli_key"] for one in intents if one["status"] == "canceled")


def _answer(saved: Saved | None) -> tuple[int, bytes] | None:
    return None if saved is None else (saved.reply.status, saved.reply.body)
