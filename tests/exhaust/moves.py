"""Moves: what an actor, or the provider, may do next, faults included, worked out once for all states that have it.

A transaction is one move. A question is one: it changes nothing, so only the moment of its answer matters. A send is
two: it arrives at the provider, and it is executed there and answered. Nobody dies before a move: that is to die after
the one before it.
"""

from __future__ import annotations

import json
from email.utils import formatdate

from gateway_client.flow.effects import DatabaseEffect, MeetProvider, Send
from gateway_client.gateways.base import NoReply, Reply, Request
from tests.exhaust.actors import GONE, START_S, Cast, Move, Place, Program, Told
from tests.exhaust.checks import Checks
from tests.exhaust.contents import NOTHING, Contents
from tests.exhaust.ledger import DOUBLED, TIMED_OUT, Ledger, Step
from tests.exhaust.marks import value_of
from tests.sim.safety import Broken

NIGHTS = 1 << 16  # more than anything that a run keeps for itself is numbered
COMMITS = {"commit fails": "its commit fails", "commit fails late": "its commit is done, and raises"}
QUESTION_FAULTS = ("lost_reply", "unavailable_503")
SEND_FAULTS = (
    *DOUBLED,
    "refused",
    "lost_request",
    "lost_reply",
    "error_500",
    "error_500_charged",
    "error_500_uncharged",
    "in_use_409",
    "rate_limited_429",
    "unavailable_503",
)
"""By the sandbox's names. Besides, a send may be held up, and it may no longer be waited for."""


class Moves:
    """All moves, by place and by the state of what the next step touches."""

    def __init__(self, cast: Cast, contents: Contents, ledger: Ledger, checks: Checks) -> None:
        self._cast, self._contents, self._ledger, self._checks = cast, contents, ledger, checks
        self._introductions: dict[str, Told] = {}
        self._starts: set[int] = set()

    def start(self, program: Program) -> int:
        """Somebody is about to begin."""
        place = self._cast.start(program)
        self._starts.add(place.number)
        return place.number

    def of(self, place: Place, where: int) -> list[Move]:
        """What an actor may do next, in this state of what its step touches."""
        made = self._of_wire(place, where) if place.by_wire else self._of_disk(place, where)
        if place.number in self._starts:
            made.append(Move(1, where, GONE, 1, "never begins"))
        found = place.moves[where] = _merged(made)
        return found

    # --- the database

    def _of_disk(self, place: Place, where: int) -> list[Move]:
        assert isinstance(place.effect, DatabaseEffect)
        name = type(place.effect).__name__
        shared, night = divmod(where, NIGHTS) if place.program.run else (where, NOTHING)
        try:
            after, after_night, told = self._contents.perform(shared, night, place)
            self._checks.history(shared, after)
            if place.private:
                self._checks.private(place, shared, after, told)
        except Exception as error:
            return [Move(0, where, GONE, 1, name, _as_broken(error))]
        made = [self._committed(place, after, after_night, told, 0, name)]
        made.append(Move(1, _where(place, after, NOTHING), GONE, 1, f"{name}, and dies"))
        if told.raised or not place.effect.writes:
            return made
        for trouble, said in COMMITS.items():
            raised = self._contents.troubled(shared, night, place, trouble)
            there = (shared, night) if trouble == "commit fails" else (after, after_night)
            made.append(self._committed(place, *there, raised, 1, f"{name}: {said}"))
        return made

    def _committed(self, place: Place, shared: int, night: int, told: Told, faults: int, said: str) -> Move:
        move = self._on(place, _where(place, shared, night), told, faults, said, shared)
        return move if move.place != GONE else move._replace(where=_where(place, shared, NOTHING))

    def _on(self, place: Place, where: int, told: Told, faults: int, said: str, shared: int | None = None) -> Move:
        """The move to where an actor goes when it is told this."""
        try:
            to = self._cast.on(place, told)
            if to.over:
                self._checks.told(to.result, shared)
        except Exception as error:
            return Move(faults, where, GONE, 1, said, _as_broken(error))
        return Move(faults, where, GONE if to.over else to.number, 1, said)

    # --- the provider

    def _of_wire(self, place: Place, ledger: int) -> list[Move]:
        request = self._cast.request_of(place)
        if place.waits:
            return self._executed(place, ledger, request)
        if isinstance(place.effect, Send):
            return self._sent(place, ledger, request)
        made, path = [], request.path.partition("?")[0]
        for fault in (None, *QUESTION_FAULTS):
            after, reply = self._ledger.ask(ledger, request, fault)
            told = self._met(reply) if isinstance(place.effect, MeetProvider) else Told(reply)
            made.append(self._on(place, after, told, fault is not None, _named(f"{request.method} {path}", fault)))
        return made

    def _met(self, reply: Reply | NoReply) -> Told:
        text = repr(value_of(reply))
        if text not in self._introductions:
            self._introductions[text] = self._cast.met(reply)
        return self._introductions[text]

    def _sent(self, place: Place, ledger: int, request: Request) -> list[Move]:
        made = []
        for fault in (None, *SEND_FAULTS):
            after, reply = self._ledger.do(ledger, Step("arrive", request, fault))
            if fault in DOUBLED:
                reply = doubled(fault, request)
            if reply is not None:
                move = self._on(place, after, Told(reply), fault is not None, _named("a send is answered", fault))
            else:
                waiting = self._cast.waiting(place).number
                move = Move(fault is not None, after, waiting, 1, _named("a send arrives", fault))
            made.append(self._checked(move))
            if fault is None:
                made.append(self._checked(Move(1, after, GONE, 1, "a send arrives, and its process dies")))
        after, reply = self._ledger.do(ledger, Step("hold", request))
        said = "a send is held up: its connection breaks, it arrives later"
        made.append(self._checked(self._on(place, after, Told(reply), 1, said)))
        return made

    def _executed(self, place: Place, ledger: int, request: Request) -> list[Move]:
        """The provider has executed a send, or the process has waited for too long."""
        assert place.asked_from is not None
        after, reply = self._ledger.do(ledger, Step("execute", request))
        said = "the send is executed and answered"
        return [
            self._checked(self._on(place.asked_from, after, Told(reply), 0, said)),
            self._checked(Move(1, after, GONE, 1, "the send is executed, and its process dies")),
            self._on(place.asked_from, ledger, Told(TIMED_OUT), 1, "the send is not answered within its time"),
        ]

    def _checked(self, move: Move) -> Move:
        try:
            self._checks.ledger(move.where)
        except Broken as broken:
            return move._replace(broken=broken)
        return move

    def of_provider(self, ledger: int, actors: list[int]) -> list[Move]:
        """What the provider does for nobody: it executes what it was left with, and gets what was held up."""
        known = self._ledger.states[ledger]
        if not known.executing and not known.held:
            return []
        left = list(known.executing)
        for place in (self._cast.places[number] for number in actors):
            if place.waits:
                left.remove(self._cast.request_of(place))
        steps = [(Step("execute", request), "a send is executed that nobody waits for") for request in left]
        steps += [(Step("deliver", request), "a send that was held up arrives") for request in known.held[:1]]
        return [self._checked(Move(0, self._ledger.do(ledger, step)[0], GONE, 1, said)) for step, said in steps]


def doubled(fault: str, request: Request) -> Reply:
    """What one delivery of a send is answered while the other one is executed."""
    error = {"type": "invalid_request_error", "message": "no", **({"param": "x"} if fault == "own_400" else {})}
    body = json.dumps({"error": error}) if fault.startswith("own_") else "<html>a page</html>"
    headers = {"date": formatdate(START_S, usegmt=True)}
    if fault == "own_400":
        headers["idempotency-key"] = request.idempotency_key or ""
    return Reply(int(fault[-3:]), headers, body.encode(), 0)


def _where(place: Place, shared: int, night: int) -> int:
    """Contents as an actor's moves name them: only the nightly run knows what it keeps for itself."""
    return shared * NIGHTS + night if place.program.run else shared


def _named(what: str, fault: str | None) -> str:
    return what if fault is None else f"{what}: {fault}"


def _as_broken(error: Exception) -> Broken:
    """A bug that raises something else than a check is named by what it raises."""
    return error if isinstance(error, Broken) else Broken(type(error).__name__, str(error))


def _merged(moves: list[Move]) -> list[Move]:
    """By faults. Those that come to the same are one move; one that comes to what happens without it is none."""
    found: dict[tuple[int, int, str], Move] = {}
    for move in moves:
        key = (move.where, move.place, str(move.broken))
        first = found.get(key)
        if first is None:
            found[key] = move
        elif first.faults == move.faults:
            found[key] = first._replace(ways=first.ways + 1)
    return sorted(found.values(), key=lambda move: move.faults)
