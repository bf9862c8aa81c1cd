"""The way of a request and of its answer: what is delivered when, and what its sender is told instead of its answer.

A request may be held for an hour, delivered twice, or stopped by a box that answers for the provider; an answer may be
late, another one's, or an older one. All of it on sends, cancellations, questions, lists and whose account it is.

Outside of the published model, and so not drawn here: a list's answer names no request but its list, so of one reading
of both lists at most one is another reading's (`Transit._instead`); an account's answer names none either, so
what comes instead of one is of the same account and at most a minute old, as a connection is kept, or carries `Age`; a
request is with the provider an hour after our last check of the time, or never (`Network.hold_s`); and the other
delivery of a send that was refused in so many words comes before the next attempt is asked for, or never, and meets no
500 that is mended later (DESIGN §6).
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import TYPE_CHECKING

from gateway_client.gateways.base import NoReply, Reply, Request
from tests.sim.decisions import Dice
from tests.sim.ghost import Sent
from tests.sim.provider import NOTHING_CAME

if TYPE_CHECKING:
    from tests.sim.hosts import Process

HOLD_S = 3600.0  # from our last check of the time until the provider has it
FIRST_BYTE_S = 10.0
KEPT_S = 60.0  # how long a connection is kept, and what is left on it
CACHED_S = 600.0
REMEMBERED = 64  # answers that may come again, or to somebody else

OTHERS = ("429", "429", "400", "account", "409", "500", "401", "nothing")
WHEN = ("first", "after", "late", "late")
LISTS = ("payment_intents", "charges")
BODIES = ("html", "html", "form", "form", "form", "form param", "json", "empty")
STATUSES = ("200", "200", "302", "400", "400", "401", "402", "403", "404", "409", "429", "500", "502", "503")
RARE_STATUSES = ("201", "204", "304", "407", "408", "413", "418", "422", "451", "501", "504", "511", "599")
INSIDE = ("error_500_later", "error_500_later", "error_500_charged", "error_500", "slow")
"""What a delivery may meet at the provider, while its sender is told something else."""

HTML = b"<!doctype html><html><body><h1>Access denied</h1></body></html>"
JSON = b'{"message": "Forbidden", "code": 1020}'
FOREIGN_KEY = "pc1_another"
WORDS: dict[str, tuple[int, dict[str, str]]] = {
    "429": (429, {"type": "invalid_request_error", "code": "rate_limit", "message": "Request rate limit exceeded."}),
    "400": (400, {"type": "invalid_request_error", "param": "payment_method", "message": "Invalid payment_method."}),
    "account": (400, {"type": "invalid_request_error", "message": "Your account cannot make live charges."}),
    "409": (409, {"type": "idempotency_error", "code": "idempotency_key_in_use", "message": "In use."}),
    "500": (500, {"type": "api_error", "message": "An unknown error occurred"}),
    "401": (401, {"type": "invalid_request_error", "message": "Invalid API Key provided."}),
}
"""What the provider itself says to the other delivery of a request."""
REFUSED = ("429", "400", "account", "401")


@dataclass(frozen=True, slots=True)
class Heard:
    """An answer that was given: to what kind of request, about what, and when it was written."""

    kind: str
    target: str
    account: str
    reply: Reply
    written_at: float


@dataclass(frozen=True, slots=True)
class Way:
    """Deliveries of one request (after how long, meeting what), and what its sender is told."""

    deliveries: tuple[tuple[float, str | None], ...] = ((0.0, None),)
    told: str = (
        "own"  # the answer to the last delivery; or "nothing", "other", "box", "exchanged", "leftover", "cached"
    )
    word: str = ""
    late_s: float = 0.0  # of the answer


def kind_of(request: Request) -> tuple[str, str]:
    """What a request is, and what it is about."""
    path, _, query = request.path.partition("?")
    name = path.rpartition("/")[2]
    if request.method == "POST":
        return ("send", request.idempotency_key or "") if name == "payment_intents" else ("cancel", path)
    if query:
        return name, query
    return ("account", "") if name == "account" else (path.split("/")[2], name)


def draw_how(dice: Dice, decided: str, *, post: bool) -> str | None:
    """The particulars of what was decided; None: as usual."""
    inside = f" {dice.one_of(INSIDE)}" if post and dice.hits(0.25) else ""
    match decided:
        case "held" | "held_500" | "hidden_500":
            return (inside.strip() or None) if decided == "held" else None
        case "doubled":
            return dice.one_of(("slow", "twice", *OTHERS, *OTHERS)) + f" {dice.one_of(WHEN)}{inside}"
        case "box":
            status = dice.one_of(STATUSES if dice.hits(0.85) else RARE_STATUSES)
            echo = "other" if dice.hits(0.15) else "-"
            when = dice.one_of(("before", "after", "after", "late"))
            return f"{dice.one_of(BODIES).replace(' ', '_')} {status} {echo} {when}{inside}"
        case "exchanged":
            return "any" if dice.hits(0.3) else None
        case "delayed":
            return dice.one_of(("5", "20", "29", "40"))
    return None


STRANGE = (
    "held",
    "held_500",
    "hidden_500",
    "doubled_500",
    "account_400",
    "forbidden",
    "late",
    "doubled",
    "box",
    "exchanged",
    "leftover",
    "cached",
    "delayed",
)
"""What happens on the way; everything else happens at the provider."""


def way_of(decided: str | None, how: str | None, hold_s: float) -> Way:  # noqa: PLR0911 - a table
    """The way of a request, from what was decided of it."""
    words = (how or "").split()
    match decided:
        case "held" | "late":
            return Way(((hold_s, words[0] if words else None),), "nothing")
        case "held_500":
            return Way(((hold_s, "error_500_later"),), "nothing")
        case "doubled_500":
            return _doubled("500", "late", "error_500_later", hold_s)
        case "account_400":
            return Way((), "other", "account")
        case "forbidden":
            return Way((), "box", "form 403 -")
        case "hidden_500":
            return Way(((0.0, "error_500_later"),), "box", "html 404 -")
        case "doubled":
            other, when, *inside = words or ("429", "after")
            return _doubled(other, when, inside[0] if inside else None, hold_s)
        case "box":
            body, status, echo, when, *inside = words or ("html", "403", "-", "after")
            return Way(_executed(when, inside[0] if inside else None, hold_s), "box", f"{body} {status} {echo}")
        case "exchanged":
            return Way(told="exchanged", word=how or "same")
        case "leftover":
            return Way(told="leftover")
        case "cached":
            return Way((), "cached")
        case "delayed":
            return Way(late_s=float(words[0] if words else 5.0))
    return Way(((0.0, decided),))


def _executed(when: str, inside: str | None, hold_s: float) -> tuple[tuple[float, str | None], ...]:
    return () if when == "before" else ((hold_s if when == "late" else 0.05 if when == "first" else 0.0, inside),)


def _doubled(other: str, when: str, inside: str | None, hold_s: float) -> Way:
    if other == "slow":  # the second one is told what comes of a key that is in use
        return Way(((0.0, "slow"), (0.05, None)))
    if other == "twice":
        return Way(((0.0, inside), (hold_s, None)), "nothing")
    return Way(_executed(when, inside, hold_s), "nothing" if other == "nothing" else "other", other)


class Network:
    """What the way of all requests has seen, and what comes instead of an answer."""

    def __init__(self, now: Callable[[], float], echoes: bool, date_skew_s: float) -> None:
        self._now = now
        self.echoes, self.date_skew_s = echoes, date_skew_s
        self._heard: deque[Heard] = deque(maxlen=REMEMBERED)

    def remember(self, request: Request, account: str, reply: Reply) -> Heard:
        """The provider has answered."""
        heard = Heard(*kind_of(request), account, reply, self._now())
        self._heard.append(heard)
        return heard

    def hold_s(self, sent: Sent | None, late_s: float) -> float:
        """How long a request is held: never longer than the model allows after the last check of the time."""
        if sent is None:
            return late_s
        return max(0.0, min(late_s, sent.checked_at + HOLD_S + FIRST_BYTE_S - self._now()))

    def instead(self, way: Way, request: Request, account: str, process: Process) -> Heard | None:
        """What is told instead of the answer; None when there is nothing of that kind: then the answer comes."""
        kind, target = kind_of(request)
        match way.told:
            case "other":
                return self._written(kind, target, account, self._word(way.word, request))
            case "box":
                return self._written(kind, target, account, self._of_box(way.word, request))
            case "leftover":
                last = process.last
                old = last is None or (kind == "account" and self._now() - last.written_at > KEPT_S)
                return None if old else last
            case "exchanged":
                return self._of_another(kind, target, account, any_kind=way.word == "any")
            case "cached" if request.method == "GET":
                return self._cached(kind, target, account)
        return None

    def _written(self, kind: str, target: str, account: str, reply: Reply) -> Heard:
        return Heard(kind, target, account, reply, self._now())

    def _of_another(self, kind: str, target: str, account: str, *, any_kind: bool) -> Heard | None:
        for heard in reversed(self._heard):
            if kind == "account" and (heard.account != account or self._now() - heard.written_at > KEPT_S):
                continue
            other = heard.kind != kind if any_kind else heard.kind == kind and heard.target != target
            if other or (heard.kind == kind == "account" and not any_kind):
                return heard
        return None

    def _cached(self, kind: str, target: str, account: str) -> Heard | None:
        """An older answer, which says how old it is."""
        alike = [one for one in self._heard if one.kind == kind and one.account == account and one.reply.status == 200]
        if kind not in LISTS:
            alike = [one for one in alike if one.target == target]
        if not alike:
            return None
        old = [one for one in alike if self._now() - one.written_at > CACHED_S]
        one = old[-1] if old else alike[0]
        age_s = max(1, int(self._now() - one.written_at))
        return replace(one, reply=replace(one.reply, headers={**one.reply.headers, "age": str(age_s)}))

    def _word(self, word: str, request: Request) -> Reply:
        status, error = WORDS[word]
        headers = {"content-type": "application/json", "request-id": "req_other", "date": self._date()}
        if self.echoes and request.idempotency_key is not None:
            headers["idempotency-key"] = request.idempotency_key
        return Reply(status, headers, json.dumps({"error": error}).encode(), 100)

    def _of_box(self, word: str, request: Request) -> Reply:
        body, status, echo = word.split()
        headers = {"date": self._date(), "content-type": "text/html" if body == "html" else "application/json"}
        if echo == "other":
            headers["idempotency-key"] = FOREIGN_KEY
        written = {"html": HTML, "json": JSON, "empty": b""}.get(body) or b""
        if body.startswith("form"):
            written = json.dumps({"error": _error(int(status), param=body == "form_param")}).encode()
        return Reply(int(status), headers, written, 100)

    def _date(self) -> str:
        return formatdate(self._now() + self.date_skew_s, usegmt=True)


def _error(status: int, *, param: bool) -> dict[str, str]:
    """An error in the provider's form, by somebody who has seen its documents."""
    error = {"type": "invalid_request_error", "message": "The request was refused."}
    match status:
        case 402:
            error |= {"type": "card_error", "code": "card_declined"}
        case 409:
            error |= {"type": "idempotency_error", "code": "idempotency_key_in_use"}
        case 429:
            error["code"] = "rate_limit"
        case _ if status >= 500:
            error["type"] = "api_error"
    return error | ({"param": "amount"} if param else {})


def lies(kind: str, instead: Heard) -> bool:
    """Whether a list's page of another reading would be believed: one of the same list, that no `Age` gives away."""
    reply = instead.reply
    return kind in LISTS and instead.kind == kind and reply.status == 200 and "age" not in reply.headers


def nothing(elapsed_ms: int = 100) -> NoReply:
    """No answer comes, and nobody knows why."""
    return replace(NOTHING_CAME, elapsed_ms=elapsed_ms)
