"""One call of a process, effect by effect: each effect is a moment at which something may go wrong.

A database effect is one step. A request is two: it arrives at the provider, and its answer arrives here; in between
anything else may happen. Time goes by at every step, so that calls that run at once take turns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from math import inf
from typing import TYPE_CHECKING, Any

from gateway_client.errors import ChargeOnceError, ClockRefused
from gateway_client.exchange import unaged
from gateway_client.flow.effects import (
    Ask,
    AskAll,
    BeginSend,
    Begun,
    Claim,
    DatabaseEffect,
    Effect,
    Flow,
    MeetProvider,
    Now,
    Send,
    T,
    Tell,
    Wait,
)
from gateway_client.flow.leasing import Lease
from gateway_client.flow.working import SLICE_S
from gateway_client.gateways.base import NoReply, Reply, Request
from reconcile.wrapping import wrapped
from tests.sim import provider, worker
from tests.sim.ghost import Sent
from tests.sim.hosts import Host, Process
from tests.sim.liveness import l5_asks_for_the_time
from tests.sim.network import Heard
from tests.sim.safety import Broken
from tests.sim.shift import Shift, l4_told_to_end, l4_waits_no_more
from tests.sim.transit import REQUEST_S, Transit

if TYPE_CHECKING:
    from tests.sim.world import World

COMMIT_S = 0.002
EFFECTS_MAX = 3000  # L4: no call goes on for ever
NAPS_MAX = 8  # the longest nap of a worker is a minute

Perform = Callable[[Effect[Any]], Any]


def one_by_one(flow: Flow[T]) -> Flow[T]:
    """A flow whose questions are asked one after the other, where a driver asks several at once."""

    def perform(effect: Effect[Any]) -> Flow[Any]:
        if not isinstance(effect, AskAll):
            return (yield from effect)
        replies = []
        for request in effect.requests:
            replies.append((yield from Ask(request)))
        return tuple(replies)

    return wrapped(flow, perform)


class Call:
    """One call under way."""

    def __init__(
        self,
        world: World,
        host: Host,
        process: Process,
        name: str,
        verb: str,
        flow: Generator[Any, Any, Any],
        perform: Perform,
        on_end: Callable[[Any], None],
        shift: Shift | None,
    ) -> None:
        self.world, self.host, self.process, self.name, self.verb = world, host, process, name, verb
        self._flow, self._perform, self._on_end = flow, perform, on_end
        self._counts: Counter[str] = Counter()
        self._over = False
        self.begun_at = world.now
        self.shift = shift  # of a worker
        self._naps = 0  # of a worker, since it last had something to do
        self._napping_since: float | None = None
        self.asked_at: float | None = None  # when the provider wrote the time that the next send goes by
        self.checked_at = -inf  # the true time of the last check of the time, of the send that is begun
        self.lied = False  # the last answer was another one's
        self.silent_s = 0.0  # for how long nothing was heard when it last did not ask whose key this is
        world.running[name] = self

    @property
    def alive(self) -> bool:
        return not self._over and self.process.alive

    def wish_its_end(self) -> None:
        """SIGTERM, for those that hear it."""
        if self.shift is not None:
            worker.tell_to_end(self.world, self.shift)

    def start(self) -> None:
        """Go to the first effect."""
        self._go(self._flow.send, None)

    def at_work(self, work: Callable[[], None]) -> None:
        """Now, or when the machine goes on."""
        left_s = self.host.clock.paused_until - self.world.now
        if left_s > 0:
            self.world.after(left_s, lambda: self.at_work(work))
        else:
            work()

    def _after(self, seconds: float, work: Callable[[], None]) -> None:
        self.world.after(seconds, lambda: self.at_work(work))

    def stop(self) -> None:
        """The task is cancelled, or its process has died: nothing of it runs any more."""
        self._over = True
        self.world.running.pop(self.name, None)
        self._flow.close()
        if self.shift is not None:
            self.shift.alive = False
            self.world.ghost.seen["a worker died with rows in hand"] += bool(self.shift.until)

    def _go(self, step: Callable[[Any], Any], value: object) -> None:
        if not self.alive:
            return
        try:
            effect = step(value)
        except StopIteration as end:
            self._end(end.value)
        except ChargeOnceError as error:
            self._end(error)
        else:
            self._meet(effect)

    def _end(self, result: object) -> None:
        self._over = True
        self.world.running.pop(self.name, None)
        self.world.trace(f"{self.name} ends: {type(result).__name__ if isinstance(result, Exception) else 'done'}")
        if isinstance(result, ChargeOnceError):
            self.world.ghost.ended(result)
        self._on_end(result)

    # --- one effect

    def _meet(self, effect: Effect[Any]) -> None:
        if sum(self._counts.values()) > EFFECTS_MAX:
            raise Broken("L4", f"{self.name} does not end")
        match effect:
            case Now():
                self._go(self._flow.send, self.process.perform(effect))
            case MeetProvider() if not effect.anew and not self.process.must_meet():
                self.silent_s = self.world.now - self.process.heard_at
                self._go(self._flow.send, self.process.perform(effect))
            case Tell():
                effect.listener(effect.what)
                self._go(self._flow.send, None)
            case Wait():
                seconds = self._slept(self.process._draw(effect))
                self._after(seconds, lambda: self._go(self._flow.send, seconds))
            case _:
                if self.shift is not None:
                    self._watch(self.shift, effect)
                self._decide(effect, self._request(effect))

    def _slept(self, seconds: float) -> float:
        """How long a wait takes. A worker with nothing to do sleeps longer and longer, and hears the later for it."""
        if self.shift is None:
            return seconds
        self.world.witness.hold(l4_waits_no_more, self.shift)
        if seconds == SLICE_S:
            seconds *= 2 ** min(self._naps, NAPS_MAX)
            self._naps += 1
        self._napping_since = self.world.now
        self.shift.slept_s += seconds
        return seconds

    def _watch(self, shift: Shift, effect: Effect[Any]) -> None:
        if isinstance(effect, BeginSend | Lease | Ask | MeetProvider):
            since = self.world.now if self._napping_since is None else self._napping_since
            self.world.witness.hold(l4_told_to_end, shift, type(effect).__name__, since)
        self._napping_since = None
        if shift.told_to_end_by == sum(self._counts.values()):
            worker.tell_to_end(self.world, shift)

    def _decide(self, effect: Effect[Any], request: Request | None) -> None:
        kind = type(effect).__name__
        self._counts[kind] += 1
        moment = f"{self.name} {kind} {self._counts[kind]}"
        if request is None:
            decided, seconds = self._paused(self.world.decide(moment, "commit"))
            self._after(COMMIT_S + seconds, lambda: self._commit(effect, decided))
        else:
            asks = "meet" if isinstance(effect, MeetProvider) else "get"
            decided, seconds = self._paused(self.world.decide(moment, "post" if request.method == "POST" else asks))
            how = self.world.decide_how(moment, decided, post=request.method == "POST")
            self._after(REQUEST_S / 2 + seconds, lambda: self._depart(effect, request, decided, how))

    def _paused(self, decided: str | None) -> tuple[str | None, float]:
        """A pause is only time that goes by; when the whole machine stands still, its clocks do not tell of it."""
        if decided is None or not decided.startswith(("pause ", "stands still for ")):
            return decided, 0.0
        seconds = float(decided.rpartition(" ")[2])
        if self.shift is not None:
            self.shift.slept_s += seconds
        if decided.startswith("pause "):
            return None, seconds
        self.world.stand_still(self.host, seconds)
        return None, 0.0

    def _request(self, effect: Effect[Any]) -> Request | None:
        match effect:
            case Send() | Ask():
                return effect.request
            case MeetProvider():
                return self.process.gateway.account_request()
        return None

    def _commit(self, effect: Effect[Any], decided: str | None) -> None:
        if not self.alive:
            return
        if decided == "die before":
            self.world.kill(self, f"before {self._named(effect, begins=not self.process.must_meet())}")
        elif decided == "cancel":
            self.stop()
        else:
            if decided in ("commit fails", "commit fails late") and isinstance(effect, DatabaseEffect):
                self.world.store.trouble = decided
            self._perform_it(effect, dies=decided == "die after")

    @staticmethod
    def _named(effect: Effect[Any], *, begins: bool) -> str:
        """What is told of an effect: a claim whose commit begins the first send, too, is another moment to die."""
        return "Claim and BeginSend" if isinstance(effect, Claim) and begins else type(effect).__name__

    def _perform_it(self, effect: Effect[Any], *, dies: bool = False) -> None:
        """Perform an effect, whose request (if any) is answered by now, and go on."""
        step: Callable[[Any], Any]
        try:
            result, step = self._perform(effect), self._flow.send
        except ChargeOnceError as error:
            result, step = error, self._flow.throw
            if isinstance(error, ClockRefused) and not self.host.clock.stood_still:
                self.world.witness.hold(l5_asks_for_the_time, self.name, self.silent_s)
        self.world.store.trouble = None
        if isinstance(result, Begun):
            asked_at, self.asked_at = self.asked_at, None
            asked = isinstance(effect, BeginSend) and effect.time_asked
            self.checked_at = asked_at if asked and asked_at is not None else self.world.now
        self.world.witness.observe(self, effect, result)
        if self.shift is not None and (isinstance(result, Begun) or (isinstance(effect, Lease) and result)):
            self._naps = 0
        if dies:
            self.world.kill(self, f"after {self._named(effect, begins=isinstance(result, Begun))}")
        else:
            self._go(step, result)

    # --- one request

    def _depart(self, effect: Effect[Any], request: Request, decided: str | None, how: str | None) -> None:
        if not self.alive:
            return
        paused = provider.too_old(effect.begun.age_s if isinstance(effect, Send) else unaged)
        if decided == "die before":
            self.world.kill(self, f"before {type(effect).__name__}")
        elif paused is not None:
            self.world.ghost.seen["paused before the first byte"] += 1
            self.answered(effect, paused, None, None)
        else:
            self._leave(effect, request, decided, how)

    def _leave(self, effect: Effect[Any], request: Request, decided: str | None, how: str | None) -> None:
        """The first byte leaves; what comes of it is the way's."""
        if self.world.down:
            decided, how = "unavailable_503", None
        if decided in ("die in flight", "cancel in flight"):
            Transit(self, effect, request, None, None).accident()
            if decided == "die in flight":
                self.world.kill(self, f"in {type(effect).__name__}")
            else:
                self.stop()
            return
        Transit(self, effect, request, decided, how).start()
        if decided is not None and decided.startswith("stands still after "):
            self.world.stand_still(self.host, float(decided.removeprefix("stands still after ")))

    def answered(self, effect: Effect[Any], reply: Reply | NoReply, sent: Sent | None, heard: Heard | None) -> None:
        """What its process is told. A machine that stands still reads it when it goes on."""
        self.at_work(lambda: self._answered(effect, reply, sent, heard))

    def _answered(self, effect: Effect[Any], reply: Reply | NoReply, sent: Sent | None, heard: Heard | None) -> None:
        if not self.alive:
            return
        self.process.last = heard or self.process.last
        if isinstance(reply, Reply):
            self.process.heard_at = self.world.now
        if isinstance(effect, MeetProvider):
            self.silent_s = 0.0
            tells = heard is not None and "age" not in heard.reply.headers  # else it says itself that it is an old one
            self.asked_at = heard.written_at if heard is not None and tells else None
        self.world.witness.answered(self, effect, reply, sent)
        self.process.fetched.reply = reply
        self._perform_it(effect)
        self.process.fetched.reply = None
