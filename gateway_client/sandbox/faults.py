"""The faults by name, how they are joined, and what a joined one comes to for each delivery of a request.

A fault is one part, or parts of different kinds joined by `+`: `late+slow+error_500_later+page_200_html`. Which request
gets which fault is decided in `fault_plan.py`; what the parts do is told in `model.py` and `way_back.py`.
"""

import enum
from dataclasses import dataclass
from functools import cache

from gateway_client.sandbox.boxes import BOX_ANSWERS


class FaultKind(enum.StrEnum):
    """Where in the life of a request a part happens, in order. A fault has at most one part of each kind."""

    WAY = "on its way"
    TIME = "execution time"
    PROVIDER = "provider"
    DELIVERY = "second delivery"
    BACK = "on the way back"
    CONNECTION = "connection"


_WAY, _TIME, _PROVIDER, _DELIVERY, _BACK, _CONNECTION = FaultKind

_PARTS: tuple[tuple[str, FaultKind, str], ...] = (
    ("refused", _WAY, "the connection is refused before anything is read (on a port: reset); not executed"),
    ("lost_request", _WAY, "the request arrives, is never executed, and the connection breaks"),
    ("lost_reply", _BACK, "executed and saved, but the answer never arrives"),
    ("error_500", _PROVIDER, "a saved 500 and nothing charged, now or ever"),
    ("error_500_charged", _PROVIDER, "a saved 500, although it charged"),
    (
        "error_500_later",
        _PROVIDER,
        "a saved 500; the charge appears after roll_forward_s (2 days) on the sandbox's clock",
    ),
    ("error_500_uncharged", _PROVIDER, "a saved 500 that left the intent there, uncharged and not confirmed"),
    ("unavailable_503", _PROVIDER, "a 503, neither executed nor saved"),
    ("in_use_409", _PROVIDER, "a 409 idempotency_key_in_use, neither executed nor saved"),
    ("rate_limited_429", _PROVIDER, "a 429 before the idempotency layer, neither executed nor saved"),
    ("slow", _TIME, "executes for slow_s (1 s) with its key in use, then answers"),
    ("cut_body", _BACK, "executed and saved; the answer's body breaks off in the middle"),
    ("html_body", _BACK, "executed and saved; a 200 with an HTML page arrives instead of the answer"),
    ("duplicate", _DELIVERY, "delivered twice; the second delivery is answered from the first one's saved answer"),
    (
        "late",
        _WAY,
        "the connection breaks now; the request is executed after late_s (600 s) on the sandbox's clock",
    ),
    ("wrong_amount", _BACK, "executed and saved rightly, but the answer that arrives names another amount"),
    ("redirect_302", _PROVIDER, "a redirect to another address, neither executed nor saved"),
    ("rejected_400", _PROVIDER, "a 400 that names a parameter, neither executed nor saved"),
    ("account_400", _PROVIDER, "a 400 that names no parameter: the account may not charge; neither executed nor saved"),
    ("unauthorized_401", _PROVIDER, "a 401 before the idempotency layer, neither executed nor saved"),
    ("forbidden_403", _PROVIDER, "the provider's 403 before the idempotency layer, neither executed nor saved"),
    ("error_500_unsaved", _PROVIDER, "a 500 before anything was executed; not saved, its key stays free"),
    ("double_400", _DELIVERY, "delivered twice: one is executed, the client is told the other one's rejected_400"),
    ("double_401", _DELIVERY, "delivered twice: one is executed, the client is told the other one's unauthorized_401"),
    ("double_409", _DELIVERY, "delivered twice: one is executed, the client is told the other one's in_use_409"),
    ("double_429", _DELIVERY, "delivered twice: one is executed, the client is told the other one's rate_limited_429"),
    ("double_500", _DELIVERY, "delivered twice: one is executed, the client is told the other one's error_500_unsaved"),
    ("double_slow", _DELIVERY, "delivered twice: one is executed, the client waits slow_s (1 s) for the other one"),
    ("box_before", _WAY, "a box between answers with sandbox.box; the request never reaches the provider"),
    ("box_after", _BACK, "executed and saved; a box between replaces the answer by sandbox.box"),
    *((name, _BACK, f"executed and saved; replaced by {words}") for name, (words, _) in BOX_ANSWERS.items()),
    ("repeat", _BACK, "executed and saved; the answer to the previous request of the same method and path arrives"),
    ("exchange", _BACK, "executed and saved; the latest answer to another request, of any path, arrives"),
    ("stale", _BACK, "executed and saved; the oldest answer to the very same request arrives, with its old Date"),
    ("leftover", _CONNECTION, "on a port the answer is written twice, in one segment"),
    ("leftover_late", _CONNECTION, "on a port the answer is written again after leftover_s (0.05 s of real time)"),
)

FAULTS: dict[str, str] = {name: meaning for name, _, meaning in _PARTS}
"""Name -> what happens. On a GET nothing is executed or saved, so a fault shows only what the client would see."""

FAULT_KINDS: dict[str, FaultKind] = {name: kind for name, kind, _ in _PARTS}

NOT_REACHED = ("refused", "lost_request", "box_before")
"""Ways on which a delivery never comes to the provider."""


@dataclass(frozen=True)
class Delivery:
    """What one delivery of a request meets until it is answered."""

    way: str | None = None
    slow: bool = False
    provider: str | None = None


@dataclass(frozen=True)
class Fault:
    """A fault taken apart: what each delivery meets, and what arrives of the answer that the client is told."""

    told: Delivery = Delivery()
    """The delivery whose answer the client gets."""
    other: Delivery | None = None
    """The second delivery of the same bytes, whose answer nobody gets; None when there is only one."""
    other_first: bool = False
    """Whether the other delivery comes first when both come at the same time."""
    back: str | None = None
    connection: str | None = None


NO_FAULT = Fault()

_TOLD_OF_A_DOUBLE = {
    "double_400": Delivery(provider="rejected_400"),
    "double_401": Delivery(provider="unauthorized_401"),
    "double_409": Delivery(provider="in_use_409"),
    "double_429": Delivery(provider="rate_limited_429"),
    "double_500": Delivery(provider="error_500_unsaved"),
    "double_slow": Delivery(slow=True),
}


@cache
def take_apart(name: str) -> Fault:
    """The fault of this name. ValueError: no part is called so, or parts that cannot happen together."""
    parts: dict[FaultKind, str] = {}
    for part in name.split("+"):
        if part not in FAULTS:
            raise ValueError(f"no fault is called {part!r}; there are {', '.join(FAULTS)}")
        kind = FAULT_KINDS[part]
        if kind in parts:
            raise ValueError(f"{parts[kind]} and {part} cannot be joined: a fault has one part of a kind ({kind})")
        parts[kind] = part
    way, slow, provider = parts.get(_WAY), parts.get(_TIME), parts.get(_PROVIDER)
    if way == "refused" and len(parts) > 1:
        raise ValueError("refused cannot be joined: nothing was sent, so nothing else can happen")
    if way in NOT_REACHED and (slow or provider):
        raise ValueError(f"{way} and {slow or provider} cannot be joined: the request never reaches the provider")
    main = Delivery(way, slow is not None, provider)
    back, connection, double = parts.get(_BACK), parts.get(_CONNECTION), parts.get(_DELIVERY)
    if double in _TOLD_OF_A_DOUBLE:
        return Fault(_TOLD_OF_A_DOUBLE[double], main, True, back, connection)
    if way == "box_before":
        back = back or "box_after"
    return Fault(main, None if double is None else Delivery(), False, back, connection)
