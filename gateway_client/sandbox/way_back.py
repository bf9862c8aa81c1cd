"""What becomes of an answer on its way back: lost, cut, changed, replaced by a box's or by another request's.

What the provider answered is decided in `model.py`; here nothing is executed.
"""

import json
from collections import deque
from dataclasses import dataclass, replace

from gateway_client.sandbox.behaviour import Behaviour
from gateway_client.sandbox.boxes import BOX_ANSWERS
from gateway_client.sandbox.faults import Fault
from gateway_client.sandbox.wire import Answer, Cut, Lost, Reply, Request

HTML_PAGE = b"<!doctype html><html><body><h1>Please log in to this network</h1></body></html>"

PASSED_MAX = 64
"""So many answers are remembered, to be given instead of others: a bound, because a page of a list may be large."""


@dataclass(frozen=True)
class _Passed:
    """One answer of the provider's that passed."""

    line: str
    identity: str
    reply: Reply


class WayBack:
    """The way of every answer, with the latest that went it. Not thread-safe: its owner holds a lock."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._passed: deque[_Passed] = deque(maxlen=PASSED_MAX)

    def carry(self, request: Request, identity: str, fault: Fault, answer: Answer) -> Answer:
        """What arrives of the provider's answer. `identity` is what makes another request the very same."""
        line = f"{request.method} {request.path}"
        arrived = self._changed(line, identity, fault.back, answer)
        if isinstance(answer, Reply):
            self._passed.append(_Passed(line, identity, answer))
        if fault.connection is not None and isinstance(arrived, Reply):
            again_s = 0.0 if fault.connection == "leftover" else self._behaviour.leftover_s
            arrived = replace(arrived, again_s=again_s)
        return arrived

    def _changed(self, line: str, identity: str, back: str | None, answer: Answer) -> Answer:
        if back in ("repeat", "exchange", "stale"):
            return self._passed_before(line, identity, back) or answer
        if back == "box_after":
            return self._behaviour.box.reply()
        if back in BOX_ANSWERS:
            return BOX_ANSWERS[back][1].reply()
        return _damaged(back, answer)

    def _passed_before(self, line: str, identity: str, back: str) -> Reply | None:
        """An answer that passed before this one; None when there is none of this kind."""
        latest_first = reversed(self._passed)
        match back:
            case "repeat":
                found = (one.reply for one in latest_first if one.line == line)
            case "exchange":
                found = (one.reply for one in latest_first if (one.line, one.identity) != (line, identity))
            case _:
                found = (one.reply for one in self._passed if (one.line, one.identity) == (line, identity))
        return next(found, None)


def _damaged(back: str | None, answer: Answer) -> Answer:
    match back:
        case "lost_reply":
            return Lost()
        case "cut_body" if isinstance(answer, Reply):
            return Cut(answer, len(answer.body) // 2)
        case "html_body":
            return Reply(200, (("Content-Type", "text/html; charset=utf-8"),), HTML_PAGE)
        case "wrong_amount" if isinstance(answer, Reply) and answer.status == 200:
            return replace(answer, body=_another_amount(answer.body))
    return answer


def _another_amount(body: bytes) -> bytes:
    sent = json.loads(body)
    changed = {name: sent[name] + 1 for name in ("amount", "amount_received") if sent.get(name)}
    return json.dumps({**sent, **changed}).encode()
