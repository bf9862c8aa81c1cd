"""One request under way: its deliveries, each at its time, and what comes back to its process."""

from __future__ import annotations

from dataclasses import replace
from email.utils import formatdate
from functools import partial
from typing import TYPE_CHECKING, Any

from gateway_client.flow.effects import Effect
from gateway_client.gateways.base import NoReply, Reply, Request
from gateway_client.sandbox import Sandbox
from gateway_client.sandbox.model import Exchange
from gateway_client.sandbox.wire import Lost
from tests.sim import network, provider
from tests.sim.ghost import Sent
from tests.sim.network import Heard, Way

if TYPE_CHECKING:
    from tests.sim.call import Call

REQUEST_S = 0.1


class Transit:
    """What becomes of one request."""

    def __init__(self, call: Call, effect: Effect[Any], request: Request, decided: str | None, how: str | None) -> None:
        self._call, self._effect, self._request, self._decided = call, effect, request, decided
        self._world = call.world
        self._account = self._world.provider.account_id(call.process.gateway)
        self._sent = self._world.witness.leave(call, effect, request)
        hold_s = self._world.network.hold_s(self._sent, self._world.provider.ours.late_s)
        self._way = self._within(network.way_of(decided, how, hold_s))
        self._kind = network.kind_of(request)[0]

    def start(self) -> None:
        """It has left."""
        way, last = self._way, len(self._way.deliveries) - 1
        instead = None if way.told in ("own", "nothing") else self._instead()
        own = way.told == "own" or (way.told != "nothing" and instead is None)
        if own and not way.deliveries:
            way, last = Way(), 0
        for number, (after_s, fault) in enumerate(way.deliveries):
            step = partial(self._deliver, fault, answers=own and number == last)
            if after_s:
                self._world.after(after_s, step)
                self._world.under_way_until = max(self._world.under_way_until, self._world.now + after_s)
            else:
                step()
        if instead is not None:
            self._world.after(REQUEST_S / 2 + way.late_s, partial(self._told, instead, lied=True))
        elif not own:
            self._world.after(REQUEST_S / 2, partial(self._nothing, network.nothing()))

    def accident(self) -> None:
        """It has left, and whoever made it is gone."""
        self._deliver(None, answers=False)

    def _within(self, way: Way) -> Way:
        """A send that was refused in so many words is answered: its other delivery meets no 500 that is mended later.

        Outside the model, as is one that comes after the reading (DESIGN §6): no list shows it before the next attempt.
        """
        if way.told != "other" or way.word not in network.REFUSED or not self._world.network.echoes:
            return way
        kept = tuple((after_s, None if fault == "error_500_later" else fault) for after_s, fault in way.deliveries)
        return replace(way, deliveries=kept)

    def _instead(self) -> Heard | None:
        """What is told instead of the answer. Of one reading of both lists at most one page is another reading's."""
        call, ghost = self._call, self._world.ghost
        found = self._world.network.instead(self._way, self._request, self._account, call.process)
        reading = ghost.readings.get(call.name)
        if found is not None and reading is not None and network.lies(self._kind, found):
            if reading.lied:
                return None
            reading.lied = True
            ghost.seen["a list told another reading's page"] += 1
        return found

    # --- deliveries

    def _deliver(self, fault: str | None, *, answers: bool) -> None:
        """The request is at the provider."""
        world, sent = self._world, self._sent
        if sent is not None and (why := self._outside(sent)) is not None:
            world.ghost.seen[f"outside the model: {why}"] += 1
            world.trace(f"{self._call.name} {self._kind} is not delivered: {why}")
            if answers:
                self._world.after(REQUEST_S / 2, partial(self._nothing, network.nothing()))
            return
        if sent is not None:
            self._see(sent)
        sandbox, exchange = world.provider.begin(self._call.process.gateway, self._request, fault)
        if sent is not None:
            sent.may_execute = exchange.answer != Lost(refused=True)
        if answers and self._way.late_s:  # executed and written now, and on its way for long
            self._come_late(*self._written(world.witness.finish(sandbox, exchange), self._way.late_s, fault))
            return
        elapsed_s = exchange.wait_s + REQUEST_S / 2
        if not answers or elapsed_s > provider.TIMEOUT_S:  # nobody waits for it, and it is executed all the same
            if exchange.wait_s:
                world.after(exchange.wait_s, partial(self._finish, sandbox, exchange, fault))
            else:
                self._finish(sandbox, exchange, fault)
        if answers and elapsed_s > provider.TIMEOUT_S:
            late = provider.reply_of(Lost(), elapsed_s)
            world.after(provider.TIMEOUT_S, partial(self._nothing, late))
        elif answers:
            world.after(elapsed_s, partial(self._answer, sandbox, exchange, fault, elapsed_s))

    def _see(self, sent: Sent) -> None:
        """Situations that a campaign must have reached."""
        world, again = (
            self._world,
            any(other.attempt == sent.attempt for other in self._world.ghost.sends if other is not sent),
        )
        held = world.now - sent.at > network.HOLD_S / 2
        first = world.ghost.first(sent.attempt)
        world.ghost.seen["a request was held for an hour, until its key was nearly pruned"] += (
            held and first is not None and world.now - first > 23 * network.HOLD_S
        )
        world.ghost.seen["both clocks stood still at a re-send"] += again and self._call.host.clock.stood_still

    def _outside(self, sent: Sent) -> str | None:
        """Why a delivery is outside the published model: then it never comes."""
        world, (intent_id, attempt) = self._world, sent.attempt
        if world.now > sent.checked_at + network.HOLD_S + network.FIRST_BYTE_S:
            return "more than an hour after our last check of the time"
        row = world.ghost.rows.get(sent.attempt)
        later = any(of == intent_id and number > attempt for of, number in world.ghost.asked)
        if row is not None and row.state == "rejected" and later and sent.refused:
            return "another delivery was refused, and the next attempt is asked for"
        return None

    def _finish(self, sandbox: Sandbox, exchange: Exchange, fault: str | None) -> Heard | None:
        """The provider answers, whoever hears of it."""
        return self._written(self._world.witness.finish(sandbox, exchange), 0.0, fault)[1]

    def _written(self, answer: Any, elapsed_s: float, fault: str | None) -> tuple[Reply | NoReply, Heard | None]:
        world = self._world
        reply = provider.reply_of(answer, elapsed_s, fault)
        if not isinstance(reply, Reply):
            return reply, None
        if world.network.date_skew_s and "date" in reply.headers:
            reply.headers["date"] = formatdate(world.now + world.network.date_skew_s, usegmt=True)
        if reply.status >= 400 and not world.network.echoes:
            reply.headers.pop("idempotency-key", None)
        return reply, world.network.remember(self._request, self._account, reply)

    # --- what comes back

    def _answer(self, sandbox: Sandbox, exchange: Exchange, fault: str | None, elapsed_s: float) -> None:
        reply, heard = self._written(self._world.witness.finish(sandbox, exchange), elapsed_s, fault)
        reply, lied = provider.told_wrong(reply, fault)
        if isinstance(reply, NoReply) or heard is None:
            self._nothing(reply)
        else:
            self._told(heard, lied=lied, reply=reply)

    def _come_late(self, reply: Reply | NoReply, heard: Heard | None) -> None:
        if isinstance(reply, NoReply) or heard is None:
            self._world.after(min(self._way.late_s, provider.TIMEOUT_S), partial(self._nothing, reply))
        else:
            self._world.after(self._way.late_s, partial(self._told, heard, lied=False))

    def _nothing(self, reply: Reply | NoReply) -> None:
        self._call.answered(self._effect, reply, self._sent, None)

    def _told(self, heard: Heard, *, lied: bool, reply: Reply | None = None) -> None:
        """An answer comes: its own, or another one, which lies when it does not name our key."""
        reply, sent = reply or heard.reply, self._sent
        if sent is not None:
            sent.lied = lied and (self._way.told == "own" or sent.key.encode() not in reply.body)
            sent.own_word = self._way.told == "other" or not lied
            sent.answered_at = heard.written_at
            sent.refused = sent.own_word and reply.status in (400, 401, 403, 404, 429)
            sent.rejected = sent.refused and reply.status in (400, 404) and b'"param"' in reply.body
        self._call.lied = lied
        if lied:
            self._world.ghost.clocks_right = False  # its `Date` may be an old one
        self._call.answered(self._effect, reply, sent, heard)
